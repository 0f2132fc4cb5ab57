//! The size of an image, as far as it can be told without waiting for the cluster.
//!
//! When anybody changes an image's header, librbd reads it again before the next thing it does. For `rbd_get_size` the caller
//! waits for that; for an asynchronous operation librbd does it by itself. So after a change the size is asked for only once
//! an operation that was submitted later has ended; until then ranges are checked against the size before the change.

use std::sync::{Mutex, PoisonError};

use super::sync::{AtomicUsize, Ordering};

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
    /// By what librbd says, which it knows, unless the header was changed in this very moment.
    ByAsking,
    /// By what librbd says once it has read the header.
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
            return Judge::ByAsking;
        };
        let changes = self.changes();
        let stale = learnt < changes;
        let asking_waits = self.read.load(Ordering::Acquire) < changes;
        match (stale, asking_waits) {
            (false, _) => Judge::By(size),
            (true, true) if end <= size => Judge::By(size),
            (true, true) => Judge::ByWaiting,
            (true, false) => Judge::ByAsking,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_changed_size_is_asked_for_after_an_operation_has_ended() {
        let known = KnownSize::new();
        assert_eq!(known.for_end(0), Judge::ByAsking);
        known.learn(100, known.changes());
        assert_eq!([known.for_end(100), known.for_end(101)], [Judge::By(100); 2], "exact");
        let before = known.changes();
        known.changed();
        known.was_read(before);
        assert_eq!([known.for_end(100), known.for_end(101)], [Judge::By(100), Judge::ByWaiting]);
        let after = known.changes();
        known.was_read(after);
        assert_eq!(known.for_end(50), Judge::ByAsking, "librbd knows by now");
        known.learn(50, after);
        known.learn(100, before);
        assert_eq!(known.for_end(80), Judge::By(50), "an answer that comes late is older");
    }
}
