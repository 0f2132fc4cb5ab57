//! Timeouts of operations.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::op::OperationContext;
use super::timer::Alarm;
use super::wait;
use crate::errno::Errno;
use crate::error::Result;

/// An operation that is given up on after a while: `image.aio().read(0,
/// 4096).timeout(Duration::from_secs(5))`.
///
/// The time runs from the call of `timeout`. A completed operation wins, even with a zero timeout.
/// When the time is over, the future fails with [`TimedOut`](crate::ErrorKind::TimedOut) and the
/// operation goes on by itself: a write may still take effect, an image still opened is closed
/// again. Its buffers are freed when it ends; that is all a stuck operation costs. With librbd's
/// cache a write can end in time while no OSD answers: give the flush a timeout, too. Closing the
/// image still waits for it, so do that in the background, as images do that were opened by
/// `await`. One thread of this crate's, started at the first use, keeps the times of all that are
/// awaited; an executor that polls inside the wake must not block on it, no more than on librbd's
/// threads: see [`Op`](super::Op).
#[must_use = "the operation goes on without it, but nobody will hear how it ends"]
#[derive(Debug)]
pub struct Timeout<F> {
    /// `None` once it was given up on.
    future: Option<F>,
    about: OperationContext,
    after: Duration,
    /// `None` for never.
    end: Option<Instant>,
    alarm: Option<Alarm>,
    /// Whoever polls comes back at the end by themselves.
    waits: bool,
}

/// Waits on this thread until it is ready, or gives up as long as blocking calls take.
pub(super) fn wait<T>(future: impl Future<Output = Result<T>> + Unpin, about: OperationContext) -> Result<T> {
    match about.patience {
        Some(after) => Timeout::new(future, about, after).wait(),
        None => wait::wait_until(future, &about, None),
    }
}

impl<T, F: Future<Output = Result<T>> + Unpin> Timeout<F> {
    pub(super) fn new(future: F, about: OperationContext, after: Duration) -> Timeout<F> {
        Timeout {
            future: Some(future),
            about,
            after,
            end: Instant::now().checked_add(after),
            alarm: None,
            waits: false,
        }
    }

    /// Waits for the end of the operation, or of the time, on this thread. Blocks.
    pub fn wait(mut self) -> Result<T> {
        let about = self.about.clone();
        // This thread keeps the time itself.
        let end = self.end;
        self.waits = true;
        wait::wait_until(self, &about, end)
    }
}

/// # Panics
/// When it is polled again after it was ready.
impl<T, F: Future<Output = Result<T>> + Unpin> Future for Timeout<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let future = this.future.as_mut().expect("polled after it was ready");
        if let Poll::Ready(outcome) = Pin::new(future).poll(context) {
            this.alarm = None;
            return Poll::Ready(outcome);
        }
        let Some(end) = this.end else { return Poll::Pending };
        if Instant::now() >= end {
            this.alarm = None;
            this.future = None;
            return Poll::Ready(Err(this.about.timed_out(this.after)));
        }
        match &mut this.alarm {
            _ if this.waits => {}
            Some(alarm) => alarm.set_waker(context.waker()),
            none => match Alarm::new(end, context.waker().clone()) {
                Ok(alarm) => *none = Some(alarm),
                Err(error) => {
                    this.future = None;
                    let errno = Errno::of(&error).unwrap_or(Errno::EAGAIN);
                    let why = format!("no thread can be started to keep its time; {}", this.about.goes_on());
                    return Poll::Ready(Err(this.about.error(errno).with_detail(why)));
                }
            },
        }
        Poll::Pending
    }
}
