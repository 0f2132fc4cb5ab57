//! The meeting point of one operation's future and its completion: a state word, the result, and
//! the waker.
//!
//! Two parties hold a slot: the future, and librbd through the completion. Each gives up its claim
//! exactly once, by [`Slot::detach`] and [`Slot::complete`], and the later one learns that it owns
//! the memory that contains the slot. There is no lock, and no party waits for the other.
//!
//! The state word says which thread may use the cell of the waker:
//!
//! | state          | cell      | may be touched by                                        |
//! |----------------|-----------|----------------------------------------------------------|
//! | `0`            | unset     | the thread that moves the state on                       |
//! | `LOCKED`       | any       | the future                                               |
//! | `SET`          | a waker   | the thread that moves the state on                       |
//! | `… + TAKING`   | any       | the completion, if it found `SET` without `LOCKED`; else the future |
//! | `… + DONE`     | any       | the future; the completion touches the slot no more      |

use std::task::{Context, Poll, Waker};

use crate::raw::op::sync::{AtomicUsize, Ordering, UnsafeCell};
use crate::raw::thread::catch_panic::catch_panic;

/// A waker is stored.
const SET: usize = 1;
/// The future uses the waker.
const LOCKED: usize = 2;
/// The completion uses the waker.
const TAKING: usize = 4;
/// The result is stored, and the completion has left.
const DONE: usize = 8;
/// The future has left.
const DETACHED: usize = 16;

#[derive(Debug)]
pub(crate) struct Slot {
    state: AtomicUsize,
    waker: UnsafeCell<Option<Waker>>,
    result: UnsafeCell<isize>,
}

// SAFETY: the state word hands the cells over, as the table above says, and their content is Send.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// The answer to a party that leaves.
#[derive(Debug)]
pub(crate) enum Left {
    /// The other party is still there and will clean up: do not touch the slot any more. The
    /// completion wakes this waker.
    First(Option<Waker>),
    /// The other party has left before: clean up.
    Last,
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot { state: AtomicUsize::new(0), waker: UnsafeCell::new(None), result: UnsafeCell::new(0) }
    }

    /// Stores the result: the completion leaves.
    ///
    /// # Safety
    /// Called at most once. `this` must be valid at the call; after [`Left::First`] it may be
    /// invalid.
    pub(crate) unsafe fn complete(this: *const Slot, result: isize) -> Left {
        // SAFETY: valid until the store of DONE below, after which `slot` is not used.
        let slot = unsafe { &*this };
        // SAFETY: only the completion writes it, and it is not read before DONE.
        slot.result.with_mut(|cell| unsafe { *cell = result });
        if slot.state.compare_exchange(0, DONE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Left::First(None);
        }
        let mut waker = None;
        if slot.state.fetch_or(TAKING, Ordering::AcqRel) & (SET | LOCKED) == SET {
            // SAFETY: the state said that a waker is stored and that the future does not use it;
            // TAKING keeps the future away.
            waker = slot.waker.with_mut(|cell| unsafe { (*cell).take() });
        }
        if slot.state.fetch_or(DONE, Ordering::AcqRel) & DETACHED == 0 {
            Left::First(waker)
        } else {
            // The future is gone. The drop is foreign code on a thread of C, so a panic must not
            // pass.
            catch_panic(|| drop(waker));
            Left::Last
        }
    }

    /// Returns the result, or stores the waker of this context.
    ///
    /// Only the one future calls this, and not after [`detach`](Slot::detach).
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<isize> {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & DONE != 0 {
                return Poll::Ready(self.result());
            }
            if state & TAKING != 0 {
                // The completion is between its two steps and has the old waker or none: poll again
                // at once.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Here LOCKED is our own, left by a waker that panicked while it was cloned.
            if state & LOCKED != 0
                || self.state.compare_exchange(state, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                break;
            }
        }
        let new = context.waker();
        // SAFETY: LOCKED keeps the completion away.
        let same = self.waker.with(|cell| unsafe { (*cell).as_ref().is_some_and(|old| old.will_wake(new)) });
        // Clone and drop are foreign code, so neither runs inside the cell.
        let new = if same { None } else { Some(new.clone()) };
        // SAFETY: as above.
        let old = new.and_then(|new| self.waker.with_mut(|cell| unsafe { (*cell).replace(new) }));
        let unlocked = self.state.compare_exchange(LOCKED, SET, Ordering::AcqRel, Ordering::Acquire);
        drop(old);
        match unlocked {
            Ok(_) => Poll::Pending,
            Err(state) if state & DONE != 0 => Poll::Ready(self.result()),
            Err(_) => {
                // The completion ran meanwhile and found the waker locked, so it did not wake it.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Leaves the slot: the future has the result, or does not want it.
    ///
    /// # Safety
    /// Called at most once. `this` must be valid at the call; after [`Left::First`] it may be
    /// invalid.
    pub(crate) unsafe fn detach(this: *const Slot) -> Left {
        // SAFETY: valid until the store of DETACHED below, after which `slot` is not used.
        let slot = unsafe { &*this };
        // A waker keeps a whole task alive: drop it now, not when the operation ends.
        let unlisted = slot.state.compare_exchange(SET, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // SAFETY: LOCKED keeps the completion away.
        let waker = if unlisted { slot.waker.with_mut(|cell| unsafe { (*cell).take() }) } else { None };
        let before = slot.state.fetch_or(DETACHED, Ordering::AcqRel);
        catch_panic(|| drop(waker));
        if before & DONE == 0 { Left::First(None) } else { Left::Last }
    }

    /// Returns whether the future has left.
    pub(crate) fn is_detached(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DETACHED != 0
    }

    fn result(&self) -> isize {
        // SAFETY: DONE was seen, and it is not written afterwards.
        self.result.with(|cell| unsafe { *cell })
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
