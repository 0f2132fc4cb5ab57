//! The operations in flight on one image, counted, so that closing can wait for them. And whether they go to a queue.
//!
//! librbd waits by itself only for those that have reached its lowest layer. One that still stands in a queue of it (held
//! up by a limit on I/O, or by an exclusive lock that another client has) would meet a freed image.

use std::sync::{Arc, OnceLock};

use crate::raw::image::size::KnownSize;
use crate::raw::op::sync::{AtomicUsize, Ordering, UnsafeCell};
use crate::raw::queue::Reports;

type Closer = Box<dyn FnOnce() + Send>;

/// The state: this once the image is to be closed,
const CLOSING: usize = 1;
/// this while somebody asks for its size in the background,
const ASKING: usize = 2;
/// this once the completions of operations go to a queue, for good,
const QUEUED: usize = 4;
/// and this for each operation in flight.
const ONE: usize = 8;

pub(crate) struct Lane {
    state: AtomicUsize,
    closer: UnsafeCell<Option<Closer>>,
    /// The ends of operations tell something about it.
    size: KnownSize,
    /// The queue's descriptor, to which librbd may write until the image is closed, and what its callbacks use.
    reports: OnceLock<Arc<Reports>>,
}

// SAFETY: the closer is written before CLOSING is set and taken by the one that sees it set with nothing in flight.
unsafe impl Send for Lane {}
// SAFETY: as above.
unsafe impl Sync for Lane {}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            state: AtomicUsize::new(0),
            closer: UnsafeCell::new(None),
            size: KnownSize::new(),
            reports: OnceLock::new(),
        }
    }

    pub(crate) fn size(&self) -> &KnownSize {
        &self.size
    }

    /// Whether no operations are in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) < ONE
    }

    /// An operation begins. Not after [`close`](Lane::close). False if its completion would go to a queue: one with a callback must
    /// not be submitted then, only leave.
    pub(crate) fn enter(&self) -> bool {
        self.state.fetch_add(ONE, Ordering::Relaxed) & QUEUED == 0
    }

    /// A queue gets all completions from here on. False while operations are in flight, or where there was one before.
    pub(crate) fn begin_queue(&self) -> bool {
        let begun = |state| (state & QUEUED == 0 && state < ONE).then_some(state | QUEUED);
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).is_ok()
    }

    /// It came to nothing.
    pub(crate) fn cancel_queue(&self) {
        self.state.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    /// Whether a queue gets the completions, or did.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Keeps what librbd may use until the image is closed, of the queue that has begun.
    pub(crate) fn keep(&self, reports: Arc<Reports>) {
        // There is one queue at most.
        let _ = self.reports.set(reports);
    }

    /// Whether librbd is at work on operations, as far as can be told by somebody who does not take their ends.
    pub(in crate::raw) fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) >= ONE || self.reports.get().is_some_and(|queue| queue.is_busy())
    }

    /// Somebody is about to ask for the size, unless somebody else does already. Not after [`close`](Lane::close).
    pub(crate) fn begin_asking(&self) -> bool {
        self.state.fetch_or(ASKING, Ordering::Relaxed) & ASKING == 0
    }

    /// They have asked.
    ///
    /// # Safety
    /// `this` must be valid, and asking have begun; afterwards it may not be valid any more.
    pub(crate) unsafe fn end_asking(this: *const Lane) {
        // SAFETY: the caller's promise.
        unsafe { Lane::sub(this, ASKING) };
    }

    /// An operation ends. The last one runs what `close` left.
    ///
    /// # Safety
    /// `this` must be valid and entered; afterwards it may not be valid any more.
    pub(crate) unsafe fn leave(this: *const Lane) {
        // SAFETY: the caller's promise.
        unsafe { Lane::sub(this, ONE) };
    }

    /// # Safety
    /// `this` must be valid, and its state have `what` in it from us; afterwards it may not be valid any more.
    unsafe fn sub(this: *const Lane, what: usize) {
        // SAFETY: valid, by the contract.
        if unsafe { (*this).state.fetch_sub(what, Ordering::AcqRel) } & !QUEUED == what | CLOSING {
            // SAFETY: as the last, we have taken over the lane from the one that set CLOSING.
            unsafe { Lane::finish(this) };
        }
    }

    /// Runs `then` once nothing is in flight: at once, or on the thread where the last operation ends.
    ///
    /// # Safety
    /// Called at most once, when nobody enters any more. `this` must be valid until `then` runs, and may be freed by it.
    pub(crate) unsafe fn close(this: *const Lane, then: impl FnOnce() + Send + 'static) {
        // SAFETY: valid; nobody else is at the closer before CLOSING is set.
        unsafe { (*this).closer.with_mut(|cell| *cell = Some(Box::new(then))) };
        // SAFETY: valid, since `then` has not run.
        if unsafe { (*this).state.fetch_or(CLOSING, Ordering::AcqRel) } & !QUEUED == 0 {
            // SAFETY: nothing is in flight, so nobody else will come.
            unsafe { Lane::finish(this) };
        }
    }

    /// # Safety
    /// `this` is valid, and the caller is the only one left to use it.
    unsafe fn finish(this: *const Lane) {
        // SAFETY: by the contract; the closer is moved out before it runs, since it may free the lane.
        let closer = unsafe { (*this).closer.with_mut(|cell| (*cell).take()) };
        if let Some(closer) = closer {
            closer();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_queue_begins_once_and_with_nothing_in_flight() {
        let lane = Lane::new();
        assert!(lane.enter() && !lane.begin_queue() && !lane.is_queued());
        // SAFETY: entered above; the lane outlives all of it.
        unsafe { Lane::leave(&raw const lane) };
        assert!(lane.begin_asking() && lane.begin_queue() && lane.is_queued() && lane.is_empty());
        assert!(!lane.enter() && !lane.begin_queue());
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        // SAFETY: as above; asking has begun.
        unsafe {
            Lane::close(&raw const lane, move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            Lane::leave(&raw const lane);
            assert_eq!(ran.load(Ordering::Relaxed), 0);
            Lane::end_asking(&raw const lane);
        }
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        lane.cancel_queue();
        assert!(!lane.is_queued());
    }

    #[test]
    fn closing_waits_for_whoever_asks() {
        let lane = Lane::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        assert!(lane.begin_asking() && !lane.begin_asking());
        assert!(lane.is_empty(), "that is no operation");
        // SAFETY: begun above; the lane outlives all of it.
        unsafe {
            Lane::end_asking(&raw const lane);
            assert!(lane.begin_asking());
            lane.enter();
            Lane::close(&raw const lane, move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            Lane::leave(&raw const lane);
            assert_eq!(runs.load(Ordering::Relaxed), 0);
            Lane::end_asking(&raw const lane);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn closing_waits_for_the_last() {
        let lane = Box::into_raw(Box::new(Lane::new())).cast_const();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let address = lane as usize;
        // SAFETY: the lane lives until the closer frees it, after the second leave.
        unsafe {
            (*lane).enter();
            (*lane).enter();
            Lane::close(lane, move || {
                count.fetch_add(1, Ordering::Relaxed);
                drop(Box::from_raw(address as *mut Lane));
            });
            Lane::leave(lane);
            assert_eq!(runs.load(Ordering::Relaxed), 0);
            Lane::leave(lane);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn the_last_of_two_and_closing_at_once() {
        loom::model(|| {
            let lane = Arc::new(Lane::new());
            let runs = Arc::new(AtomicUsize::new(0));
            lane.enter();
            lane.enter();
            let leavers: Vec<_> = (0..2)
                .map(|_| {
                    let lane = Arc::clone(&lane);
                    // SAFETY: entered twice above; the Arc keeps it valid.
                    thread::spawn(move || unsafe { Lane::leave(&raw const *lane) })
                })
                .collect();
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; nobody enters.
            unsafe {
                Lane::close(&raw const *lane, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            for leaver in leavers {
                leaver.join().unwrap();
            }
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn the_last_of_one_and_who_asks_and_closing_at_once() {
        loom::model(|| {
            let lane = Arc::new(Lane::new());
            let runs = Arc::new(AtomicUsize::new(0));
            lane.enter();
            assert!(lane.begin_asking());
            let ends: [unsafe fn(*const Lane); 2] = [Lane::leave, Lane::end_asking];
            let leavers = ends.map(|end| {
                let lane = Arc::clone(&lane);
                // SAFETY: entered, and asking begun, above; the Arc keeps it valid.
                thread::spawn(move || unsafe { end(&raw const *lane) })
            });
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; nobody enters.
            unsafe {
                Lane::close(&raw const *lane, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            for leaver in leavers {
                leaver.join().unwrap();
            }
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        });
    }
}
