//! Errors as statuses of gRPC.

use rbd::ErrorKind;
use tonic::{Code, Status};

/// Returns the status of an error of the cluster or the kernel. The text names the object, the
/// reason and the next step, and holds no key.
pub fn of(error: &rbd::Error) -> Status {
    Status::new(code(error.kind()), error.to_string())
}

/// Returns the status of an error of a file system.
pub fn of_volume(error: &rbd_volume::Error) -> Status {
    use rbd_volume::Error;
    let code = match error {
        Error::Option { .. } => Code::InvalidArgument,
        Error::Unmount { source, .. } if source.kind() == std::io::ErrorKind::ResourceBusy => {
            Code::FailedPrecondition
        }
        // Repeating the request would not help.
        Error::Empty { .. }
        | Error::NoFileSystem { .. }
        | Error::OtherFileSystem { .. }
        | Error::Check { .. } => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    Status::new(code, error.to_string())
}

fn code(kind: &ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound { .. } => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Busy { .. }
        | ErrorKind::HasSnapshots
        | ErrorKind::HasClones
        | ErrorKind::ReadOnly
        | ErrorKind::LockLost
        | ErrorKind::FeaturesUnsupportedByKernel { .. }
        | ErrorKind::FeaturesImmutable { .. }
        | ErrorKind::MirroringDisabled => Code::FailedPrecondition,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        // The next request makes a new connection.
        ErrorKind::Blocklisted | ErrorKind::TimedOut => Code::Unavailable,
        ErrorKind::QuotaExceeded | ErrorKind::QueueFull => Code::ResourceExhausted,
        ErrorKind::OutOfRange { .. } => Code::OutOfRange,
        ErrorKind::InvalidInput => Code::InvalidArgument,
        ErrorKind::Stopped => Code::Cancelled,
        ErrorKind::NotSupported | ErrorKind::LibraryTooOld { .. } => Code::Unimplemented,
        _ => Code::Internal,
    }
}

/// Lets `?` turn errors into statuses.
pub trait OrStatus<T> {
    /// Returns the value, or the status of the error.
    fn or_status(self) -> Result<T, Status>;
}

impl<T> OrStatus<T> for rbd::Result<T> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(|error| of(&error))
    }
}

impl<T> OrStatus<T> for rbd_volume::Result<T> {
    fn or_status(self) -> Result<T, Status> {
        self.map_err(|error| of_volume(&error))
    }
}
