//! The one error type: what was tried, on which object, why it failed, what to do next.

use std::borrow::Cow;
use std::{fmt, io};

use crate::errno::Errno;
use crate::holder::Holder;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a cluster, pool, image, snapshot or device failed.
///
/// Branch on [`kind`](Error::kind) or the predicates; print it for people. The text names the operation, the object, the
/// reason and what to do next, followed by the lines that librbd logged about this call, where they could be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Context>);

/// The kind of thing an operation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ObjectKind {
    Cluster,
    Monitor,
    Pool,
    DataPool,
    Namespace,
    Image,
    Snapshot,
    Group,
    GroupSnapshot,
    TrashedImage,
    Lock,
    MirrorPeer,
    MetadataKey,
    ConfigOption,
    User,
    Object,
    Device,
    File,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something is not there: `what` says which kind of thing, so that a missing snapshot is not taken for a missing image.
    NotFound {
        /// The kind of the missing thing.
        what: ObjectKind,
    },
    /// It exists already.
    Exists,
    /// It is in use. `holders` are those that could be found out; empty where none could.
    Busy {
        /// Who keeps it busy.
        holders: Vec<Holder>,
    },
    /// The image has snapshots, which must be removed first.
    HasSnapshots,
    /// The image or snapshot has clones, which must be removed or flattened first.
    HasClones,
    /// The image was opened read-only, at a snapshot, or is not the primary of a mirrored pair.
    ReadOnly,
    /// The cluster refused this user: wrong key, or capabilities that do not suffice.
    PermissionDenied,
    /// This client was fenced off by the cluster. Nothing on this connection will work again: connect anew.
    Blocklisted,
    /// No answer came within the time set for it.
    TimedOut,
    /// A quota or a limit is reached, or the cluster is full.
    QuotaExceeded,
    /// The range does not lie within the image.
    OutOfRange {
        /// Start of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// Size of the image in bytes.
        size: u64,
    },
    /// A compare-and-write found other data.
    Mismatch {
        /// The image's first byte that differs, as an offset into the image.
        offset: u64,
    },
    /// The loaded library is too old for this: it lacks the symbol.
    Unsupported {
        /// The missing C function.
        symbol: &'static str,
        /// The first Ceph release that has it.
        needs: &'static str,
        /// The version of the library that is loaded.
        found: String,
    },
    /// The request is not valid; it was refused before anything was touched.
    InvalidInput,
    /// A progress or iteration callback asked to stop.
    Stopped,
    /// The other side is there but does not do this (a feature that is off, a kernel without the module …).
    NotSupported,
    /// Any other reason: see [`Error::errno`].
    Other,
}

/// A kind of object and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    pub(crate) name: String,
}

#[derive(Debug)]
struct Context {
    operation: Cow<'static, str>,
    object: Object,
    kind: ErrorKind,
    errno: Option<Errno>,
    detail: Option<Cow<'static, str>>,
    log: Vec<String>,
}

impl Object {
    pub(crate) fn new(kind: ObjectKind, name: impl Into<String>) -> Object {
        Object { kind, name: name.into() }
    }
}

impl Error {
    /// A failure that the library reported as an errno; its kind follows from the number and the object.
    pub(crate) fn new(operation: impl Into<Cow<'static, str>>, object: Object, errno: Errno) -> Error {
        let kind = ErrorKind::from_errno(errno, object.kind);
        Error(Box::new(Context {
            operation: operation.into(),
            object,
            kind,
            errno: Some(errno),
            detail: None,
            log: Vec::new(),
        }))
    }

    /// A request that we refuse ourselves, before anything is touched.
    pub(crate) fn invalid(
        operation: impl Into<Cow<'static, str>>,
        object: Object,
        detail: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::new(operation, object, Errno::EINVAL).with_kind(ErrorKind::InvalidInput).with_detail(detail)
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    /// Says the reason in words of our own instead of the kind's.
    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Error {
        self.0.detail = Some(detail.into());
        self
    }

    pub(crate) fn with_log(mut self, log: Vec<String>) -> Error {
        self.0.log = log;
        self
    }

    /// What went wrong, for programs to branch on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// What was being done: `"create"`, `"open"`, `"read 4096 bytes at offset 0 of"` …
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The kind of object it was done to.
    pub fn object_kind(&self) -> ObjectKind {
        self.0.object.kind
    }

    /// The name of that object: `rbd/ns/foo@snap` for a snapshot, `rbd` for a pool, `/dev/rbd0` for a device.
    pub fn object_name(&self) -> &str {
        &self.0.object.name
    }

    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// The lines that librbd and librados logged while this call failed. Ceph gives many of its reasons nowhere else.
    ///
    /// Lines of other calls that failed in the same moment on the same connection may be among them. Empty where the
    /// configuration sends the client's log elsewhere (`log_file`, `log_to_stderr`).
    pub fn log(&self) -> &[String] {
        &self.0.log
    }

    /// Something is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ErrorKind::NotFound { .. })
    }

