//! Reads, writes, resizes, clones, copies and watches open images.
//!
//! ```no_run
//! use rbd::image::CloneFormat;
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! pool.clone_image("golden", "v1", "vm-7").format(CloneFormat::V2).run()?;
//! let image = pool.open("vm-7").run()?;
//! image.resize(20 << 30).run()?;
//! println!("{} bytes, cloned from {:?}", image.size()?, image.parent()?);
//! # Ok::<(), rbd::Error>(())
//! ```

pub(crate) mod advisory;
mod causes;
pub(crate) mod check;
mod clone;
mod copy;
mod cursor;
pub(crate) mod diff;
pub(crate) mod encryption;
mod features;
mod hinted;
pub(crate) mod info;
mod io;
mod lineage;
pub(crate) mod locks;
mod luks;
pub(crate) mod metadata;
mod object_map;
mod open;
mod quiesce;
mod read_each;
mod resize;
pub(crate) mod snapshot;
mod sparsify;
pub(crate) mod trimming;
mod watch;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::errno::Errno;
use crate::error::{ADVICE, Error, ErrorKind, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::progress::Progress;
use crate::raw::image::closing::{CloseFailure, Step};
use crate::raw::op::answer::Cause;
use crate::raw::op::unheard::Failed;
use crate::raw::thread::mark::must_not_call;
use crate::raw::{self, ffi::late::Failure};

pub use crate::holder::Watcher;
pub use clone::{CloneFormat, CloneImage};
pub use copy::{CopyImage, DeepCopyImage};
pub use cursor::Cursor;
pub use hinted::Hinted;
pub use info::Stat;
pub use io::Compare;
pub use lineage::{LinkedImage, Parent};
pub use object_map::{ObjectMap, ObjectMapFault};
pub use open::OpenImage;
pub(crate) use open::{Parts, explain_open};
pub use quiesce::{Quiesce, QuiesceWatch};
pub use resize::Resize;
pub use watch::UpdateWatch;

use snapshot::SnapshotRef;

/// An open image: a block device that any thread can read and write at any offset. Offsets and
/// lengths are in bytes.
///
/// A method that returns a `Result` may block: it waits for the cluster, for at most the [call
/// timeout](crate::ClusterBuilder::call_timeout). For a long transfer, and for a call with
/// progress, that is the limit of each step.
///
/// An image keeps its cluster connected. [`close`](Image::close) reports whether closing succeeded.
/// Dropping the image also closes it after all I/O in flight. The drop blocks, unless the image was
/// opened [asynchronously](OpenImage::start), or is set to [close in the
/// background](Image::set_close_in_background), or is dropped on a thread of Ceph.
///
/// **Open an image for writing only once** and share it between all threads of a process. If the
/// image has the feature `exclusive-lock`, as is usual, each opened image is a separate client,
/// even within one process. Two writers take the lock from each other again and again, and every
/// write waits for it. You may open an image any number of times [for
/// reading](OpenImage::read_only).
pub struct Image {
    /// Dropped before the raw image, which keeps the connection until it is closed.
    ioctx: IoCtx,
    raw: raw::image::Image,
    /// Shared with the operations in flight, whose errors use it.
    label: Arc<Label>,
    read_only: bool,
}

/// What errors say about an open image: its name, and the OSD timeout of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    /// `rbd/ns/foo`, without the snapshot.
    pub(crate) spec: String,
    pub(crate) pool: String,
    pub(crate) snapshot: Option<String>,
    pub(crate) osd_timeout: Option<Duration>,
}

impl Label {
    pub(crate) fn object(&self) -> Object {
        match &self.snapshot {
            Some(snapshot) => SnapshotRef::Name(snapshot).object(&self.spec),
            None => Object::new(ObjectKind::Image, self.spec.as_str()),
        }
    }
}

impl Image {
    /// Returns the pool and namespace that contain the image.
    pub fn ioctx(&self) -> &IoCtx {
        &self.ioctx
    }

