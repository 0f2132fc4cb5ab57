//! All unsafe code of this crate: Ceph's handles and calls behind safe, still C-shaped methods.
//!
//! Everything here answers with a bare [`Errno`]; the layers above say on which object, and what to do about it.
#![allow(unsafe_code)]

pub(crate) mod aio;
pub(crate) mod aio_namespace;
pub(crate) mod aio_open;
pub(crate) mod application;
#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
pub(crate) mod buffer;
pub(crate) mod call;
pub(crate) mod callback;
pub(crate) mod cluster;
pub(crate) mod contain;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod encryption;
pub(crate) mod exit;
#[cfg(all(test, not(loom)))]
pub(crate) mod fork;
pub(crate) mod group;
pub(crate) mod image;
pub(crate) mod image_io;
pub(crate) mod ioctx;
pub(crate) mod iovec;
pub(crate) mod known_size;
pub(crate) mod krbd;
pub(crate) mod lane;
pub(crate) mod late;
pub(crate) mod lineage;
pub(crate) mod locks;
pub(crate) mod log;
pub(crate) mod metadata;
pub(crate) mod migration;
pub(crate) mod mirror;
pub(crate) mod mirror_aio;
pub(crate) mod mirror_image;
pub(crate) mod mirror_list;
pub(crate) mod mirror_peer;
pub(crate) mod mount;
pub(crate) mod objects;
pub(crate) mod omap;
pub(crate) mod op;
pub(crate) mod options;
mod pool;
pub(crate) mod pool_stats;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod quiesce;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod slot;
pub(crate) mod snapshot;
pub(crate) mod snapshot_namespace;
pub(crate) mod sync;
pub(crate) mod thread;
pub(crate) mod trash;
pub(crate) mod watch;
pub(crate) mod worker;

use crate::errno::Errno;

/// What a C call gave: its value, or the errno.
pub(crate) type RawResult<T> = Result<T, Errno>;

/// What the sanitizer must catch, or its silence about the rest means nothing. Compiled by `cargo xtask sanitizers` only.
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
