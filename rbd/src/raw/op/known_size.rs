//! The size of an image, as far as it is known without waiting for the cluster.
//!
//! After a client has changed the header of an image, librbd reads the header again before its next
//! operation. `rbd_get_size` blocks for that, and the caller cannot know in advance; an
//! asynchronous operation does not block. So operations are submitted without asking for the size,
//! and their range is checked twice: at the submission against the size before a change, and at the
//! end against the size after it, which a background thread asks for.

use crate::raw::op::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, PoisonError};

#[derive(Debug)]
pub(crate) struct KnownSize {
    /// How many changes of the header were reported.
    changes: AtomicUsize,
    size: AtomicU64,
    /// One more than the changes that had been reported when the size was asked for; 0 before the
    /// first answer. Written after the size, and read before it.
    learnt: AtomicUsize,
    /// Locked while a new size is stored.
    learning: Mutex<()>,
}

impl KnownSize {
    pub(crate) fn new() -> KnownSize {
        KnownSize {
            changes: AtomicUsize::new(0),
            size: AtomicU64::new(0),
            learnt: AtomicUsize::new(0),
            learning: Mutex::new(()),
        }
    }

    /// Counts a change of the header.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the number of changes. Call it before asking for the size.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// Stores a size that was asked for after `changes` changes.
    pub(crate) fn learn(&self, size: u64, changes: usize) {
        let _learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learnt.load(Ordering::Relaxed) <= changes + 1 {
            self.size.store(size, Ordering::Release);
            self.learnt.store(changes + 1, Ordering::Release);
        }
    }

    /// Returns the last size that was stored, and whether no change was reported since.
    fn last(&self) -> Option<(u64, bool)> {
        let learnt = self.learnt.load(Ordering::Acquire);
        // The size may be newer than that. Then it counts as older than it is.
        let size = self.size.load(Ordering::Acquire);
        (learnt > 0).then(|| (size, learnt > self.changes()))
    }

    /// Returns the size, unless a change was reported since it was stored.
    pub(crate) fn fresh(&self) -> Option<u64> {
        self.last().filter(|(_, fresh)| *fresh).map(|(size, _)| size)
    }

    /// Returns a size against which a range with this end can be checked at its submission. Returns
    /// `None` if the size must be asked for, because the image may have grown enough.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn for_end(&self, end: u64) -> Option<u64> {
        self.last().filter(|(size, fresh)| *fresh || end <= *size).map(|(size, _)| size)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_changed_size_serves_for_ranges_within_it_until_a_newer_one_is_learnt() {
        let known = KnownSize::new();
        assert_eq!((known.for_end(0), known.fresh()), (None, None));
        let before = known.changes();
        known.learn(100, before);
        assert_eq!([known.for_end(100), known.for_end(101), known.fresh()], [Some(100); 3]);
        known.changed();
        assert_eq!([known.for_end(100), known.for_end(101), known.fresh()], [Some(100), None, None]);
        known.learn(50, known.changes());
        known.learn(100, before);
        assert_eq!([known.for_end(80), known.fresh()], [Some(50); 2], "an answer that comes late is older");
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A fresh size is never one from before the last change.
    #[test]
    fn a_fresh_size_is_not_an_old_one() {
        loom::model(|| {
            let known = Arc::new(KnownSize::new());
            known.learn(1, 0);
            let learner = Arc::clone(&known);
            let learns = thread::spawn(move || {
                learner.changed();
                learner.learn(2, 1);
            });
            let heard = known.changes();
            if let Some(size) = known.fresh() {
                assert!(size > heard as u64, "{size} after {heard} changes");
            }
            learns.join().unwrap();
            assert_eq!(known.fresh(), Some(2));
        });
    }
}
