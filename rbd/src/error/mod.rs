//! Describes failures with one error type: the operation, the object, the reason and what to do
//! next.
//!
//! ```no_run
//! use rbd::ErrorKind;
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! match pool.remove("foo").run() {
//!     Err(error) if error.is_not_found() => println!("removed before"),
//!     Err(error) => match error.kind() {
//!         ErrorKind::Busy { holders } => println!("in use by {holders:?}"),
//!         _ => return Err(error),
//!     },
//!     Ok(()) => {}
//! }
//! # Ok::<(), rbd::Error>(())
//! ```

mod buffer;
mod deleted;
mod given_up;
pub(crate) mod keys;
mod kind;
mod object;

use std::borrow::Cow;
use std::{fmt, io};

use crate::errno::Errno;

pub use crate::holder::Holder;
pub(crate) use given_up::{ADVICE, goes_on};
pub use kind::ErrorKind;
pub use object::ObjectKind;

pub(crate) use object::Object;

/// The result of all fallible calls in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The failure of an operation on a cluster, pool, image, snapshot or device.
///
/// Branch on [`kind`](Error::kind) or the predicates, and print the error for people. `{}` prints
/// one line for a log: the operation, the object, the reason and what to do next. `{:#}` adds what
/// librbd [logged](Error::log) about the call, one line each, prefixed with `ceph: `. `{:?}` prints
/// the same as `{:#}`, for a `main` that returns the error. `{:#?}` shows the error's fields.
pub struct Error(Box<Context>);

#[derive(Debug)]
struct Context {
    operation: Cow<'static, str>,
    object: Object,
    kind: ErrorKind,
    errno: Option<Errno>,
    detail: Option<Cow<'static, str>>,
    log: Vec<String>,
    buffer: buffer::Carried,
}

impl Error {
    /// Makes an error from an errno of the library. The errno and the object determine the kind.
    pub(crate) fn new(operation: impl Into<Cow<'static, str>>, object: Object, errno: Errno) -> Error {
        let kind = ErrorKind::from_errno(errno, object.kind);
        Error(Box::new(Context {
            operation: operation.into(),
            object,
            kind,
            errno: Some(errno),
            detail: None,
            log: Vec::new(),
            buffer: buffer::Carried::default(),
        }))
    }

    /// Makes an error for a request that this crate refuses before anything is touched.
    pub(crate) fn invalid(
        operation: impl Into<Cow<'static, str>>,
        object: Object,
        detail: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::new(operation, object, Errno::EINVAL).with_kind(ErrorKind::InvalidInput).with_detail(detail)
    }

    /// Makes an error for an answer of the cluster that this crate cannot use.
    pub(crate) fn bad_answer(operation: &'static str, object: Object, detail: &str) -> Error {
        Error::new(operation, object, Errno::EBADMSG).with_detail(detail.to_owned())
    }

    /// Makes an error for a function that the loaded library `found` lacks.
    pub(crate) fn unsupported(
        operation: impl Into<Cow<'static, str>>,
        object: Object,
        symbol: &'static str,
        needs: &'static str,
        found: String,
    ) -> Error {
        Error(Box::new(Context {
            operation: operation.into(),
            object,
            kind: ErrorKind::LibraryTooOld { symbol, needs, found },
            errno: None,
            detail: None,
            log: Vec::new(),
            buffer: buffer::Carried::default(),
        }))
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    /// Replaces the kind's reason with a more precise one.
    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Error {
        let detail = detail.into();
        self.0.detail = Some(match keys::without_keys(&detail) {
            Cow::Owned(hidden) => hidden.into(),
            Cow::Borrowed(_) => detail,
        });
        self
    }

    /// Appends a consequence to the reason.
    pub(crate) fn and(mut self, more: &str) -> Error {
        let (reason, _) = self.0.kind.explain(self.0.errno, self.0.object.kind);
        let why = self.0.detail.take().unwrap_or(reason);
        self.0.detail = Some(format!("{why}; {more}").into());
        self
    }

    /// Names the part of the object that the reason is about.
    pub(crate) fn of_part(mut self, part: &str) -> Error {
        let (reason, advice) = self.0.kind.explain(self.0.errno, self.0.object.kind);
        let next = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        let why = self.0.detail.take().unwrap_or_else(|| format!("{reason}{next}").into());
        self.0.detail = Some(format!("{part}: {why}").into());
        self
    }

    pub(crate) fn with_log(mut self, log: Vec<String>) -> Error {
        self.0.log = log.into_iter().map(|line| keys::without_keys(&line).into_owned()).collect();
        self
    }

    /// Returns the reason, for programs to branch on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns the operation: `"create"`, `"open"`, `"read 4096 bytes at offset 0 of"` …
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// Returns the kind of the object.
    pub fn object_kind(&self) -> ObjectKind {
        self.0.object.kind
    }

    /// Returns the name of the object: `rbd/ns/foo@snap` for a snapshot, `rbd` for a pool,
    /// `/dev/rbd0` for a device.
    pub fn object_name(&self) -> &str {
        &self.0.object.name
    }

    /// Returns the system's error number, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }

    /// Returns the lines that librbd and librados logged during the failed call. Ceph states many
    /// reasons only there.
    ///
    /// May include lines of other calls that failed at the same time on the same connection. Empty
    /// if the configuration sends the client's log elsewhere (`log_file`, `log_to_stderr`).
    pub fn log(&self) -> &[String] {
        &self.0.log
    }

    /// Returns whether an object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ErrorKind::NotFound { .. })
    }

    /// Returns whether the object already exists.
    pub fn is_already_exists(&self) -> bool {
        self.0.kind == ErrorKind::AlreadyExists
    }

    /// Returns whether the object is in use.
    pub fn is_busy(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Busy { .. })
    }

    /// Returns whether permission was denied.
    pub fn is_permission_denied(&self) -> bool {
        self.0.kind == ErrorKind::PermissionDenied
    }

    /// Returns whether the call timed out.
    pub fn is_timed_out(&self) -> bool {
        self.0.kind == ErrorKind::TimedOut
    }

    /// Returns whether the cluster fenced this client.
    pub fn is_blocklisted(&self) -> bool {
        self.0.kind == ErrorKind::Blocklisted
    }

    /// Returns whether the handle has lost the exclusive lock that it had acquired.
    pub fn is_lock_lost(&self) -> bool {
        self.0.kind == ErrorKind::LockLost
    }

    /// Returns whether the image was opened read-only or at a snapshot, or is not primary.
    pub fn is_read_only(&self) -> bool {
        self.0.kind == ErrorKind::ReadOnly
    }

    /// Returns whether the image, or its pool or namespace, is not mirrored.
    pub fn is_mirroring_disabled(&self) -> bool {
        self.0.kind == ErrorKind::MirroringDisabled
    }

    /// Returns whether a queue had no room: [`wait`](crate::Queue::wait) and
    /// [`reap`](crate::Queue::reap) first.
    pub fn is_queue_full(&self) -> bool {
        self.0.kind == ErrorKind::QueueFull
    }

    /// Returns whether the loaded library is too old: it lacks a function.
    pub fn is_library_too_old(&self) -> bool {
        matches!(self.0.kind, ErrorKind::LibraryTooOld { .. })
    }
}

