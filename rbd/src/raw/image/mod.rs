//! A `rbd_image_t`: an open image, and what can be asked of it.

mod causes;
pub(crate) mod closing;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod early_ack;
pub(crate) mod encryption;
pub(crate) mod handle;
pub(crate) mod info;
pub(crate) mod io;
pub(crate) mod keeper;
mod left_lock;
pub(crate) mod lineage;
pub(crate) mod locks;
pub(crate) mod metadata;
pub(crate) mod mirrored;
pub(crate) mod open;
pub(crate) mod quiesce;
pub(crate) mod share;
pub(crate) mod size;
pub(crate) mod snapshot;
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

/// An open image that keeps its pool, and by it the cluster, alive. Closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Image {
    /// Null after the closer has taken it.
    handle: Address<c_void>,
    /// Goes with the handle: the connection may end with it, which is not for the thread that drops
    /// this.
    ioctx: Option<Arc<IoCtx>>,
    /// The operations in flight point to it. It is freed after they have left.
    shared: Arc<Target>,
    /// Counts changes of the header. `None` until the size was learnt.
    header_watch: Option<Watch>,
    /// Dropping it does not wait for the closing.
    background: bool,
    /// Nothing refreshes it: it was opened read-only, so nobody tells it of changes.
    settled: bool,
}

impl Drop for Image {
    fn drop(&mut self) {
        // A call that was given up may never end, and closing waits for it.
        let background = self.background || must_not_block() || self.shared.has_calls();
        if self.is_forked() {
            std::mem::forget(self.take());
            return;
        }
        let Some(image) = self.take() else { return };
        // Who drops an image cannot hear how the close went; `close` tells.
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
            Ok(None) => crate::events::lost(&id, &"it did not end in time, and goes on in the background"),
            Err(errno) => crate::events::lost(&id, &errno),
        }
        #[cfg(not(feature = "tracing"))]
        let _ = closed;
    }
}

impl Image {
    /// Takes over a handle. `writes` tells what it was opened for.
    ///
    /// # Safety
    /// It must be open, in this pool, and nobody else's.
    pub(in crate::raw) unsafe fn new(handle: sys::rbd_image_t, ioctx: Arc<IoCtx>, writes: bool) -> Image {
        // SAFETY: librbd's calls on an image may be made from any thread, at the same time. The
        // exceptions (seen with 16.2) are kept apart by those who make them:
        // - `rbd_get_name` reads the name without a lock: not called but for images of the old
        //   format, which nobody renames beside (`info.rs`).
        // - `rbd_get_group` reads the group's without one: called on handles of its own.
        // - `rbd_snap_get_timestamp` aborts where the snapshot goes meanwhile: called on handles
        //   that nothing refreshes (`snapshot.rs`).
        // - `rbd_encryption_load` and `…_format` fail an assertion beside each other: under a lock
        //   (`encryption.rs`).
        // - What makes an image smaller fails an assertion beside I/O: the image is held meanwhile
        //   (`op/hold.rs`).
        // - `rbd_snap_set` changes the meaning of others' I/O: called before a handle is shared
        //   (`open.rs`).
        // - `rbd_quiesce_watch` and `…_unwatch` lose count beside a snapshot: one on a handle of
        //   its own (`quiesce.rs`).
        // - A completion with a callback must not run once the image reports to a queue
        //   (`Target::begin_queue`).
        // - `rbd_close` frees the handle beside calls: it comes after all of them
        //   (`Target::close`).
        let handle = unsafe { Address::new(handle) };
        // SAFETY: as this function's; `Handle` closes it.
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

    /// Its pool. Must not be called after the closer has taken it.
    pub(in crate::raw) fn pool(&self) -> &IoCtx {
        self.ioctx.as_ref().expect("only the shell that is left behind has none")
    }

    /// See [`Cluster::is_forked`](crate::raw::cluster::Cluster::is_forked).
    pub(crate) fn is_forked(&self) -> bool {
        self.ioctx.as_ref().is_some_and(|ioctx| ioctx.is_forked())
    }

    pub(crate) fn close_in_background(&mut self, background: bool) {
        self.background = background;
    }

    pub(crate) fn closes_in_background(&self) -> bool {
        self.background
    }

    /// Whether its completions go to a queue, so that no others may be submitted.
    pub(crate) fn is_queued(&self) -> bool {
        self.shared.is_queued()
    }

    /// Leaves an empty shell behind, whose drop does nothing.
    fn take(&mut self) -> Option<Handle> {
        let handle = std::mem::replace(&mut self.handle, Address::NULL);
        let watch = self.header_watch.take();
        let ioctx = self.ioctx.take()?;
        // SAFETY: this was the handle's owner, and nothing is submitted to a shell.
        (handle != Address::NULL)
            .then(|| unsafe { Handle::new(handle, ioctx, Arc::clone(&self.shared), watch) })
    }

    /// Closes it after all I/O in flight. Blocks. Must not run on a thread of Ceph's: see
    /// [`crate::raw::thread::mark`].
    pub(crate) fn close(mut self) -> Result<(), CloseFailure> {
        self.take().map_or(Ok(()), Handle::close)
    }

    /// Closes it after all I/O in flight, without waiting for that.
    pub(crate) fn start_close(mut self) -> RawResult<Operation<Result<(), CloseFailure>>> {
        self.take().map_or(Err(Errno::EBADF), |image| image.start_close(true))
    }

    /// Calls `callback` after each change of the header. A panic in it ends there.
    pub(crate) fn watch_updates(&self, callback: impl Fn() + Send + Sync + 'static) -> RawResult<Watch> {
        // SAFETY: the image is open.
        unsafe { Watch::begin(self.as_ptr(), callback) }
    }

    /// Ends a watch, as [`Watch::end`] says.
    pub(crate) fn unwatch_updates(&self, watch: Watch) -> RawResult<()> {
        // SAFETY: the image is open.
        unsafe { watch.end(self.as_ptr()) }
    }
}