    /// It exists already.
    pub fn is_exists(&self) -> bool {
        self.0.kind == ErrorKind::Exists
    }

    /// It is in use.
    pub fn is_busy(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Busy { .. })
    }

    /// The cluster refused this user.
    pub fn is_permission_denied(&self) -> bool {
        self.0.kind == ErrorKind::PermissionDenied
    }

    /// No answer in time.
    pub fn is_timed_out(&self) -> bool {
        self.0.kind == ErrorKind::TimedOut
    }

    /// This client is fenced off.
    pub fn is_blocklisted(&self) -> bool {
        self.0.kind == ErrorKind::Blocklisted
    }

    /// Opened read-only, at a snapshot, or not primary.
    pub fn is_read_only(&self) -> bool {
        self.0.kind == ErrorKind::ReadOnly
    }

    /// The loaded library lacks a function.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unsupported { .. })
    }
}

impl ErrorKind {
    fn from_errno(errno: Errno, object: ObjectKind) -> ErrorKind {
        match errno {
            Errno::ENOENT => ErrorKind::NotFound { what: object },
            Errno::EEXIST => ErrorKind::Exists,
            Errno::EBUSY => ErrorKind::Busy { holders: Vec::new() },
            Errno::ENOTEMPTY => ErrorKind::HasSnapshots,
            Errno::EROFS => ErrorKind::ReadOnly,
            Errno::EPERM | Errno::EACCES => ErrorKind::PermissionDenied,
            Errno::ESHUTDOWN => ErrorKind::Blocklisted,
            Errno::ETIMEDOUT => ErrorKind::TimedOut,
            Errno::EDQUOT | Errno::ENOSPC => ErrorKind::QuotaExceeded,
            Errno::ECANCELED => ErrorKind::Stopped,
            Errno::EOPNOTSUPP | Errno::ENOSYS => ErrorKind::NotSupported,
            _ => ErrorKind::Other,
        }
    }