impl std::error::Error for Error {}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() { self.0.fmt(f) } else { write!(f, "{self:#}") }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and messages from Ceph may contain line breaks.
        f.write_str(&self.0.line().replace(['\n', '\r'], " "))?;
        if f.alternate() {
            self.0.log.iter().try_for_each(|line| write!(f, "\nceph: {line}"))?;
        }
        Ok(())
    }
}

impl Context {
    fn line(&self) -> String {
        let (reason, advice) = self.kind.explain(self.errno, self.object.kind);
        let why = self.detail.as_ref().unwrap_or(&reason);
        let mut line = format!("cannot {} {}: {why}", self.operation, self.object);
        // Uses Ceph's message if only the errno is known.
        if let (ErrorKind::Other, None, Some(log)) = (&self.kind, &self.detail, self.log.first()) {
            line = format!("{line}: {log}");
        }
        if let (Some(errno), true) = (self.errno, !self.kind.is_refusal()) {
            line = format!("{line} ({errno})");
        }
        if self.detail.is_none() && !advice.is_empty() {
            line += "; ";
            line += advice;
        }
        line
    }
}

/// Wraps the whole error; [`Errno::from_io_error`] extracts the OS error from it.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.errno(), error.kind()) {
            (_, ErrorKind::Stopped) => io::ErrorKind::Other,
            (_, ErrorKind::LibraryTooOld { .. }) | (None, _) => io::ErrorKind::Unsupported,
            (
                _,
                ErrorKind::InvalidInput | ErrorKind::FeaturesImmutable { .. } | ErrorKind::OutOfRange { .. },
            ) => io::ErrorKind::InvalidInput,
            (Some(errno), _) => io::Error::from_raw_os_error(errno.code()).kind(),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_operation_object_reason_and_advice_in_one_line() {
        let error = Error::new("create", Object::new(ObjectKind::Image, "rbd/foo"), Errno::EEXIST)
            .with_log(vec!["librbd: rbd image foo already exists".into()]);
        let line = "cannot create image 'rbd/foo': it already exists (EEXIST 17); choose another \
                    name, or use the existing one";
        assert_eq!(error.to_string(), line);
        assert!(error.is_already_exists());
        let whole = format!("{line}\nceph: librbd: rbd image foo already exists");
        assert_eq!([format!("{error:#}"), format!("{error:?}")], [whole.clone(), whole.clone()]);
        assert!(format!("{error:#?}").contains("kind: AlreadyExists"));
        assert_eq!(format!("{:#}", io::Error::from(error)), whole, "the inner error is given the flag");
        let error =
            Error::new("open", Object::new(ObjectKind::Image, "a\nb"), Errno::EIO).with_detail("c\nd");
        assert_eq!(error.to_string(), "cannot open image 'a b': c d (EIO 5)");
    }

    #[test]
    fn no_cluster_is_blamed_for_a_file_of_this_machine() {
        let text = |kind| Error::new("read", Object::new(kind, "x"), Errno::EACCES).to_string();
        assert!(text(ObjectKind::Pool).contains("the cluster refused this user"));
        for kind in [ObjectKind::File, ObjectKind::Device] {
            assert!(
                !text(kind).contains("cluster") && text(kind).contains("Permission denied"),
                "{}",
                text(kind)
            );
        }
    }

    #[test]
    fn a_detail_follows_either_reason() {
        let error = Error::new("map", Object::new(ObjectKind::Image, "a"), Errno::EIO);
        assert!(error.and("and b").to_string().ends_with("Input/output error; and b (EIO 5)"));
        let error = Error::new("map", Object::new(ObjectKind::Image, "a"), Errno::EIO).with_detail("why");
        assert_eq!(error.and("and b").to_string(), "cannot map image 'a': why; and b (EIO 5)");
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
        assert_eq!(Errno::from_io_error(&io), Some(Errno::ENOENT));
        assert_eq!(io.to_string(), text);
    }

    /// Each error is of one kind, and says what it was about.
    #[test]
    fn one_predicate_holds_for_each_kind() {
        let error = |errno| Error::new("open", Object::new(ObjectKind::Image, "rbd/foo"), errno);
        let old = ErrorKind::LibraryTooOld { symbol: "a", needs: "b", found: "1.2".to_owned() };
        let errors = [
            error(Errno::ENOENT),
            error(Errno::EEXIST),
            error(Errno::EBUSY),
            error(Errno::EPERM),
            error(Errno::ETIMEDOUT),
            error(Errno::ESHUTDOWN),
            error(Errno::ENOLCK),
            error(Errno::EROFS),
            error(Errno::EIO).with_kind(ErrorKind::MirroringDisabled),
            error(Errno::ENOSYS).with_kind(old),
            error(Errno::EAGAIN).with_kind(ErrorKind::QueueFull),
            error(Errno::EIO),
        ];
        for (at, error) in errors.iter().enumerate() {
            let holds = [
                error.is_not_found(),
                error.is_already_exists(),
                error.is_busy(),
                error.is_permission_denied(),
                error.is_timed_out(),
                error.is_blocklisted(),
                error.is_lock_lost(),
                error.is_read_only(),
                error.is_mirroring_disabled(),
                error.is_library_too_old(),
                error.is_queue_full(),
            ];
            let expected: Vec<bool> = (0..holds.len()).map(|other| other == at).collect();
            assert_eq!(holds[..], expected, "{error}");
        }
        let error = error(Errno::EIO).with_log(vec!["a line".into()]);
        assert_eq!((error.operation(), error.object_name(), error.log().len()), ("open", "rbd/foo", 1));
        assert_eq!(error.log()[0], "a line");
    }

    #[test]
    fn advice_follows_only_the_reason_that_it_belongs_to() {
        let error = |errno| Error::new("open", Object::new(ObjectKind::Image, "a"), errno);
        let detailed = error(Errno::EEXIST).with_detail("why");
        assert_eq!(detailed.to_string(), "cannot open image 'a': why (EEXIST 17)");
        assert_eq!(error(Errno::EIO).to_string(), "cannot open image 'a': Input/output error (EIO 5)");
    }
}
