//! Counts the operations in flight on an image, so that closing can wait for them.
//!
//! librbd itself waits only for operations that have reached its lowest layer. An operation that still stands in one of
//! librbd's queues (behind a limit on I/O, or an exclusive lock that another client has) would meet a freed image.

use crate::raw::op::sync::{AtomicUsize, Ordering, UnsafeCell};

type Closer = Box<dyn FnOnce() + Send>;

/// The bits of the state: set once the image is to be closed;
const CLOSING: usize = 1;
/// set while something that is no operation holds closing back;
const HELD: usize = 2;
/// set for good once a queue gets the completions;
const QUEUED: usize = 4;
/// added for each operation in flight;
const ONE: usize = 8;
/// added for each blocking call on a thread of this crate.
const CALL: usize = 1 << (usize::BITS / 2);

/// The count, and who gets the completions: callbacks or a queue. Both stand in one word, since a queue must not begin while
/// an operation with a callback is in flight.
pub(crate) struct InFlight {
    state: AtomicUsize,
    closer: UnsafeCell<Option<Closer>>,
}

// SAFETY: the closer is written before CLOSING is set, and taken by the thread that sees it set with nothing in flight.
unsafe impl Send for InFlight {}
// SAFETY: as above.
unsafe impl Sync for InFlight {}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight").field("state", &self.state).finish_non_exhaustive()
    }
}

impl InFlight {
    pub(crate) fn new() -> InFlight {
        InFlight { state: AtomicUsize::new(0), closer: UnsafeCell::new(None) }
    }

