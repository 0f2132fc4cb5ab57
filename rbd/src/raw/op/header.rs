//! Tells whether librbd has read the newest header of an image.
//!
//! librbd reads a changed header again before the next operation. So once an operation has ended that was submitted after a
//! change, librbd knows what the change brought.

use crate::raw::op::sync::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct HeaderChanges {
    /// How many changes of the header we have heard of.
    heard: AtomicUsize,
    /// How many of them librbd has certainly read.
    read: AtomicUsize,
}

impl HeaderChanges {
    pub(crate) fn new() -> HeaderChanges {
        HeaderChanges { heard: AtomicUsize::new(0), read: AtomicUsize::new(0) }
    }

    /// Counts a change.
    pub(crate) fn changed(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many changes we have heard of. An operation keeps this number from before its submission to its end.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(Ordering::Acquire)
    }

    /// Notes that an operation ended well that was submitted after so many changes.
    pub(crate) fn was_read(&self, changes: usize) {
        if self.read.load(Ordering::Relaxed) < changes {
            self.read.fetch_max(changes, Ordering::AcqRel);
        }
    }

    /// Whether librbd has read so many changes.
    pub(crate) fn is_read(&self, changes: usize) -> bool {
        self.read.load(Ordering::Acquire) >= changes
    }
}
