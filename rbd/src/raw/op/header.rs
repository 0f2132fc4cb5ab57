//! The encryption header of an image, which librbd subtracts from the stored size.
//!
//! Another client may make the image smaller than that header. librbd 18.2 and later then abort the
//! process at the next call that needs the size, also in `rbd_get_size`; librbd 16.2 aborts it at
//! I/O. So the OSDs are asked for the stored size before librbd reads a changed header.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The state of the encryption header.
#[derive(Debug)]
pub(in crate::raw) struct Header {
    /// The size in bytes; 0 while no encryption is loaded, or while it is not known.
    len: AtomicU64,
    loaded: AtomicBool,
    cut: AtomicBool,
}

impl Header {
    pub(super) fn new() -> Header {
        Header { len: AtomicU64::new(0), loaded: AtomicBool::new(false), cut: AtomicBool::new(false) }
    }

    /// Returns its size in bytes; 0 if no encryption is loaded.
    pub(in crate::raw) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Returns whether encryption is loaded.
    pub(in crate::raw) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Records that encryption was loaded. The call that loads it does so itself, because its
    /// caller may have given up the wait.
    pub(in crate::raw) fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// Sets the size of the header. Must be called before librbd is asked for the size.
    pub(in crate::raw) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    /// Returns whether the image was smaller when the OSDs were last asked.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
    }
}
