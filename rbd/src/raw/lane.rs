//! The operations in flight on one image, counted, so that closing can wait for them.
//!
//! librbd waits by itself only for those that have reached its lowest layer. One that still stands in a queue of it (held
//! up by a limit on I/O, or by an exclusive lock that another client has) would meet a freed image.

use super::known_size::KnownSize;
use super::sync::{AtomicUsize, Ordering, UnsafeCell};

type Closer = Box<dyn FnOnce() + Send>;

/// The state: twice the operations in flight, and this once the image is to be closed.
const CLOSING: usize = 1;

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

    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    /// An operation begins. Not after [`close`](Lane::close).
    pub(crate) fn enter(&self) {
        self.state.fetch_add(2, Ordering::Relaxed);
    }

    /// An operation ends. The last one runs what `close` left.
    ///
    /// # Safety
    /// `this` must be valid and entered; afterwards it may not be valid any more.
    pub(crate) unsafe fn leave(this: *const Lane) {
        // SAFETY: valid, by the contract.
        if unsafe { (*this).state.fetch_sub(2, Ordering::AcqRel) } == 2 | CLOSING {
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
}
