//! Timeouts of operations.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::op::OperationContext;
use super::timer::Alarm;
use crate::errno::Errno;
use crate::error::Result;
use crate::raw::thread::park;

/// An operation with a timeout: `image.aio().read(0, 4096).timeout(Duration::from_secs(5))`.
///
/// The time starts with the call of `timeout`. A completed operation returns its result, even with
/// a zero timeout. After the timeout, the future fails with
/// [`TimedOut`](crate::ErrorKind::TimedOut), and the operation completes in the background: a write
/// may still take effect, and an image that is still opened is closed again. The buffers are freed
/// when the operation completes. Closing the image still waits for the operation. In asynchronous
/// code, [close in the background](crate::Image::set_close_in_background). Images that were opened by
/// `await` do so.
///
/// With librbd's cache, a write can complete in time while no OSD answers: set a timeout for the
/// flush too.
///
/// One thread of this crate, started at the first use, serves all timeouts. An executor that polls
/// inside the wake must not block on this thread, as on librbd's threads: see [`Op`](super::Op).
#[must_use = "the operation continues without it, but its result is lost"]
#[derive(Debug)]
pub struct Timeout<F> {
    /// `None` after the timeout.
    future: Option<F>,
    about: OperationContext,
    after: Duration,
    /// `None` for no timeout.
    end: Option<Instant>,
    alarm: Option<Alarm>,
    /// Whether the poller itself polls again at the deadline.
    waits: bool,
}

/// Waits on this thread until it is ready, or gives up as long as blocking calls take.
pub(super) fn wait<T>(future: impl Future<Output = Result<T>> + Unpin, about: OperationContext) -> Result<T> {
    match about.patience {
        Some(after) => Timeout::new(future, about, after).wait(),
        None => wait_until(future, &about, None),
    }
}

fn wait_until<T>(
    future: impl Future<Output = Result<T>> + Unpin,
    about: &OperationContext,
    end: Option<Instant>,
) -> Result<T> {
    park::wait_until(future, end).unwrap_or_else(|| {
        Err(about.error(Errno::EDEADLK).with_detail(
            "a callback or wake on a thread of librbd or of a timer cannot wait for librbd; wait on \
                          another thread",
        ))
    })
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

    /// Waits on this thread until the operation completes or the timeout ends. Blocks.
    pub fn wait(mut self) -> Result<T> {
        let about = self.about.clone();
        // This thread watches the deadline itself.
        let end = self.end;
        self.waits = true;
        wait_until(self, &about, end)
    }
}

/// # Panics
/// Panics if it is polled again after it was ready.
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
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::EAGAIN);
                    let why = format!("no thread can be started for its timeout; {}", this.about.goes_on());
                    return Poll::Ready(Err(this.about.error(errno).with_detail(why)));
                }
            },
        }
        Poll::Pending
    }
}
