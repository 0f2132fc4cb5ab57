//! The size of an image, as far as it can be told without waiting for the cluster.
//!
//! When anybody changes an image's header, librbd reads it again before the next thing it does. For
//! `rbd_get_size` the caller waits for that, and cannot know beforehand whether it will; for an
//! asynchronous operation librbd does it by itself. So an operation is submitted without asking for
//! the size, and its range is checked twice: at the submission by the size before a change, and at
//! the end by the size after it, which a thread in the background asks for.

use crate::raw::op::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, PoisonError};

#[derive(Debug)]
pub(crate) struct KnownSize {
    /// How many changes of the header we have heard of.
    changes: AtomicUsize,
    size: AtomicU64,
    /// One more than the changes that had been heard of when the size was asked for; 0 before the
    /// first answer. Written after the size, and read before it.
    learnt: AtomicUsize,
    /// Taken by those who learn the size.
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

    /// The header was changed.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// To be read before the size is asked for.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// The size was asked for after so many changes.
    pub(crate) fn learn(&self, size: u64, changes: usize) {
        let _learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learnt.load(Ordering::Relaxed) <= changes + 1 {
            self.size.store(size, Ordering::Release);
            self.learnt.store(changes + 1, Ordering::Release);
        }
    }

    /// The last size that was learnt, and whether no change has been heard of since.
    fn last(&self) -> Option<(u64, bool)> {
        let learnt = self.learnt.load(Ordering::Acquire);
        // It may be newer than that: then it counts as older than it is.
        let size = self.size.load(Ordering::Acquire);
        (learnt > 0).then(|| (size, learnt > self.changes()))
    }

    /// The size, unless a change has been heard of since it was learnt.
    pub(crate) fn fresh(&self) -> Option<u64> {
        self.last().filter(|(_, fresh)| *fresh).map(|(size, _)| size)
    }

    /// A size by which a range with this end can be judged at its submission. Without one it is to
    /// be asked for: the image may have grown by enough.
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

    /// A size that counts as fresh is not one from before the last change.
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
