//! The size of an image, as far as it can be told without waiting for the cluster.
//!
//! When a client changes an image's header, librbd reads it again before the next thing it does. For `rbd_get_size` the caller
//! waits for that, and cannot know beforehand whether it will; for an asynchronous operation librbd does it by itself. So
//! a thread that submits one never asks for the size. It is first known when the image is opened. After a change a thread in
//! the background asks for it, once an operation that was submitted later has ended, since that makes librbd read the header
//! in any case. Until there is an answer, ranges are checked against the size before the change.

use std::sync::{Mutex, PoisonError};

use crate::raw::op::header::HeaderChanges;

#[derive(Debug)]
pub(crate) struct KnownSize {
    /// The size, and how many changes of the header had been heard of when it was asked for.
    size: Mutex<Option<(u64, usize)>>,
}

/// How a range can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizeCheck {
    /// Against this size.
    Current(u64),
    /// Against this size, but librbd knows a newer one by now: somebody has to ask for it.
    Stale(u64),
    /// Against what librbd says once it has read the header: the image may have grown by enough.
    Unknown,
}

impl KnownSize {
    pub(crate) fn new() -> KnownSize {
        KnownSize { size: Mutex::new(None) }
    }

    /// Notes the size that was asked for after so many changes.
    pub(crate) fn learn(&self, size: u64, changes: usize) {
        let mut known = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|(_, before)| before <= changes) {
            *known = Some((size, changes));
        }
    }

    /// Returns how a range with this end can be checked.
    pub(crate) fn for_end(&self, end: u64, header: &HeaderChanges) -> SizeCheck {
        let Some((size, learnt)) = *self.size.lock().unwrap_or_else(PoisonError::into_inner) else {
            return SizeCheck::Unknown;
        };
        let changes = header.heard();
        if learnt >= changes {
            return SizeCheck::Current(size);
        }
        match (end <= size, header.is_read(changes)) {
            (true, false) => SizeCheck::Current(size),
            (true, true) => SizeCheck::Stale(size),
            (false, _) => SizeCheck::Unknown,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_changed_size_is_asked_for_after_an_operation_has_ended() {
        let (known, header) = (KnownSize::new(), HeaderChanges::new());
        let checks = || [known.for_end(100, &header), known.for_end(101, &header)];
        assert_eq!(known.for_end(0, &header), SizeCheck::Unknown);
        known.learn(100, header.heard());
        assert_eq!(checks(), [SizeCheck::Current(100); 2], "exact");
        let before = header.heard();
        header.changed();
        header.was_read(before);
        assert_eq!(checks(), [SizeCheck::Current(100), SizeCheck::Unknown]);
        let after = header.heard();
        header.was_read(after);
        assert_eq!(checks(), [SizeCheck::Stale(100), SizeCheck::Unknown]);
        known.learn(50, after);
        known.learn(100, before);
        assert_eq!(known.for_end(80, &header), SizeCheck::Current(50), "an answer that comes late is older");
    }
}
