//! The operations that a held image keeps until the hold is over.

use crate::raw::op::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A function that submits a kept operation.
pub(in crate::raw) type Later = Box<dyn FnOnce() + Send>;

/// The holds on an image, and the operations that they keep.
pub(super) struct Holds {
    kept: Mutex<Kept>,
    /// Signals the end of the last hold.
    pub(super) released: Condvar,
}

#[derive(Default)]
pub(super) struct Kept {
    /// How many shrinks hold the image.
    pub(super) holds: usize,
    pub(super) operations: Vec<Later>,
}

impl Holds {
    pub(super) fn new() -> Holds {
        Holds { kept: Mutex::new(Kept::default()), released: Condvar::new() }
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
