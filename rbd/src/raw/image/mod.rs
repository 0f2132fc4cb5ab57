//! Open images (`rbd_image_t`) and their calls.

mod causes;
pub(crate) mod closing;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod encryption;
pub(crate) mod handle;
pub(crate) mod info;
pub(crate) mod io;
pub(crate) mod keeper;
pub(crate) mod lease;
mod left_lock;
mod lent;
pub(crate) mod lineage;
pub(crate) mod locks;
mod lost_answer;
pub(crate) mod metadata;
pub(crate) mod mirrored;
pub(crate) mod open;
pub(crate) mod quiesce;
pub(crate) mod safeguards;
pub(crate) mod share;
mod silent_owner;
pub(crate) mod size;
pub(crate) mod snapshot;
pub(crate) mod snapshot_gate;
pub(crate) mod snapshot_namespace;
pub(crate) mod watch;

use std::ffi::c_void;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::image::causes::Lookup;
use crate::raw::image::closing::CloseFailure;
use crate::raw::image::handle::Handle;
use crate::raw::image::watch::Watch;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::operation::Operation;
use crate::raw::op::target::Target;
use crate::raw::thread::exit::settle_at_exit_of;
use crate::raw::thread::mark::must_not_block;
use crate::raw::thread::worker::start;

/// An open image. It keeps its pool alive, and thereby the cluster. It is closed when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Image {
    /// Null after `take`.
    handle: Address<c_void>,
    /// Moves with the handle: dropping it may end the connection, which the thread that drops this
    /// must not do.
    ioctx: Option<Arc<IoCtx>>,
    /// The operations in flight point to it. It is freed after they have left it.
    shared: Arc<Target>,
    /// Counts changes of the header. `None` until the size is known.
    header_watch: Option<Watch>,
    /// Dropping the image does not wait for the closing.
    background: bool,
    /// librbd does not refresh it: an image opened read-only receives no notifications of changes.
    settled: bool,
}

impl Drop for Image {
    fn drop(&mut self) {
        // A timed-out call may never end, and closing waits for it.
        let background = self.background || must_not_block() || self.shared.has_calls();
        if self.is_forked() {
            std::mem::forget(self.take());
            return;
        }
        let Some(image) = self.take() else { return };
        // A drop cannot return the result of the closing; `close` does.
        if background {
            drop(image.start_close(false));
            return;
        }
        let timeout = image.call_timeout();
        #[cfg(feature = "tracing")]
        let id = image.id();
        let closed = start(move || image.close()).map(|call| call.wait(timeout));
        #[cfg(feature = "tracing")]
        match closed {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(failure))) => crate::events::lost(&id, &failure),
            Ok(None) => {
                crate::events::lost(&id, &"it did not complete in time, and continues in the background");
            }
            Err(errno) => crate::events::lost(&id, &errno),
        }
        #[cfg(not(feature = "tracing"))]
        let _ = closed;
    }
}

