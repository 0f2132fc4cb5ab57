//! The channel from the thread that queries images to the consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::SurveyedImage;
use super::drive::OPERATION;
use super::wakes::Wakes;
use crate::aio::timer::Alarm;
use crate::cluster::forked;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::ioctx::IoCtx;
use crate::raw::thread::catch_panic::catch_panic;

/// The largest number of images that wait for the consumer. The consumer may hold as many again.
pub(super) const ROOM: usize = 128;

pub(super) type Item = Result<SurveyedImage>;

/// The receiving end.
pub(super) struct Consumer {
    pub(super) handover: Arc<Handover>,
    pub(super) ioctx: IoCtx,
    pub(super) timeout: Option<Duration>,
    /// Images that were taken out together, so that not each of them takes the lock.
    pub(super) taken: VecDeque<Item>,
    /// A forked process has got its error.
    pub(super) refused: bool,
}

/// The images that wait for the consumer.
pub(super) struct Handover {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[allow(clippy::struct_excessive_bools)] // independent of each other
struct Waiting {
    images: VecDeque<Item>,
    waker: Option<Waker>,
    /// The consumer sleeps until an image arrives.
    consumer_sleeps: bool,
    /// The thread that queries images sleeps until there is room.
    driver_sleeps: bool,
    /// No more images follow.
    ended: bool,
    /// The consumer was dropped.
    left: bool,
    /// Ends the thread.
    wakes: Arc<Wakes>,
}

/// The timeout of a task that awaits an image.
#[derive(Debug, Default)]
pub(super) struct Patience {
    end: Option<Instant>,
    alarm: Option<Alarm>,
}

/// Marks the end when it is dropped.
pub(super) struct End(pub(super) Arc<Handover>);

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        self.0.tell(state);
    }
}

impl Handover {
    /// Makes a channel from the thread with these wakes.
    pub(super) fn new(wakes: Arc<Wakes>) -> Handover {
        let images = VecDeque::new();
        let state = Waiting {
            images,
            waker: None,
            consumer_sleeps: false,
            driver_sleeps: false,
            ended: false,
            left: false,
            wakes,
        };
        Handover { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, mut state: MutexGuard<'_, Waiting>) {
        let waker = state.waker.take();
        let sleeps = std::mem::take(&mut state.consumer_sleeps);
        drop(state);
        if sleeps {
            self.changed.notify_all();
        }
        if let Some(waker) = waker {
            // A panic of the waker must not end the survey.
            catch_panic(|| waker.wake());
        }
    }

    /// Passes images to the consumer, and wakes it once for all of them. Blocks until there is
    /// room. Returns false if the consumer was dropped.
    pub(super) fn push(&self, images: &mut Vec<Item>) -> bool {
        let mut images = images.drain(..);
        while images.len() > 0 {
            let mut state = self.lock();
            while state.images.len() >= ROOM && !state.left {
                state.driver_sleeps = true;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.left {
                return false;
            }
            let room = ROOM - state.images.len();
            state.images.extend(images.by_ref().take(room));
            self.tell(state);
        }
        true
    }

    /// Takes all images out.
    fn take(&self, state: &mut Waiting, taken: &mut VecDeque<Item>) {
        std::mem::swap(&mut state.images, taken);
        if std::mem::take(&mut state.driver_sleeps) {
            self.changed.notify_all();
        }
    }
}

impl Consumer {
    /// Returns one error, and then the end, if this process was forked from the one with the thread
    /// that queries images. That thread may have held the lock, so the lock is not touched.
    fn refuse_fork(&mut self) -> Option<Option<Item>> {
        if !self.is_forked() {
            return None;
        }
        let again = std::mem::replace(&mut self.refused, true);
        Some((!again).then(|| Err(forked(OPERATION, self.ioctx.pool_object()))))
    }

    fn is_forked(&self) -> bool {
        self.ioctx.raw().is_forked()
    }

    pub(super) fn wait(&mut self) -> Option<Item> {
        if let Some(refused) = self.refuse_fork() {
            return refused;
        }
        if let Some(image) = self.taken.pop_front() {
            return Some(image);
        }
        let end = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.handover.lock();
        loop {
            self.handover.take(&mut state, &mut self.taken);
            if let Some(image) = self.taken.pop_front() {
                return Some(image);
            }
            if state.ended {
                return None;
            }
            state.consumer_sleeps = true;
            state = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Some(Err(self.too_late(&mut state))),
                Some(rest) => {
                    let waited = self.handover.changed.wait_timeout(state, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.handover.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>, patience: &mut Patience) -> Poll<Option<Item>> {
        if let Some(refused) = self.refuse_fork() {
            return Poll::Ready(refused);
        }
        if let Some(image) = self.taken.pop_front() {
            return Poll::Ready(Some(image));
        }
        let mut state = self.handover.lock();
        self.handover.take(&mut state, &mut self.taken);
        if let Some(image) = self.taken.pop_front() {
            drop(state);
            *patience = Patience::default();
            return Poll::Ready(Some(image));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let now = Instant::now();
        patience.end = patience.end.or_else(|| now.checked_add(self.timeout?));
        if patience.end.is_some_and(|end| end <= now) {
            return Poll::Ready(Some(Err(self.too_late(&mut state))));
        }
        let old = state.waker.replace(context.waker().clone());
        drop(state);
        // User code runs outside the lock.
        drop(old);
        match (&mut patience.alarm, patience.end) {
            (Some(alarm), _) => alarm.set_waker(context.waker()),
            (none, Some(end)) => match Alarm::new(end, context.waker().clone()) {
                Ok(alarm) => *none = Some(alarm),
                Err(error) => {
                    self.handover.lock().ended = true;
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::EAGAIN);
                    let error = Error::new(OPERATION, self.ioctx.pool_object(), errno);
                    let why = "no thread can be started for its timeout; the survey has ended";
                    return Poll::Ready(Some(Err(error.with_detail(why))));
                }
            },
            (_, None) => {}
        }
        Poll::Pending
    }

    /// Ends the survey with an error. Later images are not waited for.
    fn too_late(&self, state: &mut Waiting) -> Error {
        state.ended = true;
        let error = Error::new(OPERATION, self.ioctx.pool_object(), Errno::ETIMEDOUT);
        error.timed_out(self.timeout.unwrap_or_default(), false)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.is_forked() {
            std::mem::forget(Arc::clone(&self.handover));
            return;
        }
        let mut state = self.handover.lock();
        state.left = true;
        state.wakes.end();
        let images = std::mem::take(&mut state.images);
        drop(state);
        self.handover.changed.notify_all();
        drop(images);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("ioctx", &self.ioctx).finish_non_exhaustive()
    }
}