    /// Whether no operation is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) < ONE
    }

    /// Counts a blocking call that begins, which closing waits for as it does for operations. Not after
    /// [`close`](InFlight::close).
    pub(crate) fn enter_call(&self) {
        self.state.fetch_add(CALL, Ordering::Relaxed);
    }

    /// Counts the end of a blocking call.
    ///
    /// # Safety
    /// `this` must be valid and entered by a call; afterwards it may not be valid any more.
    pub(crate) unsafe fn leave_call(this: *const InFlight) {
        // SAFETY: the caller's promise.
        unsafe { InFlight::subtract(this, CALL) };
    }

    /// Whether blocking calls are at work.
    pub(crate) fn has_calls(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CALL
    }

    /// Counts an operation that begins. Not after [`close`](InFlight::close). Returns false if a queue would get its completion:
    /// an operation with a callback must not be submitted then, only leave.
    pub(crate) fn enter(&self) -> bool {
        self.state.fetch_add(ONE, Ordering::Relaxed) & QUEUED == 0
    }

    /// Gives all later completions to a queue. Returns false while operations are in flight, or if there was a queue before.
    pub(crate) fn begin_queue(&self) -> bool {
        let begun = |state: usize| (state & QUEUED == 0 && state % CALL < ONE).then_some(state | QUEUED);
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).is_ok()
    }

    /// Takes [`begin_queue`](InFlight::begin_queue) back, because the queue could not be made.
    pub(crate) fn cancel_queue(&self) {
        self.state.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    /// Whether a queue gets the completions, or did.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Holds closing back for something that is no operation. Returns false if something does already. Not after
    /// [`close`](InFlight::close).
    pub(crate) fn hold(&self) -> bool {
        self.state.fetch_or(HELD, Ordering::Relaxed) & HELD == 0
    }

    /// Ends [`hold`](InFlight::hold).
    ///
    /// # Safety
    /// `this` must be valid and held by the caller; afterwards it may not be valid any more.
    pub(crate) unsafe fn release(this: *const InFlight) {
        // SAFETY: the caller's promise.
        unsafe { InFlight::subtract(this, HELD) };
    }

    /// Counts the end of an operation. The last one runs what [`close`](InFlight::close) left.
    ///
    /// # Safety
    /// `this` must be valid and entered; afterwards it may not be valid any more.
    pub(crate) unsafe fn leave(this: *const InFlight) {
        // SAFETY: the caller's promise.
        unsafe { InFlight::subtract(this, ONE) };
    }

    /// # Safety
    /// `this` must be valid, and the caller must have added `what` to its state; afterwards it may not be valid any more.
    unsafe fn subtract(this: *const InFlight, what: usize) {
        // SAFETY: valid, by the contract.
        if unsafe { (*this).state.fetch_sub(what, Ordering::AcqRel) } & !QUEUED == what | CLOSING {
            // SAFETY: as the last, we have taken the count over from the thread that set CLOSING.
            unsafe { InFlight::finish(this) };
        }
    }

    /// Runs `then` once nothing is in flight or held: at once, or on the thread where the last of it ends.
    ///
    /// # Safety
    /// Called at most once, when nobody enters any more. `this` must be valid until `then` runs, and may be freed by it.
    pub(crate) unsafe fn close(this: *const InFlight, then: impl FnOnce() + Send + 'static) {
        // SAFETY: valid; nobody else uses the closer before CLOSING is set.
        unsafe { (*this).closer.with_mut(|cell| *cell = Some(Box::new(then))) };
        // SAFETY: valid, since `then` has not run.
        if unsafe { (*this).state.fetch_or(CLOSING, Ordering::AcqRel) } & !QUEUED == 0 {
            // SAFETY: nothing is in flight, so nobody else will come.
            unsafe { InFlight::finish(this) };
        }
    }

    /// # Safety
    /// `this` is valid, and the caller is the only one left to use it.
    unsafe fn finish(this: *const InFlight) {
        // SAFETY: by the contract; the closer is moved out before it runs, since it may free the count.
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
        let in_flight = InFlight::new();
        assert!(in_flight.enter() && !in_flight.begin_queue() && !in_flight.is_queued());
        // SAFETY: entered above; the count outlives all of it.
        unsafe { InFlight::leave(&raw const in_flight) };
        assert!(in_flight.hold() && in_flight.begin_queue() && in_flight.is_queued() && in_flight.is_empty());
        assert!(!in_flight.enter() && !in_flight.begin_queue());
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        // SAFETY: as above; held.
        unsafe {
            InFlight::close(&raw const in_flight, move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            InFlight::leave(&raw const in_flight);
            assert_eq!(ran.load(Ordering::Relaxed), 0);
            InFlight::release(&raw const in_flight);
        }
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        in_flight.cancel_queue();
        assert!(!in_flight.is_queued());
    }

    #[test]
    fn closing_waits_for_a_hold() {
        let in_flight = InFlight::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        assert!(in_flight.hold() && !in_flight.hold());
        assert!(in_flight.is_empty(), "a hold is no operation");
        // SAFETY: held above; the count outlives all of it.
        unsafe {
            InFlight::release(&raw const in_flight);
            assert!(in_flight.hold());
            in_flight.enter();
            InFlight::close(&raw const in_flight, move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            InFlight::leave(&raw const in_flight);
            assert_eq!(runs.load(Ordering::Relaxed), 0);
            InFlight::release(&raw const in_flight);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn closing_waits_for_the_last() {
        let in_flight = Box::into_raw(Box::new(InFlight::new())).cast_const();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let address = in_flight as usize;
        // SAFETY: the count lives until the closer frees it, after the second leave.
        unsafe {
            (*in_flight).enter();
            (*in_flight).enter();
            InFlight::close(in_flight, move || {
                count.fetch_add(1, Ordering::Relaxed);
                drop(Box::from_raw(address as *mut InFlight));
            });
            InFlight::leave(in_flight);
            assert_eq!(runs.load(Ordering::Relaxed), 0);
            InFlight::leave(in_flight);
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
            let in_flight = Arc::new(InFlight::new());
            let runs = Arc::new(AtomicUsize::new(0));
            in_flight.enter();
            in_flight.enter();
            let leavers: Vec<_> = (0..2)
                .map(|_| {
                    let in_flight = Arc::clone(&in_flight);
                    // SAFETY: entered twice above; the Arc keeps it valid.
                    thread::spawn(move || unsafe { InFlight::leave(&raw const *in_flight) })
                })
                .collect();
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; nobody enters.
            unsafe {
                InFlight::close(&raw const *in_flight, move || {
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
    fn the_last_operation_and_a_hold_and_closing_at_once() {
        loom::model(|| {
            let in_flight = Arc::new(InFlight::new());
            let runs = Arc::new(AtomicUsize::new(0));
            in_flight.enter();
            assert!(in_flight.hold());
            let ends: [unsafe fn(*const InFlight); 2] = [InFlight::leave, InFlight::release];
            let leavers = ends.map(|end| {
                let in_flight = Arc::clone(&in_flight);
                // SAFETY: entered, and held, above; the Arc keeps it valid.
                thread::spawn(move || unsafe { end(&raw const *in_flight) })
            });
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; nobody enters.
            unsafe {
                InFlight::close(&raw const *in_flight, move || {
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