impl Image {
    /// Takes over a handle. `writes` says whether it was opened for writing.
    ///
    /// # Safety
    /// It must be open, in this pool, and owned by nobody else.
    pub(in crate::raw) unsafe fn new(handle: sys::rbd_image_t, ioctx: Arc<IoCtx>, writes: bool) -> Image {
        // SAFETY: librbd's calls on an image may be made from any thread, concurrently. The callers
        // of the exceptions (seen with 16.2) keep them apart:
        // - `rbd_get_name` reads the name without a lock: called only for images of the old format,
        //   which no other thread renames meanwhile (`info.rs`).
        // - `rbd_get_group` reads the group without a lock: called on separate handles.
        // - `rbd_snap_get_timestamp` aborts if the snapshot is removed meanwhile: called on handles
        //   that librbd does not refresh (`snapshot.rs`).
        // - `rbd_encryption_load` and `…_format` fail an assertion if they run concurrently: called
        //   under a lock (`encryption.rs`).
        // - Calls that shrink an image fail an assertion if I/O is in flight, also through a handle
        //   that is opened meanwhile: all handles are held (`op/hold.rs`, `size.rs`).
        // - Rebuilding the object map fails an assertion during a shrink: both take turns
        //   (`size.rs`).
        // - `rbd_snap_set` changes the meaning of concurrent I/O: called before a handle is shared
        //   (`open.rs`).
        // - `rbd_quiesce_watch` and `…_unwatch` miscount if a snapshot is being taken: each watch
        //   has its own handle (`quiesce.rs`), and begins between snapshots (`snapshot_gate.rs`).
        // - A completion with a callback must not run once the image reports to a queue
        //   (`Target::begin_queue`).
        // - `rbd_close` frees the handle: called after all other calls have ended
        //   (`Target::close`), and after the thread that opened it has let go of it
        //   (`closing.rs`).
        let handle = unsafe { Address::new(handle) };
        // SAFETY: by the contract of this function; `Handle` closes it.
        let shared = Arc::new(unsafe { Target::new(handle, Lookup::new(&ioctx, writes)) });
        settle_at_exit_of(&shared);
        Image { handle, ioctx: Some(ioctx), shared, header_watch: None, background: false, settled: false }
    }

    pub(crate) fn as_ptr(&self) -> sys::rbd_image_t {
        self.handle.get()
    }

    pub(in crate::raw) fn address(&self) -> Address<c_void> {
        self.handle
    }

    pub(in crate::raw) fn shared(&self) -> &Arc<Target> {
        &self.shared
    }

    /// Returns the pool. Must not be called after `take`.
    pub(in crate::raw) fn pool(&self) -> &IoCtx {
        self.ioctx.as_ref().expect("only the shell that is left behind has none")
    }

    /// See [`Cluster::is_forked`](crate::raw::cluster::Cluster::is_forked).
    pub(crate) fn is_forked(&self) -> bool {
        self.ioctx.as_ref().is_some_and(|ioctx| ioctx.is_forked())
    }

    pub(crate) fn set_close_in_background(&mut self, background: bool) {
        self.background = background;
    }

    pub(crate) fn closes_in_background(&self) -> bool {
        self.background
    }

    /// Returns whether completions go to a queue, so that no operations with callbacks may be
    /// submitted.
    pub(crate) fn is_queued(&self) -> bool {
        self.shared.is_queued()
    }

    /// Takes the handle out. Dropping the rest does nothing.
    fn take(&mut self) -> Option<Handle> {
        let handle = std::mem::replace(&mut self.handle, Address::NULL);
        let watch = self.header_watch.take();
        let ioctx = self.ioctx.take()?;
        // SAFETY: this value owned the handle, and nothing is submitted without one.
        (handle != Address::NULL)
            .then(|| unsafe { Handle::new(handle, ioctx, Arc::clone(&self.shared), watch) })
    }

    /// Closes the image after all I/O in flight. Blocks. Must not run on a thread of Ceph: see
    /// [`crate::raw::thread::mark`].
    pub(crate) fn close(mut self) -> Result<(), CloseFailure> {
        self.take().map_or(Ok(()), Handle::close)
    }

    /// Closes the image after all I/O in flight, without blocking.
    pub(crate) fn start_close(mut self) -> RawResult<Operation<Result<(), CloseFailure>>> {
        self.take().map_or(Err(Errno::EBADF), |image| image.start_close(true))
    }

    /// Calls `callback` after each change of the header. A panic in the callback is caught.
    pub(crate) fn watch_updates(&self, callback: impl Fn() + Send + Sync + 'static) -> RawResult<Watch> {
        // SAFETY: the image is open.
        unsafe { Watch::begin(self.as_ptr(), callback) }
    }

    /// Ends a watch: see [`Watch::end`].
    pub(crate) fn unwatch_updates(&self, watch: Watch) -> RawResult<()> {
        // SAFETY: the image is open.
        unsafe { watch.end(self.as_ptr()) }
    }
}
