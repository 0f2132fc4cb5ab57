//! The size of an image, as far as it can be told without waiting for the cluster.
//!
//! When anybody changes an image's header, librbd reads it again before the next thing it does. For `rbd_get_size` the caller
//! waits for that, and cannot know beforehand whether it will; for an asynchronous operation librbd does it by itself. So
//! whoever submits one never asks for the size. It is first known when the image is opened. After a change a thread in the
//! background asks for it, once an operation that was submitted later has ended, since that makes librbd read the header in
//! any case; until there is an answer ranges are checked against the size before the change.

use std::sync::{Mutex, PoisonError};

use crate::raw::op::sync::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct KnownSize {
    /// How many changes of the header we have heard of.
    changes: AtomicUsize,
    /// How many of them librbd has certainly read.
    read: AtomicUsize,
    /// The size, and how many changes had been heard of when it was asked for.
    size: Mutex<Option<(u64, usize)>>,
}

/// How a range can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// By this size.
    By(u64),
    /// By this size, but librbd knows a newer one by now: somebody is to ask for it.
    ByOld(u64),
    /// By what librbd says once it has read the header: it may have grown by enough.
    ByWaiting,
}

impl KnownSize {
    pub(crate) fn new() -> KnownSize {
        KnownSize { changes: AtomicUsize::new(0), read: AtomicUsize::new(0), size: Mutex::new(None) }
    }

    /// The header was changed.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// To be kept with an operation, or a question for the size, from before its submission to its end.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// An operation that was submitted after so many changes has ended well.
    pub(crate) fn was_read(&self, changes: usize) {
        if self.read.load(Ordering::Relaxed) < changes {
            self.read.fetch_max(changes, Ordering::AcqRel);
        }
    }

    /// The size was asked for after so many changes.
    pub(crate) fn learn(&self, size: u64, changes: usize) {
        let mut known = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|(_, before)| before <= changes) {
            *known = Some((size, changes));
        }
    }

    /// How a range with this end can be judged.
    pub(crate) fn for_end(&self, end: u64) -> Judge {
        let Some((size, learnt)) = *self.size.lock().unwrap_or_else(PoisonError::into_inner) else {
            return Judge::ByWaiting;
        };
        let changes = self.changes();
        if learnt >= changes {
            return Judge::By(size);
        }
        let read = self.read.load(Ordering::Acquire) >= changes;
        match (end <= size, read) {
            (true, false) => Judge::By(size),
            (true, true) => Judge::ByOld(size),
            (false, _) => Judge::ByWaiting,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_changed_size_is_asked_for_after_an_operation_has_ended() {
        let known = KnownSize::new();
        assert_eq!(known.for_end(0), Judge::ByWaiting);
        known.learn(100, known.changes());
        assert_eq!([known.for_end(100), known.for_end(101)], [Judge::By(100); 2], "exact");
        let before = known.changes();
        known.changed();
        known.was_read(before);
        assert_eq!([known.for_end(100), known.for_end(101)], [Judge::By(100), Judge::ByWaiting]);
        let after = known.changes();
        known.was_read(after);
        assert_eq!([known.for_end(100), known.for_end(101)], [Judge::ByOld(100), Judge::ByWaiting]);
        known.learn(50, after);
        known.learn(100, before);
        assert_eq!(known.for_end(80), Judge::By(50), "an answer that comes late is older");
    }
}