    /// Returns the name of the snapshot that the image was opened at; `None` if it was opened
    /// without one.
    pub fn snapshot(&self) -> Option<&str> {
        self.label.snapshot.as_deref()
    }

    /// Returns whether the image was opened read-only or at a snapshot.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.label.snapshot.is_some()
    }

    /// Closes the image after all I/O in flight. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout); after that, closing continues in the
    /// background.
    ///
    /// Flushes and then releases the exclusive lock. An error says which of these failed; the image
    /// is closed in any case. If the flush failed and librbd's cache is on, writes since the last
    /// successful flush may be lost. Without the cache, which is the default, acknowledged writes
    /// are on the OSDs: see [`guide::durability`](crate::guide::durability).
    ///
    /// Closing makes several operations, one after another. If no OSD answers, an [OSD
    /// timeout](crate::ClusterBuilder::osd_timeout) ends each of them: closing then takes about
    /// four times that timeout.
    ///
    /// Inside a callback or a wake on a thread of librbd, where waiting would deadlock, this fails
    /// with `EDEADLK`: another thread closes the image, and nobody hears whether that succeeds.
    ///
    /// A change or a flush whose future was dropped, or that was given up after a timeout, may have
    /// failed later. If nobody has received its error, this returns that error.
    ///
    /// Implements: `rbd_close`.
    #[doc(alias = "rbd_close")]
    pub fn close(self) -> Result<()> {
        if must_not_call() {
            // Dropping the image closes it on another thread.
            return Err(closes_elsewhere(self.object()));
        }
        let Image { raw, ioctx, label, .. } = self;
        let mut failed: Option<CloseFailure> = None;
        let close = move || Ok::<_, Errno>(raw.close());
        let closed = ioctx.cluster().bounded_call("close", || label.object(), close)?;
        let told =
            ioctx.call("close", || label.object(), || closed.map_err(|failure| failed.insert(failure).errno));
        told.map_err(|error| match failed {
            Some(failure) => explain_close(&label, error, failure),
            None => error,
        })
    }

    /// Sets whether dropping the image closes it in the background instead of waiting. Does not
    /// close the image.
    ///
    /// Use this in asynchronous code, where a drop must not block the executor. An image that was
    /// opened asynchronously has it set. A process that ends waits for at most 2 s for such a
    /// close; a longer one leaves a watcher behind for 30 s: see
    /// [`start_close`](Image::start_close).
    pub fn set_close_in_background(&mut self, close_in_background: bool) {
        self.raw.set_close_in_background(close_in_background);
    }

    pub(crate) fn new(raw: raw::image::Image, ioctx: IoCtx, label: Label, read_only: bool) -> Image {
        Image { raw, ioctx, label: Arc::new(label), read_only }
    }

    pub(crate) fn into_parts(self) -> (raw::image::Image, IoCtx, Arc<Label>) {
        (self.raw, self.ioctx, self.label)
    }

    pub(crate) fn raw(&self) -> &raw::image::Image {
        &self.raw
    }

    pub(crate) fn label(&self) -> &Arc<Label> {
        &self.label
    }

    /// Returns `rbd/ns/foo`, without the snapshot.
    pub(crate) fn spec(&self) -> &str {
        &self.label.spec
    }

    /// Changes the image's name in errors. Must be called before the user gets the image.
    fn set_spec(&mut self, spec: &str) {
        spec.clone_into(&mut Arc::make_mut(&mut self.label).spec);
    }

    pub(crate) fn object(&self) -> Object {
        self.label.object()
    }

    /// Makes a call on the image that may wait for the cluster: see
    /// [`Cluster::bounded`](crate::Cluster::bounded).
    pub(crate) fn bounded<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        call: impl FnOnce(&raw::image::Image) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        self.bounded_on(operation, || self.object(), call)
    }

    /// Makes a call that names another object in its error: see [`bounded`](Self::bounded).
    pub(crate) fn bounded_on<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce(&raw::image::Image) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let operation = operation.into();
        self.refuse_cut(&operation)?;
        self.bounded_unguarded(operation, object, call)
    }

    /// Makes a call, after [`refuse_cut`](Self::refuse_cut) has allowed it.
    pub(crate) fn bounded_unguarded<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce(&raw::image::Image) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let raw = self.raw.share();
        let result = self.ioctx.cluster().bounded_call(operation, object, move || call(&raw));
        result.map_err(|error| self.explain(error))
    }

    /// Makes a call that reports progress: see [`bounded_on`](Self::bounded_on).
    pub(crate) fn bounded_long<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        progress: Progress<'_>,
        call: impl FnOnce(&raw::image::Image, Progress<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let operation = operation.into();
        self.refuse_cut(&operation)?;
        let object = object();
        if self.raw.is_in_doubt() {
            let named = object.clone();
            self.bounded_unguarded(operation.clone(), move || named, move |raw| raw.check_lease())?;
        }
        let object = move || object;
        let raw = self.raw.share();
        let result = self
            .ioctx
            .cluster()
            .bounded_long(operation, object, progress, move |progress| call(&raw, progress));
        result.map_err(|error| self.explain(error))
    }

    /// Makes a call that never waits. Its error contains what Ceph logged.
    pub(crate) fn call<T, E: Into<Failure>>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        call: impl FnOnce(&raw::image::Image) -> Result<T, E>,
    ) -> Result<T> {
        self.ioctx.call(operation, || self.object(), || call(&self.raw))
    }

    /// Returns the error of an operation that was refused before it began.
    pub(crate) fn refuse(
        &self,
        operation: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::invalid(operation, self.object(), why)
    }
}

