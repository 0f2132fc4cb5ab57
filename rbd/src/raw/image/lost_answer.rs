//! Answers of the exclusive lock's owner that librbd loses.
//!
//! The owner carries out a change for other handles, and announces the end of the change. When the
//! lock changes hands, librbd cancels the requests of the other handles and sends them again with
//! the same number. It cancels on a separate thread. On a busy machine this happens so late that it
//! hits a request to the new owner. If the new owner has completed the change by then, it accepts
//! the request again and announces nothing. librbd repeats the request every 30 s, and gets the
//! same answer each time, so the call never returns (seen with 16.2).
//!
//! The call returns once its handle owns the lock: then librbd makes the change itself, and finds
//! it made. A flush acquires the lock.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use librbd_sys as sys;

use crate::raw::image::Image;
use crate::raw::thread::worker::start;

/// The time until a change that is visible counts as one whose answer was lost. If it is not lost,
/// the flush only moves the lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// A change that the owner of the lock may make for this handle. It has ended when this is dropped.
pub(super) struct Change(Arc<Ended>);

#[derive(Default)]
struct Ended {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    /// Waits for the end, but not longer than the patience. Returns whether the change has ended.
    fn wait(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, PATIENCE, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Change {
    /// Watches the call that makes the change, on another thread. `is_made` returns whether the
    /// change is visible.
    pub(super) fn watch(image: &Image, is_made: impl Fn(&Image) -> bool + Send + 'static) -> Change {
        let ended = Arc::<Ended>::default();
        let (shared, change) = (image.share(), Change(Arc::clone(&ended)));
        // Without a thread, the call timeout ends the call.
        let _ = start(move || {
            while !ended.wait() {
                if is_made(&shared) {
                    // SAFETY: the image is open as long as it is shared. This is a thread of this
                    // crate.
                    let _ = unsafe { sys::rbd_flush(shared.as_ptr()) };
                }
            }
        });
        change
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}
