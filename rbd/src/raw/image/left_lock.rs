//! Exclusive locks of this connection that no handle knows of, because an OSD did not answer in
//! time.
//!
//! librbd takes such a lock for that of a living client, namely this one. It neither waits for it
//! nor breaks it, and fails each write with `EINVAL`.
//!
//! - The lock was not released when its image was closed. So a connection remembers which locks
//!   were not released, and removes one when its image is opened again.
//! - The OSD granted the lock after librbd had given up its request, and then the handle had to
//!   renew its watch, whose number is the cookie of the lock. So this crate looks for such a lock
//!   after `EINVAL`, and removes it.

use std::any::Any;
use std::ffi::CString;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::image::causes::Lookup;
use crate::raw::image::closing::is_owner;
use crate::raw::image::info::watchers_of;
use crate::raw::image::keeper::id;
use crate::raw::image::locks::INTERNAL_TAG;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::op::answer::Cause;
use crate::raw::op::sync::Ordering;

/// How the cookies of exclusive locks begin. The number of the owner's watch follows. Other locks
/// are advisory and belong to a user.
const COOKIE: &str = "auto ";

impl Image {
    /// Part of opening an image for writing.
    pub(super) fn prepare_to_write(&self) -> RawResult<()> {
        self.refuse_dangerous_options()?;
        self.drop_left_lock()
    }

    /// Part of opening an image for writing.
    fn drop_left_lock(&self) -> RawResult<()> {
        let (key, cluster) = ((self.pool().id(), self.id()?), self.pool().cluster());
        let handle: Arc<dyn Any + Send + Sync> = Arc::clone(&self.shared) as _;
        if !cluster.writers().opened(&key, Arc::downgrade(&handle)) {
            return Ok(());
        }
        let own = format!("client.{}", cluster.instance_id());
        for (client, cookie, _) in self.lockers()?.lockers {
            if client == own && cookie.starts_with(COOKIE) {
                self.unlock(&CString::new(cookie).unwrap_or_default())?;
            }
        }
        cluster.writers().dropped(&key);
        Ok(())
    }

    /// Makes a call that acquires the exclusive lock, and repeats it if a lock that no handle knows
    /// of was in its way.
    pub(super) fn locking<T>(&self, call: impl Fn() -> RawResult<T>) -> RawResult<T> {
        let freed = || self.shared().freed.load(Ordering::Relaxed);
        let before = freed();
        match call() {
            // Another thread may have removed it meanwhile.
            Err(Errno::EINVAL) if self.free_left_lock() || freed() != before => call(),
            result => result,
        }
    }

    /// Removes an exclusive lock that this connection has and no handle knows of. Returns whether
    /// there was one: then librbd has failed a call with `EINVAL` because of it. Blocks.
    pub(crate) fn free_left_lock(&self) -> bool {
        self.cause() == Some(Cause::LeftLock)
    }
}

impl Lookup {
    /// See [`Image::free_left_lock`].
    ///
    /// # Safety
    /// The image must be open for writing.
    pub(super) unsafe fn free_left_lock(&self, image: sys::rbd_image_t) -> RawResult<bool> {
        // SAFETY: the caller's promise.
        let (id, is_owner) = unsafe { (id(image)?, is_owner(image)?) };
        let pool = self.pool().ok_or(Errno::ENOTCONN)?;
        let cluster = pool.cluster();
        // Another handle may be renewing its watch, and its lock has the old number meanwhile.
        if is_owner || id.is_empty() || !cluster.writers().is_alone(&(pool.id(), id.clone())) {
            return Ok(false);
        }
        let locks = pool.lockers(&header_of(&id, c"")?)?;
        let own = format!("client.{}", cluster.instance_id());
        let mut cookies = locks.lockers.into_iter().filter(|(client, ..)| *client == own);
        let Some((_, cookie, _)) = cookies.next().filter(|_| locks.tag == INTERNAL_TAG) else {
            return Ok(false);
        };
        let Some(Ok(number)) = cookie.strip_prefix(COOKIE).map(str::parse::<u64>) else { return Ok(false) };
        // SAFETY: the caller's promise.
        let watchers = unsafe { watchers_of(image) }?;
        if watchers.iter().any(|watcher| watcher.client == cluster.instance_id() && watcher.cookie == number)
        {
            return Ok(false);
        }
        let cookie = CString::new(cookie).map_err(|_| Errno::EBADMSG)?;
        // SAFETY: the caller's promise; the cookie lives through the call.
        check(unsafe { sys::rbd_unlock(image, cookie.as_ptr()) })?;
        Ok(true)
    }
}
