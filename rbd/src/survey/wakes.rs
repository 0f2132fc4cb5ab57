//! The wakes of the thread of a survey.
//!
//! To wake a thread costs a good part of a query. So the thread sleeps until several of the images
//! in flight can go on, but not long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// How long an image that can go on waits for others.
const PATIENCE: Duration = Duration::from_millis(5);

/// The images that can go on.
#[derive(Default)]
pub(super) struct Wakes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    slots: Vec<usize>,
    /// How many images the thread sleeps for; 0 if it is awake.
    wanted: usize,
    ended: bool,
}

/// A waker for one of the images in flight.
struct ImageWaker(usize, Arc<Wakes>);

impl Wake for ImageWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.1.push(self.0);
    }
}

impl Wakes {
    pub(super) fn waker(self: &Arc<Wakes>, slot: usize) -> Waker {
        Waker::from(Arc::new(ImageWaker(slot, Arc::clone(self))))
    }

    /// Tells the thread to end.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn push(&self, slot: usize) {
        let mut state = self.lock();
        state.slots.push(slot);
        if state.wanted > 0 && state.slots.len() >= state.wanted {
            state.wanted = 0;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Adds the images that can go on. Sleeps until there are `wanted`, but no longer than
    /// [`PATIENCE`] if there is one. Returns false if the thread is to end.
    pub(super) fn wait(&self, wanted: usize, slots: &mut Vec<usize>) -> bool {
        let mut state = self.lock();
        let end = Instant::now() + PATIENCE;
        while !state.ended && state.slots.len() < wanted {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            state.wanted = wanted;
            state = self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        while !state.ended && wanted > 0 && state.slots.is_empty() {
            state.wanted = 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted = 0;
        slots.append(&mut state.slots);
        !state.ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_thread_sleeps_for_several_images_but_not_long() {
        let wakes = &Arc::new(Wakes::default());
        let mut slots = Vec::new();
        assert!(wakes.wait(0, &mut slots) && slots.is_empty());
        wakes.waker(7).wake();
        wakes.waker(8).wake_by_ref();
        assert!(wakes.wait(2, &mut slots));
        assert_eq!(slots, [7, 8]);
        // One is enough after a while.
        wakes.waker(9).wake();
        let begun = Instant::now();
        assert!(wakes.wait(2, &mut slots));
        assert_eq!(slots, [7, 8, 9]);
        assert!(begun.elapsed() >= PATIENCE);
        // Also if it comes later.
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(4 * PATIENCE);
                wakes.waker(5).wake();
            });
            slots.clear();
            assert!(wakes.wait(2, &mut slots));
            assert_eq!(slots, [5]);
            scope.spawn(|| {
                thread::sleep(4 * PATIENCE);
                wakes.end();
            });
            assert!(!wakes.wait(2, &mut slots));
        });
        assert!(!wakes.wait(0, &mut slots));
    }
}
