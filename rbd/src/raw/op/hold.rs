//! Holds on an image: operations in flight end, and new ones are kept until the hold is over.
//!
//! A shrink needs holds. An operation first adds itself to a count and then looks for a hold; a
//! hold is first set and then looks at the counts. So at least one of the two sees the other.

use std::sync::Arc;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::op::kept::Later;
use crate::raw::op::sync::{Ordering, PoisonError};
use crate::raw::op::target::{CALL, CLOSING, HELD, ONE, QUEUED, Target};
use crate::raw::thread::mark::must_not_call;

/// Whether an operation may be submitted.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::raw) enum Entered {
    /// Now. The operation must leave later.
    Now,
    /// It is kept and submitted later.
    Later,
    /// No: its completion would go to a queue.
    Queued,
}

/// A blocking call in progress on the image.
#[derive(Debug)]
pub(in crate::raw) struct Passage<'a>(&'a Target);

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.blocking.fetch_sub(1, Ordering::Release);
    }
}

/// A hold. While it lives, operations are kept and the image is not closed.
#[derive(Debug)]
pub(in crate::raw) struct Hold(Arc<Target>);

impl Hold {
    /// Returns whether all earlier operations have ended.
    pub(in crate::raw) fn is_drained(&self) -> bool {
        let target = &*self.0;
        target.state.load(Ordering::SeqCst) % CALL < ONE
            && target.blocking.load(Ordering::SeqCst) == 0
            && target.queue.get().is_none_or(|queue| !queue.is_busy())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let target = &*self.0;
        let mut kept = target.holds.kept();
        kept.holds -= 1;
        if kept.holds > 0 {
            return;
        }
        // Later operations ask for the size first, which makes librbd read the header.
        target.size().changed();
        // The hold becomes an operation, which keeps the image open until the kept operations have
        // begun.
        target.state.fetch_add(ONE - HELD, Ordering::SeqCst);
        let operations = std::mem::take(&mut kept.operations);
        drop(kept);
        target.holds.released.notify_all();
        for submit in operations {
            submit();
        }
        // SAFETY: entered above; the Arc keeps it valid.
        unsafe { Target::leave(target) };
    }
}

impl Target {
    /// Begins an operation with a callback, or keeps the one that `later` returns. Must not be
    /// called after [`close`](Target::close).
    pub(in crate::raw) fn begin(&self, later: impl FnOnce() -> Later) -> Entered {
        let before = self.state.fetch_add(ONE, Ordering::SeqCst);
        let entered = if before & QUEUED != 0 {
            Entered::Queued
        } else if before & HELD != 0 && self.keep_for_later(later) {
            Entered::Later
        } else {
            return Entered::Now;
        };
        // SAFETY: entered above. This does not close the image: its owner is submitting, or another
        // operation is in flight.
        unsafe { Target::leave(self) };
        entered
    }

    /// Keeps an operation if the image is held. Returns whether it was kept.
    pub(in crate::raw) fn keep_for_later(&self, later: impl FnOnce() -> Later) -> bool {
        if self.state.load(Ordering::SeqCst) & HELD == 0 {
            return false;
        }
        let mut kept = self.holds.kept();
        let held = kept.holds > 0;
        if held {
            kept.operations.push(later());
        }
        held
    }

    /// Begins a blocking call. Waits while the image is held. Fails on a thread of librbd, which
    /// must not wait.
    pub(in crate::raw) fn pass(&self) -> RawResult<Passage<'_>> {
        loop {
            self.blocking.fetch_add(1, Ordering::SeqCst);
            let passage = Passage(self);
            if self.state.load(Ordering::SeqCst) & HELD == 0 {
                return Ok(passage);
            }
            drop(passage);
            if must_not_call() {
                return Err(Errno::EDEADLK);
            }
            let mut kept = self.holds.kept();
            while kept.holds > 0 {
                kept = self.holds.released.wait(kept).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Holds the image: keeps operations that begin from now on. Returns `None` if the image is
    /// closed, or is closing with nothing in flight.
    pub(in crate::raw) fn hold(self: Arc<Self>) -> Option<Hold> {
        let mut kept = self.holds.kept();
        let open = |state: u64| (state & !QUEUED != CLOSING).then_some(state | HELD);
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, open).ok()?;
        kept.holds += 1;
        drop(kept);
        Some(Hold(self))
    }
}
