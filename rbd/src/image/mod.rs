//! An open image: I/O, size, clones, copies, watches. Other subjects have modules of their own.
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
mod info;
mod io;
mod lineage;
pub(crate) mod locks;
pub(crate) mod metadata;
mod object_map;
mod open;
mod quiesce;
mod resize;
pub(crate) mod snapshot;
pub(crate) mod snapshot_changes;
mod snapshot_namespace;
mod upkeep;
mod watch;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::progress::Progress;
use crate::raw::image::closing::{CloseFailure, Step};
use crate::raw::{self, ffi::weak::Failure};

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

/// An open image: a block device of a fixed size, that can be read and written at any offset from
/// any thread.
///
/// It keeps its pool and cluster connected. [`close`](Image::close) tells how closing went;
/// dropping it closes too, after all I/O in flight, and blocks for that, unless it was opened
/// [asynchronously](OpenImage::start) or is told to [close in the
/// background](Image::close_in_background). In a callback, on a thread of Ceph's, it never blocks.
///
/// **One that writes is enough**, shared by all threads of a process. Where the image has the
/// feature `exclusive-lock`, as is usual, each opened image is a client of its own, in the same
/// process too: of two that write, each takes the lock from the other, again and again, and every
/// write waits for that. Any number may be open [for reading](OpenImage::read_only).
pub struct Image {
    /// Dropped before the raw image, which keeps the connection for as long as its closing takes.
    ioctx: IoCtx,
    raw: raw::image::Image,
    /// Shared with the operations in flight, for their errors.
    label: Arc<Label>,
    read_only: bool,
    /// Whether this handle has encryption loaded.
    encrypted: AtomicBool,
}

/// What an open image is called in errors.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    /// `rbd/ns/foo`, without the snapshot.
    pub(crate) spec: String,
    pub(crate) pool: String,
    pub(crate) snapshot: Option<String>,
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
    /// The pool and namespace it lives in.
    pub fn ioctx(&self) -> &IoCtx {
        &self.ioctx
    }

    /// The snapshot it was opened at.
    pub fn snapshot(&self) -> Option<&str> {
        self.label.snapshot.as_deref()
    }

    /// Whether it was opened read-only or at a snapshot.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.label.snapshot.is_some()
    }

    /// Closes the image after all I/O in flight. Blocks, for the [call
    /// timeout](crate::ClusterBuilder::call_timeout) at most: after that it goes on in the
    /// background.
    ///
    /// Flushes first, and releases the exclusive lock. An error says what failed of this; the image
    /// is closed all the same. After an error of the flush, what was written since the last flush
    /// that succeeded may be lost. See [`guide::durability`](crate::guide::durability).
    ///
    /// Inside a callback of librbd's this does the work on another thread and returns at once, as
    /// nothing else can end well.
    ///
    /// Implements: `rbd_close`.
    #[doc(alias = "rbd_close")]
    pub fn close(self) -> Result<()> {
        if raw::thread::mark::in_callback() {
            return Ok(());
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

    /// Whether dropping it leaves the closing to the background instead of waiting for it.
    ///
    /// For images in asynchronous code, where a drop must not block the executor; what is opened
    /// asynchronously is set so already. A process that ends meanwhile waits for the closing, 2 s
    /// at most; one that takes longer leaves a watcher behind for 30 s: see
    /// [`start_close`](Image::start_close).
    pub fn close_in_background(&mut self, background: bool) {
        self.raw.close_in_background(background);
    }

    pub(crate) fn new(raw: raw::image::Image, ioctx: IoCtx, label: Label, read_only: bool) -> Image {
        Image { raw, ioctx, label: Arc::new(label), read_only, encrypted: AtomicBool::new(false) }
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

    /// `rbd/ns/foo`, without the snapshot.
    pub(crate) fn spec(&self) -> &str {
        &self.label.spec
    }

    /// Calls it by another name in errors. Not after it was given to a user.
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

    /// [`bounded`](Self::bounded), with another object in the error.
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
        let raw = self.raw.share();
        let result = self.ioctx.cluster().bounded_call(operation, object, move || call(&raw));
        result.map_err(|error| self.explain_pool(error))
    }

    /// [`bounded_on`](Self::bounded_on) for a call that tells how far it is.
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
        let raw = self.raw.share();
        let result = self
            .ioctx
            .cluster()
            .bounded_long(operation, object, progress, move |progress| call(&raw, progress));
        result.map_err(|error| self.explain_pool(error))
    }

    /// A call that waits for nobody: its error carries what Ceph logged.
    pub(crate) fn call<T, E: Into<Failure>>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        call: impl FnOnce(&raw::image::Image) -> Result<T, E>,
    ) -> Result<T> {
        self.ioctx.call(operation, || self.object(), || call(&self.raw))
    }

    /// An error of an operation on this image that was refused before it began.
    pub(crate) fn refuse(
        &self,
        operation: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::invalid(operation, self.object(), why)
    }
}

/// What a failure to close means.
pub(crate) fn explain_close(label: &Label, error: Error, failure: CloseFailure) -> Error {
    let error = match failure.cause {
        Some(cause) => check::explain_cause(label, error, cause),
        None => error,
    };
    error.and(match failure.step {
        Step::Flush => {
            "the image is closed, and what was written since the last flush that succeeded may be lost"
        }
        Step::Lock => {
            "the image is closed, and what was flushed is safe, but its exclusive lock may have stayed: other clients wait until this connection ends"
        }
        Step::Close => "the image is closed all the same",
    })
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