/// Returns the error of closing in a callback for which librbd waits.
pub(crate) fn closes_elsewhere(object: Object) -> Error {
    Error::new("close", object, Errno::EDEADLK).with_detail(
        "librbd waits for this callback or wake, so another thread closes the image now, and nobody hears \
         whether that succeeds; close it on another thread",
    )
}

/// Explains a failed close.
pub(crate) fn explain_close(label: &Label, error: Error, failure: CloseFailure) -> Error {
    if let Step::Earlier(Failed { kind, offset, len, fault }) = failure.step {
        let error = check::failure(label, kind, (offset, len), fault);
        return match error.errno() {
            Some(Errno::ECANCELED) => error.with_detail("it was given up after a part of it was done"),
            _ => error.and("it had been given up"),
        }
        .and("the image is closed in any case");
    }
    let deleted = matches!(failure.cause, Some(Cause::PoolDeleted { .. }));
    let error = match failure.cause {
        Some(cause) => check::explain_cause(label, error, cause),
        None => error,
    };
    let fenced = *error.kind() == ErrorKind::Blocklisted;
    let error = error.and(match failure.step {
        Step::Flush { .. } if deleted => "the image is closed in any case",
        Step::Flush { cached: true } => {
            "the image is closed, but writes since the last successful flush may be lost"
        }
        Step::Flush { cached: false } => "the image is closed; acknowledged writes are on the OSDs",
        Step::Lock if fenced => "the image is closed in any case; drop this Cluster, and connect again",
        Step::Lock => {
            "the image is closed and flushed, but its exclusive lock may still be held; open the image here \
             again and write, or drop the Cluster; otherwise another client that wants the lock waits \
             (about 40 s) and then fences this whole connection with all its images"
        }
        Step::Close | Step::Earlier(_) => "the image is closed in any case",
    });
    if error.is_timed_out() { error.and(ADVICE) } else { error }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("spec", &self.object().name)
            .field("read_only", &self.is_read_only())
            .field("encryption", &self.is_encrypted())
            .finish_non_exhaustive()
    }
}
