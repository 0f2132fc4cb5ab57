//! What an open image shares with its operations, its queue and its watch of the header.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::raw::image::known_size::KnownSize;
use crate::raw::op::target::Target;
use crate::raw::thread::exit::Busy;

/// Freed after the operations in flight have left.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) size: KnownSize,
    /// What a queue leaves here until the image is closed: librbd may write to its descriptor.
    queue: OnceLock<Arc<dyn Busy>>,
    /// Held by the one who loads or writes the encryption: librbd fails an assertion where two do
    /// (seen with 16.2).
    encryption: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new() -> Shared {
        Shared {
            target: Target::new(),
            size: KnownSize::new(),
            queue: OnceLock::new(),
            encryption: Mutex::new(()),
        }
    }

    /// Waits for whoever is at the encryption.
    pub(super) fn encryption(&self) -> MutexGuard<'_, ()> {
        self.encryption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what librbd may use until the image is closed, of the queue that has begun.
    pub(crate) fn keep(&self, queue: Arc<dyn Busy>) {
        // There is one queue at most.
        let _ = self.queue.set(queue);
    }
}

impl Busy for Shared {
    /// Completions in an abandoned queue are counted through its descriptor.
    fn is_busy(&self) -> bool {
        !self.target.in_flight.is_empty() || self.queue.get().is_some_and(|queue| queue.is_busy())
    }
}
