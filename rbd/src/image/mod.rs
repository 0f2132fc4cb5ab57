//! An open image.

mod advisory;
mod clone;
mod copy;
mod cursor;
mod diff;
mod encryption;
mod features;
mod info;
mod io;
mod lineage;
mod locks;
mod metadata;
mod open;
mod resize;
mod snapshot;
mod snapshot_changes;
mod snapshot_namespace;
mod upkeep;
mod watch;

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::raw::{self, late::Failure};

pub use advisory::{AdvisoryLocks, Locker};
pub use clone::{CloneFormat, CloneImage};
pub use copy::{CopyImage, DeepCopyImage};
pub use cursor::Cursor;
pub use diff::{Diff, DiffExtents, Extent, FastDiff};
pub use encryption::{Cipher, EncryptionFormat, Passphrase};
pub use info::Stat;
pub use io::Compare;
pub use lineage::{LinkedImage, Parent};
pub use locks::LockOwner;
pub use open::OpenImage;
pub use resize::Resize;
pub use snapshot::{
    MirrorSnapshot, MirrorSnapshotState, Snapshot, SnapshotKind, SnapshotNamespace, SnapshotRef,
};
pub use snapshot_changes::{CreateSnapshot, RemoveSnapshot};
pub use watch::{Quiesce, QuiesceWatch, UpdateWatch};

/// An open image: a block device of a fixed size, that can be read and written at any offset from any thread.
///
/// It keeps its pool and cluster connected. [`close`](Image::close) tells how closing went; dropping it closes too, after
/// all I/O in flight, and blocks for that (on a thread of Ceph's, in a callback, the work goes to another thread).
pub struct Image {
    raw: raw::image::Image,
    ioctx: IoCtx,
    /// `rbd/ns/foo`, without the snapshot.
    spec: String,
    snapshot: Option<String>,
    read_only: bool,
}

impl Image {
    /// The pool and namespace it lives in.
    pub fn ioctx(&self) -> &IoCtx {
        &self.ioctx
    }

    /// The snapshot it was opened at.
    pub fn snapshot(&self) -> Option<&str> {
        self.snapshot.as_deref()
    }

    /// Whether it was opened read-only or at a snapshot.
    pub fn is_read_only(&self) -> bool {
        self.read_only || self.snapshot.is_some()
    }

    /// Closes it, after all I/O in flight. Blocks.
    ///
    /// Inside a callback of librbd's this does the work on another thread and returns at once, as nothing else can end well.
    ///
    /// Implements: `rbd_close`.
    #[doc(alias = "rbd_close")]
    pub fn close(self) -> Result<()> {
        if raw::thread::in_callback() {
            return Ok(());
        }
        let Image { raw, ioctx, spec, .. } = self;
        ioctx.call("close", || Object::new(ObjectKind::Image, spec), || raw.close())
    }

    pub(crate) fn object(&self) -> Object {
        match &self.snapshot {
            Some(snapshot) => SnapshotRef::Name(snapshot).object(&self.spec),
            None => Object::new(ObjectKind::Image, self.spec.as_str()),
        }
    }

    /// A management call: its error carries what Ceph logged.
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

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("spec", &self.object().name)
            .field("read_only", &self.is_read_only())
            .finish_non_exhaustive()
    }
}
