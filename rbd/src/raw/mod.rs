//! All unsafe code of this crate: Ceph's handles and calls behind safe, still C-shaped methods.
//!
//! Everything here answers with a bare [`Errno`]; the layers above say on which object, and what to
//! do about it.
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
// Without the feature only omaps are read, for the causes of errors.
#[cfg_attr(not(feature = "rados"), allow(dead_code))]
pub(crate) mod rados;
pub(crate) mod thread;

use crate::errno::Errno;

/// What a C call gave: its value, or the errno.
pub(crate) type RawResult<T> = Result<T, Errno>;

/// What the sanitizer must catch, or its silence about the rest means nothing. Compiled by `cargo
/// xtask sanitizers` only.
#[cfg(all(test, sanitizer_canary))]
mod canary {
    #[test]
    fn canary_reads_freed_memory() {
        let buffer = std::hint::black_box(vec![7_u8; 64]);
        let start = buffer.as_ptr();
        drop(buffer);
        // SAFETY: there is none: the memory was freed.
        std::hint::black_box(unsafe { start.read_volatile() });
    }

    #[test]
    fn canary_leaks() {
        std::hint::black_box(Box::leak(std::hint::black_box(Box::new([7_u8; 12345]))));
    }
}
