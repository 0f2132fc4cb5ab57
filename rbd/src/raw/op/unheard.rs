//! Changes and flushes that failed, and whose errors nobody has received: their futures were
//! dropped, or the wait for them was given up.
//!
//! librbd cannot cancel an operation. So a timeout or a dropped future does not say whether the
//! operation was done. If it failed later, closing the image says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::raw::op::fault::Fault;
use crate::raw::op::kind::Kind;

/// How many failures an image keeps. Closing returns the first one.
const MOST: usize = 16;

/// A change or a flush that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) fault: Fault,
}

/// A failure that nobody has received yet.
#[derive(Debug)]
pub(crate) struct Unheard(Arc<(Failed, AtomicBool)>);

impl Unheard {
    /// Records that somebody has received the failure.
    pub(crate) fn hear(&self) {
        self.0.1.store(true, Ordering::Release);
    }

    fn is_heard(&self) -> bool {
        self.0.1.load(Ordering::Acquire)
    }
}

/// The failures of the operations of an image.
#[derive(Debug, Default)]
pub(in crate::raw) struct Failures(Mutex<Vec<Unheard>>);

impl Failures {
    /// Keeps a failure until it is heard.
    pub(in crate::raw) fn note(&self, failed: Failed) -> Unheard {
        let shared = Arc::new((failed, AtomicBool::new(false)));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| !one.is_heard());
        if kept.len() < MOST {
            kept.push(Unheard(Arc::clone(&shared)));
        }
        Unheard(shared)
    }

    /// Returns the first failure that nobody has received.
    pub(in crate::raw) fn first(&self) -> Option<Failed> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|one| !one.is_heard()).map(|one| one.0.0.clone())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::errno::Errno;

    fn failed(offset: u64) -> Failed {
        Failed { kind: Kind::Write, offset, len: 1, fault: Errno::EIO.into() }
    }

    #[test]
    fn the_first_that_nobody_has_received_is_told() {
        let failures = Failures::default();
        assert_eq!(failures.first(), None);
        let [one, _two] = [1, 2].map(|offset| failures.note(failed(offset)));
        assert_eq!(failures.first(), Some(failed(1)));
        one.hear();
        assert_eq!(failures.first(), Some(failed(2)));
    }

    #[test]
    fn not_all_are_kept() {
        let failures = Failures::default();
        (0..100).for_each(|offset| drop(failures.note(failed(offset))));
        assert_eq!(failures.0.lock().unwrap().len(), MOST);
        assert_eq!(failures.first(), Some(failed(0)));
        let heard = Failures::default();
        (0..100).for_each(|offset| heard.note(failed(offset)).hear());
        assert!(heard.0.lock().unwrap().len() <= 1);
    }
}
