//! Opening and closing images without blocking.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::deadline::Deadline;
use super::op::About;
use super::wait;
use crate::cluster::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::image::{Image, OpenImage, Parts};
use crate::raw::{self, RawResult};

/// An image that is being opened: see [`OpenImage::start`].
///
/// Dropping it does not stop the opening; an image that is opened after that is closed again at once, in the background.
#[must_use = "the image is closed again when nobody takes it"]
#[derive(Debug)]
pub struct Opening {
    state: State,
    about: About,
    log_mark: u64,
}

#[derive(Debug)]
enum State {
    Refused(Option<Error>),
    Opening {
        op: raw::op::Op<raw::image::Image>,
        parts: Option<Parts>,
    },
    /// A snapshot was not found, or its image: opening the image alone tells which.
    Probing {
        op: raw::op::Op<raw::image::Image>,
        error: Option<Error>,
    },
}

impl OpenImage<'_> {
    /// Begins to open it, and returns at once. `ioctx.open("foo").await` is short for it.
    ///
    /// Dropping the image does not block, either: it is [closed in the background](Image::close_in_background).
    ///
    /// ```no_run
    /// # async fn example(ioctx: rbd::IoCtx) -> rbd::Result<()> {
    /// use std::time::Duration;
    ///
    /// let image = ioctx.open("foo").read_only().start().deadline(Duration::from_secs(10)).await?;
    /// let first = image.aio().read(0, 4096).await?;
    /// image.start_close().await
    /// # }
    /// ```
    ///
    /// Implements: `rbd_aio_open`, `rbd_aio_open_read_only`, `rbd_aio_open_by_id`, `rbd_aio_open_by_id_read_only`.
    #[doc(alias = "rbd_aio_open")]
    #[doc(alias = "rbd_aio_open_read_only")]
    #[doc(alias = "rbd_aio_open_by_id")]
    #[doc(alias = "rbd_aio_open_by_id_read_only")]
    pub fn start(self) -> Opening {
        let about = About { image: Arc::new(self.label()), operation: "open", range: None };
        let refused =
            |error| Opening { state: State::Refused(Some(error)), about: about.clone(), log_mark: 0 };
        let parts = match self.check() {
            Ok(parts) => parts,
            Err(error) => return refused(error),
        };
        let log_mark = parts.ioctx.cluster().log_mark();
        match open(&parts, true) {
            Ok(op) => Opening { state: State::Opening { op, parts: Some(parts) }, about, log_mark },
            Err(errno) => refused(about.error(errno)),
        }
    }
}

/// As asked for, or only to see whether the image without the snapshot exists.
fn open(parts: &Parts, as_asked: bool) -> RawResult<raw::op::Op<raw::image::Image>> {
    let snapshot = if as_asked { parts.snapshot.as_deref() } else { None };
    let read_only = parts.read_only || !as_asked;
    let ioctx = Arc::clone(parts.ioctx.raw());
    raw::image::Image::start_open(ioctx, parts.by, &parts.name, snapshot, read_only)
}

impl IntoFuture for OpenImage<'_> {
    type Output = Result<Image>;
    type IntoFuture = Opening;

    fn into_future(self) -> Opening {
        self.start()
    }
}

impl Opening {
    /// Waits for the end of the opening on this thread. Blocks.
    pub fn wait(self) -> Result<Image> {
        let about = self.about.clone();
        wait::wait(self, &about)
    }

    /// Gives up on the opening after a while. See [`Deadline`].
    pub fn deadline(self, after: Duration) -> Deadline<Opening> {
        let about = self.about.clone();
        Deadline::new(self, about, after)
    }
}

/// # Panics
/// When it is polled again after it was ready.
impl Future for Opening {
    type Output = Result<Image>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Image>> {
        let Opening { state, about, log_mark } = &mut *self;
        loop {
            match state {
                State::Refused(error) => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
                State::Opening { op, parts } => {
                    let outcome = ready!(op.poll(context));
                    let parts = parts.take().expect("polled after it was ready");
                    let errno = match outcome {
                        Ok(raw) => return Poll::Ready(Ok(parts.image(raw))),
                        Err(errno) => errno,
                    };
                    let error = about.error(errno).with_log(parts.ioctx.cluster().log_since(*log_mark));
                    *state = match (errno, &parts.snapshot) {
                        (Errno::ENOENT, Some(_)) => match open(&parts, false) {
                            Ok(op) => State::Probing { op, error: Some(error) },
                            Err(_) => State::Refused(Some(error)),
                        },
                        _ => State::Refused(Some(error)),
                    };
                }
                State::Probing { op, error } => {
                    let missing = ready!(op.poll(context)).is_err_and(|errno| errno == Errno::ENOENT);
                    let error = error.take().expect("polled after it was ready");
                    let image = ErrorKind::NotFound { what: ObjectKind::Image };
                    return Poll::Ready(Err(if missing { error.with_kind(image) } else { error }));
                }
            }
        }
    }
}

/// An image that is being closed: see [`Image::start_close`].
///
/// Dropping it does not stop the closing.
#[must_use = "the closing goes on without it, but nobody will hear how it ends"]
#[derive(Debug)]
pub struct Closing {
    op: RawResult<raw::op::Op<()>>,
    about: About,
    cluster: Cluster,
    log_mark: u64,
}

impl Image {
    /// Begins to close it, and returns at once. It is closed after all I/O in flight.
    ///
    /// Implements: `rbd_aio_close`.
    #[doc(alias = "rbd_aio_close")]
    pub fn start_close(self) -> Closing {
        let (raw, ioctx, image) = self.into_parts();
        let cluster = ioctx.cluster().clone();
        let log_mark = cluster.log_mark();
        let about = About { image, operation: "close", range: None };
        Closing { op: raw.start_close(), about, cluster, log_mark }
    }
}

impl Closing {
    /// Waits for the end of the closing on this thread. Blocks.
    pub fn wait(self) -> Result<()> {
        let about = self.about.clone();
        wait::wait(self, &about)
    }

    /// Gives up waiting after a while. See [`Deadline`].
    pub fn deadline(self, after: Duration) -> Deadline<Closing> {
        let about = self.about.clone();
        Deadline::new(self, about, after)
    }
}

/// # Panics
/// When it is polled again after it was ready.
impl Future for Closing {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = match &mut self.op {
            Ok(op) => ready!(op.poll(context)),
            Err(errno) => Err(*errno),
        };
        Poll::Ready(
            outcome.map_err(|errno| self.about.error(errno).with_log(self.cluster.log_since(self.log_mark))),
        )
    }
}
