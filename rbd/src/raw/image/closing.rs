//! What must happen before an image is closed, and its failures.

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ffi::late::Failure;
use crate::raw::image::causes::Lookup;
use crate::raw::image::keeper::id;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::answer::{Cause, Causes, needs_cause};
use crate::raw::op::fault::Fault;
use crate::raw::op::target::Target;
use crate::raw::op::unheard::Failed;

/// The step of closing that failed. The image is closed nevertheless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloseFailure {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
    pub(crate) cause: Option<Cause>,
}

/// The steps of closing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The end of an operation that has failed and whose error nobody has received.
    Earlier(Failed),
    /// If it fails and the image is `cached`, data written since the last flush may be lost.
    /// Without a cache, the OSDs have each acknowledged write.
    Flush {
        cached: bool,
    },
    /// If it fails, the exclusive lock may remain.
    Lock,
    Close,
}

impl Step {
    pub(super) fn failed(self, errno: Errno) -> CloseFailure {
        CloseFailure { step: self, errno, cause: None }
    }
}

impl fmt::Display for CloseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.step {
            Step::Earlier(Failed { kind, offset, len, fault }) => {
                let name = kind.name();
                return write!(f, "a request to {name} {len} bytes at offset {offset} had failed ({fault})");
            }
            Step::Flush { .. } if matches!(self.cause, Some(Cause::PoolDeleted { .. })) => {
                "the last flush failed, because the pool was deleted"
            }
            Step::Flush { cached: true } => {
                "the last flush failed, so writes since the previous one may be lost"
            }
            Step::Flush { cached: false } => "the last flush failed; acknowledged writes are on the OSDs",
            Step::Lock => "the exclusive lock could not be released, and may remain",
            Step::Close => "closing failed",
        };
        write!(f, "{what} ({})", self.errno)
    }
}

/// Returns the first failure of an operation that nobody has received. All have ended.
pub(super) fn unheard(target: &Target) -> Result<(), CloseFailure> {
    let Some(failed) = target.failures().first() else { return Ok(()) };
    let errno = match &failed.fault {
        Fault::Failed(Failure::Errno(errno)) | Fault::Caused(errno, _) => *errno,
        Fault::Failed(Failure::Missing { .. }) => Errno::ENOSYS,
        Fault::Cut(_) => Errno::EINVAL,
    };
    Err(Step::Earlier(failed).failed(errno))
}

/// Returns the failure of the flush before the closing.
pub(super) fn not_flushed(target: &Target, errno: Errno) -> CloseFailure {
    Step::Flush { cached: target.has_cache.get() != Some(&false) }.failed(errno)
}

/// Flushes written data and releases the exclusive lock. librbd's close also does both, but does
/// not report failures. Blocks.
///
/// A handle that wrote nothing is not flushed: librbd acquires the exclusive lock for a flush, so a
/// closing reader would take it from the writer.
///
/// A handle that has lost the exclusive lock is not flushed: it would write over the data of the
/// new owner.
///
/// # Safety
/// The image must be open, in this pool. Must not run on a thread of Ceph.
pub(super) unsafe fn finish(target: &Target, pool: &Arc<IoCtx>) -> Result<(), CloseFailure> {
    let image = target.image();
    // The lease may be valid although the lock is lost, so this asks in any case.
    let lease = target.renew_lease();
    // SAFETY: the caller's promise.
    let flush = || check(unsafe { sys::rbd_flush(image) }).map(drop);
    let flushed = match lease {
        Err(Errno::ENOLCK) => Err(Errno::ENOLCK),
        _ if target.is_written() => match flush() {
            // SAFETY: the caller's promise.
            Err(Errno::EINVAL) if unsafe { target.cause() } == Some(Cause::LeftLock) => flush(),
            flushed => flushed,
        },
        _ => Ok(()),
    };
    let flushed = flushed.map_err(|errno| not_flushed(target, errno));
    // SAFETY: as above.
    let released = unsafe { release_lock(image) };
    if released.is_err() {
        // SAFETY: as above.
        if let Ok(id) = unsafe { id(image) } {
            pool.cluster().writers().stayed((pool.id(), id));
        }
    }
    flushed.and(released.map_err(|errno| Step::Lock.failed(errno))).map_err(|failure| {
        // SAFETY: as above.
        let cause =
            needs_cause(failure.errno).then(|| unsafe { Lookup::new(pool, true).look_up(image) }).flatten();
        CloseFailure { cause: cause.filter(|cause| cause.explains(failure.errno)), ..failure }
    })
}

/// Waits until the thread of librbd that opened an image no longer uses it. Sends nothing. Blocks.
/// Must not run on a thread of Ceph.
///
/// That thread reports the opening, and then locks a mutex of the image once more (seen with 16.2
/// and 18.2). An image without a watch is closed without a request to the cluster, and librbd frees
/// it meanwhile. The thread runs a callback of librados, and librados runs the callbacks of a
/// cluster one at a time. So the callback of a flush that has nothing to do runs after it. This
/// crate makes no asynchronous writes on a pool handle, and librbd has handles of its own, so the
/// flush never waits for an OSD.
pub(super) fn wait_for_opener(pool: &IoCtx) {
    unsafe extern "C" fn ignore(_: sys::rados_completion_t, _: *mut c_void) {}
    let mut completion = ptr::null_mut();
    // SAFETY: the callback does not use its argument; the out pointer lives through the call.
    // Fails only without memory.
    if check(unsafe { sys::rados_aio_create_completion2(ptr::null_mut(), Some(ignore), &raw mut completion) })
        .is_err()
    {
        return;
    }
    // SAFETY: pool and completion are valid. No callback comes if the flush is refused.
    if check(unsafe { sys::rados_aio_flush_async(pool.as_ptr(), completion) }).is_ok() {
        // SAFETY: the completion is valid.
        unsafe { sys::rados_aio_wait_for_complete_and_cb(completion) };
    }
    // SAFETY: we own this reference; librados has its own one until the callback has run.
    unsafe { sys::rados_aio_release(completion) };
}

/// # Safety
/// The image must be open.
pub(super) unsafe fn is_owner(image: sys::rbd_image_t) -> RawResult<bool> {
    let mut owner = 0;
    // SAFETY: the caller's promise; the out pointer lives through the call.
    check(unsafe { sys::rbd_is_exclusive_lock_owner(image, &raw mut owner) })?;
    Ok(owner != 0)
}

/// # Safety
/// The image must be open.
unsafe fn release_lock(image: sys::rbd_image_t) -> RawResult<()> {
    // SAFETY: the caller's promise.
    if !unsafe { is_owner(image) }? {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    let released = unsafe { release(image) };
    // SAFETY: as above.
    if released == Err(Errno::EINVAL) && !unsafe { is_owner(image) }? {
        // Another client requested the lock meanwhile, so it is already released.
        return Ok(());
    }
    released
}

/// Releases the exclusive lock.
///
/// If the image's features have changed, librbd reads the header during the release. If they no
/// longer include the exclusive lock, librbd then waits forever for this same release. Asking for
/// the features makes it read the header before. (Asking for the size would abort the process if
/// the image is smaller than its encryption header.)
///
/// # Safety
/// The image must be open.
pub(super) unsafe fn release(image: sys::rbd_image_t) -> RawResult<()> {
    let mut features = 0;
    // SAFETY: the caller's promise; the out pointer lives through the call.
    let _ = unsafe { sys::rbd_get_features(image, &raw mut features) };
    // SAFETY: the caller's promise.
    check(unsafe { sys::rbd_lock_release(image) }).map(drop)
}