    /// The reason in words, and what to do next.
    fn explain(&self, errno: Option<Errno>) -> (Cow<'static, str>, &'static str) {
        match self {
            ErrorKind::NotFound { what } => (
                format!("the {what} does not exist").into(),
                "check the name, and the pool and namespace it was looked for in",
            ),
            ErrorKind::Exists => {
                ("it exists already".into(), "choose another name, or use the one that is there")
            }
            ErrorKind::Busy { holders } if holders.is_empty() => (
                "it is in use".into(),
                "close, unmap or unlock it where it is in use; a crashed client is let go after 30 s",
            ),
            ErrorKind::Busy { holders } => {
                let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
                (
                    format!("it is in use: {}", names.join("; ")).into(),
                    "end that use; a crashed client is let go after 30 s",
                )
            }
            ErrorKind::HasSnapshots => ("it has snapshots".into(), "remove its snapshots first"),
            ErrorKind::HasClones => ("it has clones".into(), "flatten or remove its clones first"),
            ErrorKind::ReadOnly => (
                "it is read-only".into(),
                "open it for writing, at no snapshot; a mirrored image must be primary",
            ),
            ErrorKind::PermissionDenied => (
                "the cluster refused this user".into(),
                "check the user's key and its capabilities (mon 'profile rbd', osd 'profile rbd pool=…')",
            ),
            ErrorKind::Blocklisted => (
                "this client has been fenced off (blocklisted)".into(),
                "drop this Cluster with everything opened from it and connect anew",
            ),
            ErrorKind::TimedOut => (
                "no answer came in time".into(),
                "check that monitors and OSDs are up and reachable; the timeouts are set when connecting",
            ),
            ErrorKind::QuotaExceeded => (
                "a quota or limit is reached, or the cluster is full".into(),
                "free space or raise the limit",
            ),
            ErrorKind::OutOfRange { offset, len, size } => (
                format!("{len} bytes at offset {offset} do not lie within the image of {size} bytes").into(),
                "resize the image or shorten the range",
            ),
            ErrorKind::Mismatch { offset } => (
                format!("the image holds other data from offset {offset} on").into(),
                "read again and decide anew",
            ),
            ErrorKind::Unsupported { symbol, needs, found } => (
                format!("the loaded Ceph library {found} has no {symbol}, which came with {needs}").into(),
                "upgrade the Ceph client packages of this machine",
            ),
            ErrorKind::InvalidInput => ("the request is not valid".into(), ""),
            ErrorKind::Stopped => ("the callback asked to stop".into(), ""),
            ErrorKind::NotSupported => ("that is not supported here".into(), ""),
            ErrorKind::Other => {
                (errno.map_or_else(|| "unknown reason".to_owned(), Errno::sentence).into(), "")
            }
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.operation, self.object)?;
        let (reason, advice) = self.kind.explain(self.errno);
        match &self.detail {
            Some(detail) => f.write_str(detail)?,
            None => f.write_str(&reason)?,
        }
        if let (Some(errno), true) = (self.errno, self.kind != ErrorKind::InvalidInput) {
            write!(f, " ({errno})")?;
        }
        if self.detail.is_none() && !advice.is_empty() {
            write!(f, "; {advice}")?;
        }
        for line in &self.log {
            write!(f, "\n  ceph: {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "the {}", self.kind)
        } else {
            write!(f, "{} '{}'", self.kind, self.name)
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Cluster => "cluster",
            ObjectKind::Monitor => "monitor",
            ObjectKind::Pool => "pool",
            ObjectKind::DataPool => "data pool",
            ObjectKind::Namespace => "namespace",
            ObjectKind::Image => "image",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Group => "group",
            ObjectKind::GroupSnapshot => "group snapshot",
            ObjectKind::TrashedImage => "trashed image",
            ObjectKind::Lock => "lock",
            ObjectKind::MirrorPeer => "mirror peer",
            ObjectKind::MetadataKey => "metadata key",
            ObjectKind::ConfigOption => "configuration option",
            ObjectKind::User => "user",
            ObjectKind::Object => "object",
            ObjectKind::Device => "device",
            ObjectKind::File => "file",
        })
    }
}

/// Keeps the whole error as the inner one; [`Errno::of`] gets the OS error back out of it.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.errno(), error.kind()) {
            (_, ErrorKind::Stopped) => io::ErrorKind::Other,
            (_, ErrorKind::Unsupported { .. }) | (None, _) => io::ErrorKind::Unsupported,
            (_, ErrorKind::InvalidInput | ErrorKind::OutOfRange { .. }) => io::ErrorKind::InvalidInput,
            (Some(errno), _) => io::Error::from_raw_os_error(errno.code()).kind(),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_operation_object_reason_and_advice() {
        let error = Error::new("create", Object::new(ObjectKind::Image, "rbd/foo"), Errno::EEXIST)
            .with_log(vec!["librbd: rbd image foo already exists".into()]);
        assert_eq!(
            error.to_string(),
            "cannot create image 'rbd/foo': it exists already (EEXIST 17); choose another name, or use the one that is \
             there\n  ceph: librbd: rbd image foo already exists"
        );
        assert!(error.is_exists());
    }

    #[test]
    fn a_missing_snapshot_is_not_a_missing_image() {
        let error = Error::new("open", Object::new(ObjectKind::Snapshot, "rbd/foo@s"), Errno::ENOENT);
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Snapshot });
    }

    #[test]
    fn io_error_keeps_the_os_error_and_the_text() {
        let error = Error::new("read", Object::new(ObjectKind::Image, "rbd/foo"), Errno::ENOENT);
        let text = error.to_string();
        let io: io::Error = error.into();
        assert_eq!(io.kind(), io::ErrorKind::NotFound);
        assert_eq!(Errno::of(&io), Some(Errno::ENOENT));
        assert_eq!(io.to_string(), text);
    }
}
