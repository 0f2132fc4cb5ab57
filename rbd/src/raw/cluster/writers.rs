//! The images that a connection has open for writing, and those whose exclusive lock was not
//! released when they were closed.

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

/// An image: the id of its pool, and its own.
pub(in crate::raw) type ImageKey = (i64, String);

/// The images that a connection has open for writing, and the locks that were not released.
#[derive(Debug, Default)]
pub(in crate::raw) struct Writers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The images that are open, each with a value that lives as long as its handle.
    open: Vec<(ImageKey, Weak<dyn Any + Send + Sync>)>,
    /// The images whose lock was not released.
    left: Vec<ImageKey>,
}

impl Writers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an image that was opened for writing. Returns true if an earlier handle did not
    /// release its lock and no other handle is open.
    pub(in crate::raw) fn opened(&self, key: &ImageKey, handle: Weak<dyn Any + Send + Sync>) -> bool {
        let mut known = self.lock();
        known.open.retain(|(_, handle)| handle.strong_count() > 0);
        let alone = !known.open.iter().any(|(other, _)| other == key);
        known.open.push((key.clone(), handle));
        alone && known.left.contains(key)
    }

    /// Returns whether at most one handle of this connection has the image open for writing.
    pub(in crate::raw) fn is_alone(&self, key: &ImageKey) -> bool {
        let known = self.lock();
        known.open.iter().filter(|(other, handle)| other == key && handle.strong_count() > 0).count() <= 1
    }

    pub(in crate::raw) fn stayed(&self, key: ImageKey) {
        let mut known = self.lock();
        if !known.left.contains(&key) {
            known.left.push(key);
        }
    }

    pub(in crate::raw) fn dropped(&self, key: &ImageKey) {
        self.lock().left.retain(|other| other != key);
    }
}
