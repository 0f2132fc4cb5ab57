//! All unsafe code of this crate: safe methods for Ceph's handles and calls, in the shape of the C
//! interface.
//!
//! Methods return a bare [`Errno`]. The layers above add the object and what to do next.
#![allow(unsafe_code)]

pub(crate) mod cluster;
pub(crate) mod ffi;
pub(crate) mod group;
pub(crate) mod image;
pub(crate) mod ioctx;
#[cfg(feature = "krbd")]
pub(crate) mod kernel;
pub(crate) mod migration;
#[cfg(feature = "mirror")]
pub(crate) mod mirror;
pub(crate) mod op;
pub(crate) mod queue;
// Without the feature, only the causes of errors read omaps.
#[cfg_attr(not(feature = "rados"), allow(dead_code))]
pub(crate) mod rados;
pub(crate) mod thread;

use crate::errno::Errno;

/// The result of a C call: a value or an errno.
pub(crate) type RawResult<T> = Result<T, Errno>;

/// A fault that the sanitizer must report. Otherwise its silence about the other tests means
/// nothing. Only `cargo xtask sanitizers` compiles it.
#[cfg(all(test, sanitizer_canary))]
mod canary {
    #[test]
    fn canary_reads_freed_memory() {
        let buffer = std::hint::black_box(vec![7_u8; 64]);
        let start = buffer.as_ptr();
        drop(buffer);
        // SAFETY: this is unsound on purpose: the memory was freed.
        std::hint::black_box(unsafe { start.read_volatile() });
    }

    #[test]
    fn canary_leaks() {
        std::hint::black_box(Box::leak(std::hint::black_box(Box::new([7_u8; 12345]))));
    }
}
