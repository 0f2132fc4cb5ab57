//! Error numbers of the operating system, as Ceph reports them.

use std::fmt;
use std::io;

/// An errno, stored as a positive number. Ceph's libraries return it negated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(i32);

macro_rules! known {
    ($($name:ident)*) => {
        /// The numbers that Ceph reports often.
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(libc::$name);)*
        }

        fn symbol(code: i32) -> Option<&'static str> {
            match code {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

known! {
    EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR
    EINVAL ENFILE EMFILE ENOTTY EFBIG ENOSPC EMLINK EROFS EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ENODATA EOVERFLOW
    EILSEQ EOPNOTSUPP ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED EHOSTUNREACH ESTALE EDQUOT ECANCELED ENOKEY EKEYREJECTED
    EKEYEXPIRED EBADMSG EPROTO EPIPE ECONNRESET ECONNABORTED ENETUNREACH EALREADY EINPROGRESS
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

impl Errno {
    /// Creates an errno from a number of either sign: C functions return `-EINVAL`, people write
    /// `EINVAL`.
    pub const fn new(code: i32) -> Errno {
        Errno(code.saturating_abs())
    }

    /// Returns the positive number, as in `errno.h`.
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Returns the name, such as `"ENOENT"`; `None` for a number that this crate has no name for.
    pub fn name(self) -> Option<&'static str> {
        symbol(self.0)
    }

    /// Returns the errno inside an [`io::Error`], which may be an OS error or a wrapped
    /// [`crate::Error`].
    ///
    /// ```
    /// # use rbd::Errno;
    /// let bare = std::io::Error::from_raw_os_error(5);
    /// assert_eq!(Errno::from_io_error(&bare), Some(Errno::EIO));
    /// ```
    pub fn from_io_error(error: &io::Error) -> Option<Errno> {
        match error.raw_os_error() {
            Some(code) => Some(Errno::new(code)),
            None => error.get_ref()?.downcast_ref::<crate::Error>()?.errno(),
        }
    }

    /// Returns the errno of the last system call of this thread.
    #[cfg_attr(not(feature = "krbd"), allow(dead_code))]
    pub(crate) fn last() -> Errno {
        Errno::new(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// Returns the system's message for it, without the number.
    pub(crate) fn sentence(self) -> String {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        match text.rfind(" (os error") {
            Some(end) => text[..end].to_owned(),
            None => text,
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} {}", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_is_dropped_and_the_extreme_does_not_panic() {
        assert_eq!(Errno::new(-2), Errno::ENOENT);
        assert_eq!(Errno::new(i32::MIN).code(), i32::MAX);
        assert_eq!(Errno::ENOENT.to_string(), "ENOENT 2");
        assert_eq!(Errno::new(9999).to_string(), "errno 9999");
        assert_eq!(Errno::ENOENT.sentence(), "No such file or directory");
    }

    #[test]
    fn debug_names_the_number() {
        assert_eq!(format!("{:?}", Errno::ENOENT), "Errno(ENOENT 2)");
    }
}
