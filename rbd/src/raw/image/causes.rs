//! Why requests to an image fail: the pool was deleted, another client keeps the exclusive lock,
//! somebody has an advisory lock, or an earlier request left a lock.

use std::ffi::CString;
use std::sync::{Arc, Weak};

use librbd_sys as sys;

use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::features::Features;
use crate::holder::Holder;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::image::keeper::{id, keeper_of};
use crate::raw::image::mirrored::is_secondary;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::answer::{Cause, Causes, Stored};

/// The pool that is asked about an image. Weak, because the last reference to a pool must not be
/// dropped where an operation ends.
pub(super) struct Lookup {
    pool: Weak<IoCtx>,
    /// The image is open for writing. Otherwise a lock cannot be the cause, and the size never
    /// changes.
    writes: bool,
}

impl Lookup {
    pub(super) fn new(pool: &Arc<IoCtx>, writes: bool) -> Lookup {
        Lookup { pool: Arc::downgrade(pool), writes }
    }

    pub(super) fn pool(&self) -> Option<Arc<IoCtx>> {
        self.pool.upgrade()
    }
}

impl Lookup {
    /// Returns the name of the client at this address that has a lock of the image. Blocks.
    ///
    /// # Safety
    /// The image must be open.
    unsafe fn client_at(&self, image: sys::rbd_image_t, address: &str) -> Option<String> {
        // SAFETY: the caller's promise.
        let id = unsafe { id(image) }.ok()?;
        let header = CString::new(format!("rbd_header.{id}")).ok()?;
        let locks = self.pool.upgrade()?.lockers(&header).ok()?;
        locks.lockers.into_iter().find(|(_, _, at)| at == address).map(|(client, ..)| client)
    }
}

impl Lookup {
    /// Returns an advisory lock that keeps librbd from acquiring the exclusive lock. A mirrored
    /// copy is refused for another reason. Blocks.
    ///
    /// # Safety
    /// The image must be open.
    unsafe fn advisory_lock(&self, image: sys::rbd_image_t) -> Option<Holder> {
        let mut features = 0;
        // SAFETY: the caller's promise; the out pointer lives through the call.
        check(unsafe { sys::rbd_get_features(image, &raw mut features) }).ok()?;
        // SAFETY: the caller's promise.
        if features & Features::EXCLUSIVE_LOCK.bits() == 0 || unsafe { is_secondary(image) } {
            return None;
        }
        // SAFETY: as above.
        let id = unsafe { id(image) }.ok()?;
        self.pool.upgrade()?.lockers(&header_of(&id, c"").ok()?).ok()?.into_advisory()
    }
}

impl Causes for Lookup {
    unsafe fn look_up(&self, image: sys::rbd_image_t) -> Option<Cause> {
        // SAFETY: the caller's promise.
        if self.writes && unsafe { self.free_left_lock(image) } == Ok(true) {
            return Some(Cause::LeftLock);
        }
        // SAFETY: as above.
        if let Some(address) = self.writes.then(|| unsafe { keeper_of(image) }).flatten() {
            // SAFETY: as above.
            let client = unsafe { self.client_at(image, &address) }.unwrap_or_default();
            let address = ClientAddress::from_ceph(address);
            return Some(Cause::Kept(Box::new(Holder::LockOwner { client, address })));
        }
        // SAFETY: as above.
        if let Some(lock) = self.writes.then(|| unsafe { self.advisory_lock(image) }).flatten() {
            return Some(Cause::Kept(Box::new(lock)));
        }
        // SAFETY: as above.
        let data = unsafe { sys::rbd_get_data_pool_id(image) };
        let pool = self.pool.upgrade()?;
        let id = pool.deleted_pool(data, true)?;
        Some(Cause::PoolDeleted { id, data: id != pool.id() })
    }

    fn stored(&self, id: &str) -> RawResult<Option<Stored>> {
        match self.pool.upgrade().filter(|_| self.writes) {
            None => Ok(None),
            Some(pool) => {
                let object = CString::new(format!("rbd_header.{id}")).map_err(|_| Errno::EBADMSG)?;
                pool.stored(&object, None).map(Some)
            }
        }
    }

    fn lock_cookie(&self, id: &str) -> RawResult<Option<String>> {
        let pool = self.pool.upgrade().ok_or(Errno::ENOTCONN)?;
        let header = CString::new(format!("rbd_header.{id}")).map_err(|_| Errno::EBADMSG)?;
        let locks = pool.lockers(&header)?;
        let own = format!("client.{}", pool.cluster().instance_id());
        let ours = locks.lockers.into_iter().find(|(client, cookie, _)| {
            // Cookies of the exclusive lock begin so. Other locks are advisory.
            *client == own && cookie.starts_with("auto ")
        });
        Ok(ours.map(|(_, cookie, _)| cookie))
    }

    unsafe fn needs_lock(&self, image: sys::rbd_image_t, disabled: bool) -> RawResult<bool> {
        let mut features = 0;
        // SAFETY: the caller's promise; the out pointer lives through the call.
        check(unsafe { sys::rbd_get_features(image, &raw mut features) })?;
        let has_feature = features & Features::EXCLUSIVE_LOCK.bits() != 0;
        // SAFETY: the caller's promise.
        Ok((has_feature || !disabled) && !unsafe { is_secondary(image) })
    }
}
