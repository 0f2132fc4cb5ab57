//! Closing images without blocking.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::op::OperationContext;
use super::reasons::Reasons;
use super::timeout::{self, Timeout};
use crate::error::{Error, Result};
use crate::image::{Image, explain_close};
use crate::raw::RawResult;
use crate::raw::image::closing::CloseFailure;
use crate::raw::op::operation::Operation;

/// An image that is being closed: see [`Image::start_close`].
///
/// Dropping it does not stop the closing.
#[must_use = "closing continues without it, but its result is lost"]
#[derive(Debug)]
pub struct Closing {
    state: State,
    about: OperationContext,
    reasons: Reasons,
}

#[derive(Debug)]
enum State {
    Closing(RawResult<Operation<Result<(), CloseFailure>>>),
    Failed(Option<Error>),
    Told,
}

impl Image {
    /// Starts to close the image and returns at once. The image is closed after all I/O in flight.
    ///
    /// Flushes first and reports which step failed, as [`close`](Image::close) does.
    ///
    /// Implements: `rbd_aio_close`.
    #[doc(alias = "rbd_aio_close")]
    pub fn start_close(self) -> Closing {
        let (raw, ioctx, image) = self.into_parts();
        let reasons = Reasons::new(&ioctx);
        let about = OperationContext {
            image,
            operation: "close",
            range: None,
            explain: std::convert::identity,
            patience: ioctx.cluster().raw().call_timeout(),
        };
        event!(about);
        Closing { state: State::Closing(raw.start_close()), about, reasons }
    }
}

impl Closing {
    /// Waits on this thread until the image is closed. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout); after that, closing continues in the
    /// background.
    pub fn wait(self) -> Result<()> {
        let about = self.about.clone();
        timeout::wait(self, about)
    }

    /// Limits the wait for the closing. See [`Timeout`].
    pub fn timeout(self, timeout: Duration) -> Timeout<Closing> {
        let about = self.about.clone();
        Timeout::new(self, about, timeout)
    }
}

#[cfg(feature = "tracing")]
impl Drop for Closing {
    fn drop(&mut self) {
        if !matches!(self.state, State::Told) {
            crate::events::left(self.about.subject());
        }
    }
}

/// # Panics
/// Panics if it is polled again after it was ready.
impl Future for Closing {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Closing { state, about, reasons } = &mut *self;
        loop {
            *state = match state {
                State::Closing(Ok(closing)) => match ready!(closing.poll(context)) {
                    Ok(Ok(())) => {
                        *state = State::Told;
                        event!(about, None::<&crate::errno::Errno>);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(Err(failure)) => {
                        event!(about, Some(&failure));
                        let error = about.error(failure.errno);
                        State::Failed(Some(explain_close(&about.image, error, failure)))
                    }
                    Err(errno) => State::Closing(Err(errno)),
                },
                State::Closing(Err(errno)) => {
                    event!(about, Some(&*errno));
                    State::Failed(Some(about.error(*errno)))
                }
                State::Failed(error) => {
                    let log = ready!(reasons.poll(context));
                    let error = error.take().expect("reported once").with_log(log);
                    *state = State::Told;
                    return Poll::Ready(Err(error));
                }
                State::Told => panic!("polled after it was ready"),
            };
        }
    }
}
