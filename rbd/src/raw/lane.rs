//! The operations in flight on one image, counted, so that closing can wait for them.
//!
//! librbd waits by itself only for those that have reached its lowest layer. One that still stands in a queue of it (held
//! up by a limit on I/O, or by an exclusive lock that another client has) would meet a freed image.

use super::known_size::KnownSize;
use super::sync::{AtomicUsize, Ordering, UnsafeCell};

type Closer = Box<dyn FnOnce() + Send>;

/// The state: this once the image is to be closed,
const CLOSING: usize = 1;
/// this while somebody asks for its size in the background,
const ASKING: usize = 2;
/// and this for each operation in flight.
const ONE: usize = 4;

pub(crate) struct Lane {
    state: AtomicUsize,
    closer: UnsafeCell<Option<Closer>>,
    /// The ends of operations tell something about it.
    size: KnownSize,
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
        Lane { state: AtomicUsize::new(0), closer: UnsafeCell::new(None), size: KnownSize::new() }
    }

    pub(crate) fn size(&self) -> &KnownSize {
        &self.size
    }

    /// Whether no operations are in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) < ONE
    }

    /// An operation begins. Not after [`close`](Lane::close).
    pub(crate) fn enter(&self) {
        self.state.fetch_add(ONE, Ordering::Relaxed);
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
        if unsafe { (*this).state.fetch_sub(what, Ordering::AcqRel) } == what | CLOSING {
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
        if unsafe { (*this).state.fetch_or(CLOSING, Ordering::AcqRel) } == 0 {
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
