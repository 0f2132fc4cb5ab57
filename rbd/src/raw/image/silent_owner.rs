//! A resize whose end this client never hears of.
//!
//! [`lost_answer`](super::lost_answer) repeats what the owner of the exclusive lock announces. It
//! cannot do so if the owner announces nothing, or if its own watch was lost. Such a resize ends
//! once its handle owns the lock: then librbd makes the change itself, and finds it made. A flush
//! acquires the lock, unless its owner keeps it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::progress::Progress;
use crate::raw::image::Image;
use crate::raw::thread::worker::start;

/// The time until a change that is visible counts as one whose answer was lost. If it is not lost,
/// the flush only moves the lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// After so many times the patience without a report of progress, the answer counts as lost
/// although the change is not visible: another client may have made another change since. Before
/// that, librbd has repeated its request once.
const SILENT: u32 = 11;

/// A change that the owner of the lock may make for this handle. It has ended when this is dropped.
pub(super) struct Change(Arc<State>);

#[derive(Default)]
struct State {
    ended: Mutex<bool>,
    changed: Condvar,
    /// How many reports of progress have arrived.
    reports: AtomicUsize,
}

impl State {
    /// Waits for the end, but not longer than the patience. Returns whether the change has ended.
    fn wait(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, PATIENCE, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How long nothing has been heard of a change.
#[derive(Default)]
struct Silence {
    /// The reports of progress so far.
    reports: usize,
    /// How often the patience has passed since the last report.
    passed: u32,
}

impl Silence {
    /// Returns whether the answer counts as lost. Is called each time the patience has passed.
    fn is_lost(&mut self, reports: usize, is_made: impl FnOnce() -> bool) -> bool {
        let passed = if reports == self.reports { self.passed + 1 } else { 0 };
        let is_lost = passed >= SILENT || is_made();
        *self = Silence { reports, passed: if is_lost { 0 } else { passed } };
        is_lost
    }
}

impl Change {
    /// Watches the call that makes the change, on another thread. `is_made` returns whether the
    /// change is visible.
    pub(super) fn watch(image: &Image, is_made: impl Fn(&Image) -> bool + Send + 'static) -> Change {
        let state = Arc::<State>::default();
        let (shared, change) = (image.share(), Change(Arc::clone(&state)));
        // Without a thread, the call timeout ends the call.
        let _ = start(move || {
            let mut silence = Silence::default();
            while !state.wait() {
                if silence.is_lost(state.reports.load(Ordering::Relaxed), || is_made(&shared)) {
                    // Fails while another client keeps the lock.
                    let _ = shared.flush();
                }
            }
        });
        change
    }

    /// Passes on the reports of progress of the call. While they arrive, the owner is at work.
    pub(super) fn listen<'a>(&self, mut progress: Progress<'a>) -> Progress<'a> {
        let state = Arc::clone(&self.0);
        Progress::new(move |done, total| {
            state.reports.fetch_add(1, Ordering::Relaxed);
            progress.step(done, total)
        })
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_visible_change_is_lost() {
        let mut silence = Silence::default();
        assert!(!silence.is_lost(0, || false));
        assert!(silence.is_lost(0, || true));
        assert!(silence.is_lost(1, || true));
    }

    #[test]
    fn the_answer_is_lost_after_a_long_silence() {
        let mut silence = Silence::default();
        for _ in 0..2 {
            assert!((1..SILENT).all(|_| !silence.is_lost(0, || false)));
            assert!(silence.is_lost(0, || false));
        }
    }

    #[test]
    fn a_report_ends_the_silence() {
        let state = Arc::<State>::default();
        let change = Change(Arc::clone(&state));
        let mut steps = Vec::new();
        let mut progress = change.listen(Progress::new(|done, total| {
            steps.push((done, total));
            std::ops::ControlFlow::Continue(())
        }));
        let mut silence = Silence::default();
        for done in 0..3 {
            assert!(progress.step(done, 3).is_continue());
            let is_lost = || silence.is_lost(state.reports.load(Ordering::Relaxed), || false);
            assert_eq!(std::iter::repeat_with(is_lost).take_while(|lost| !lost).count(), 11);
        }
        drop(progress);
        assert_eq!(steps, [(0, 3), (1, 3), (2, 3)]);
    }
}
