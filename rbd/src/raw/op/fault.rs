//! Why a request to an image failed.

use crate::errno::Errno;
use crate::raw::ffi::late::Failure;
use crate::raw::op::answer::Cause;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// librbd returned an error, or the loaded library lacks a function.
    Failed(Failure),
    /// The image has this size, and the range exceeds it.
    Cut(u64),
    /// The cluster explained librbd's error.
    Caused(Errno, Cause),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault::Failed(errno.into())
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Failed(failure)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Failed(failure) => failure.fmt(f),
            Fault::Cut(size) => write!(f, "the image has {size} bytes"),
            Fault::Caused(_, Cause::Kept(holder)) => write!(f, "it is in use: {holder}"),
            Fault::Caused(_, Cause::LeftLock) => {
                f.write_str("a request that timed out left the exclusive lock")
            }
            Fault::Caused(_, Cause::Released) => f.write_str("the handle does not have the exclusive lock"),
            Fault::Caused(_, Cause::PoolDeleted { id, .. }) => write!(f, "the pool {id} was deleted"),
        }
    }
}
