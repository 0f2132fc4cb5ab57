//! Late functions: those newer than Ceph 16.2, which the loaded library may lack.

use std::fmt;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::ffi::version::{librados_version, librbd_version};

/// The failure of a call that may need a newer library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Errno(Errno),
    /// The loaded library lacks the function. Nothing was called.
    Missing {
        symbol: &'static str,
        needs: &'static str,
    },
}

/// The result of a function that the loaded library may lack.
pub(crate) type LateResult<T> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Errno(errno) => errno.fmt(f),
            Failure::Missing { symbol, needs } => write!(f, "{symbol} is missing; it needs {needs}"),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}

/// Returns the function, or an error if it is missing: `let clone4 =
/// need(&sys::late::rbd_clone4)?;`.
pub(crate) fn need<F: Copy>(late: &sys::late::Late<F>) -> LateResult<F> {
    late.get().ok_or(Failure::Missing { symbol: late.symbol(), needs: late.needs() })
}

/// Returns the library that should have the symbol, with its version: `librbd 1.16.0`.
pub(crate) fn library_of(symbol: &str) -> String {
    match symbol.strip_prefix("rados_") {
        Some(_) => format!("librados {}", librados_version()),
        None => format!("librbd {}", librbd_version()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        // SAFETY: no library has this symbol, so it is never called.
        let late: sys::late::Late<unsafe extern "C" fn()> =
            unsafe { sys::late::Late::new(c"rbd_of_tomorrow", "Ceph 99") };
        assert_eq!(need(&late), Err(Failure::Missing { symbol: "rbd_of_tomorrow", needs: "Ceph 99" }));
        assert!(library_of("rbd_of_tomorrow").starts_with("librbd 1."));
    }
}
