//! Opening images without blocking.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::op::OperationContext;
use super::reasons::Reasons;
use super::timeout::{self, Timeout};
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::image::{Image, OpenImage, Parts, explain_open};
use crate::raw::thread::mark::ThreadOfUser;
use crate::raw::thread::worker::{Started, start};
use crate::raw::{self, RawResult};

/// An image that is being opened: see [`OpenImage::start`].
///
/// Fails with the same errors as [`OpenImage::run`]. If the pool, the image or the snapshot is
/// missing, a thread of this crate finds out which one.
///
/// Dropping it does not stop the opening. The image is then opened and closed again in the
/// background.
#[must_use = "the image is closed again if this is dropped"]
#[derive(Debug)]
pub struct Opening {
    state: State,
    about: OperationContext,
    /// `None` for a refused request. Declared after the state, so that it has the last reference to
    /// the connection.
    reasons: Option<Reasons>,
}

#[derive(Debug)]
enum State {
    Opening {
        op: raw::op::operation::Operation<raw::image::Image>,
        parts: Option<Parts>,
    },
    /// Opening failed, and the connection's log is being read.
    Failed {
        errno: Errno,
        parts: Option<Parts>,
    },
    /// Opening failed, and the missing object is being looked up.
    Explaining(Started<Error>),
    /// Refused before librbd was called. `None` after the result was taken.
    Refused(Option<Error>),
}

impl OpenImage<'_> {
    /// Starts to open the image and returns at once. `ioctx.open("foo").await` is short for this.
    ///
    /// Dropping such an image does not block: it is [closed in the
    /// background](Image::set_close_in_background). A short-lived thread completes the opening. If no
    /// thread can be started, opening fails with `EAGAIN`.
    ///
    /// ```no_run
    /// # async fn example(ioctx: rbd::IoCtx) -> rbd::Result<()> {
    /// use std::time::Duration;
    ///
    /// let opening = ioctx.open("foo").read_only(true).start();
    /// let image = opening.timeout(Duration::from_secs(10)).await?;
    /// let first = image.aio().read(0, 4096).await?;
    /// image.start_close().await
    /// # }
    /// ```
    ///
    /// Implements: `rbd_aio_open`, `rbd_aio_open_read_only`, `rbd_aio_open_by_id`,
    /// `rbd_aio_open_by_id_read_only`.
    #[doc(alias = "rbd_aio_open")]
    #[doc(alias = "rbd_aio_open_read_only")]
    #[doc(alias = "rbd_aio_open_by_id")]
    #[doc(alias = "rbd_aio_open_by_id_read_only")]
    pub fn start(self) -> Opening {
        let about = OperationContext {
            image: Arc::new(self.label()),
            operation: "open",
            range: None,
            explain: explain_open,
            patience: self.call_timeout(),
        };
        let refused =
            |error| Opening { state: State::Refused(Some(error)), about: about.clone(), reasons: None };
        let parts = match self.check() {
            Ok(parts) => parts,
            Err(error) => return refused(error),
        };
        let reasons = Some(Reasons::new(&parts.ioctx));
        event!(about);
        match open(&parts) {
            Ok(op) => Opening { state: State::Opening { op, parts: Some(parts) }, about, reasons },
            Err(errno) => {
                event!(about, Some(&errno));
                refused(about.error(errno))
            }
        }
    }
}

fn open(parts: &Parts) -> RawResult<raw::op::operation::Operation<raw::image::Image>> {
    let ioctx = Arc::clone(parts.ioctx.raw());
    raw::image::Image::start_open(ioctx, parts.by, &parts.name, parts.snapshot.as_deref(), parts.read_only)
}

/// Starts to look up what is missing. If no thread can be started, the error stays unchanged.
fn explain(parts: Parts, about: &OperationContext, errno: Errno, log: Vec<String>) -> State {
    let (thread_about, thread_log) = (about.clone(), log.clone());
    let started = start(move || {
        let _thread = ThreadOfUser::set();
        parts.explain(thread_about.error(errno)).with_log(thread_log)
    });
    match started {
        Ok(started) => State::Explaining(started),
        Err(_) => State::Refused(Some(about.error(errno).with_log(log))),
    }
}

impl IntoFuture for OpenImage<'_> {
    type Output = Result<Image>;
    type IntoFuture = Opening;

    fn into_future(self) -> Opening {
        self.start()
    }
}

impl Opening {
    /// Waits on this thread until the image is open. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout); an image that is opened later is closed
    /// again.
    pub fn wait(self) -> Result<Image> {
        let about = self.about.clone();
        timeout::wait(self, about)
    }

    /// Limits the wait for the opening. See [`Timeout`].
    pub fn timeout(self, timeout: Duration) -> Timeout<Opening> {
        let about = self.about.clone();
        Timeout::new(self, about, timeout)
    }
}

#[cfg(feature = "tracing")]
impl Drop for Opening {
    fn drop(&mut self) {
        let left = match &self.state {
            State::Opening { parts, .. } => parts.is_some(),
            State::Failed { .. } | State::Explaining(_) => true,
            State::Refused(_) => false,
        };
        if left {
            crate::events::left(self.about.subject());
        }
    }
}

/// # Panics
/// Panics if it is polled again after it was ready.
impl Future for Opening {
    type Output = Result<Image>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Image>> {
        let Opening { state, about, reasons } = &mut *self;
        loop {
            let error = match state {
                State::Opening { op, parts } => {
                    let outcome = ready!(op.poll(context));
                    let parts = parts.take().expect("polled after it was ready");
                    match outcome {
                        Ok(raw) => {
                            event!(about, None::<&Errno>);
                            return Poll::Ready(Ok(parts.image(raw)));
                        }
                        Err(errno) => {
                            *state = State::Failed { errno, parts: Some(parts) };
                            continue;
                        }
                    }
                }
                State::Failed { errno, parts } => {
                    let log = match reasons {
                        Some(reasons) => ready!(reasons.poll(context)),
                        None => Vec::new(),
                    };
                    let (errno, parts) = (*errno, parts.take().expect("polled after it was ready"));
                    match errno {
                        Errno::ENOENT => {
                            *state = explain(parts, about, errno, log);
                            continue;
                        }
                        Errno::EAGAIN => about.error(errno).with_log(log).with_detail(
                            "no thread can be started to read its size; end other threads, or \
                             raise the limit",
                        ),
                        _ => about.error(errno).with_log(log),
                    }
                }
                State::Explaining(started) => ready!(Pin::new(started).poll(context)),
                State::Refused(error) => error.take().expect("polled after it was ready"),
            };
            *state = State::Refused(None);
            if reasons.is_some() {
                event!(about, Some(&error.errno().unwrap_or(Errno::EIO)));
            }
            return Poll::Ready(Err(error));
        }
    }
}
