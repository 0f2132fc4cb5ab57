//! Properties of an open image.

use std::ffi::{CString, c_char};

use librbd_sys as sys;

use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::features::Features;
use crate::holder::Watcher;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string};
use crate::raw::image::Image;
use crate::raw::image::size::positive;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::ioctx::trash::RBD_TRASH_IMAGE_SOURCE_REMOVING;

/// The result of `rbd_stat`, with the text copied.
#[derive(Debug)]
pub(crate) struct RawStat {
    pub(crate) size: u64,
    pub(crate) object_size: u64,
    pub(crate) objects: u64,
    pub(crate) order: i32,
    pub(crate) block_name_prefix: String,
}

/// The three times of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Create,
    Access,
    Modify,
}

impl Image {
    pub(in crate::raw) fn number(
        &self,
        call: unsafe extern "C" fn(sys::rbd_image_t, *mut u64) -> std::ffi::c_int,
    ) -> RawResult<u64> {
        let mut value = 0;
        // SAFETY: the image is open; each function that is passed here writes one u64.
        check(unsafe { call(self.as_ptr(), &raw mut value) })?;
        Ok(value)
    }

    pub(crate) fn features(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_features)
    }

    pub(crate) fn op_features(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_op_features)
    }

    pub(crate) fn flags(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_flags)
    }

    pub(crate) fn stripe_unit(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_stripe_unit)
    }

    pub(crate) fn stripe_count(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_stripe_count)
    }

    pub(crate) fn overlap(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_overlap)
    }

    pub(crate) fn is_old_format(&self) -> RawResult<bool> {
        let mut old = 0_u8;
        // SAFETY: the image is open, the out pointer lives through the call.
        check(unsafe { sys::rbd_get_old_format(self.as_ptr(), &raw mut old) })?;
        Ok(old != 0)
    }

    pub(crate) fn data_pool_id(&self) -> RawResult<i64> {
        // SAFETY: the image is open.
        let id = unsafe { sys::rbd_get_data_pool_id(self.as_ptr()) };
        if id < 0 { Err(Errno::new(i32::try_from(id).unwrap_or(-libc::EIO))) } else { Ok(id) }
    }

    pub(crate) fn stat(&self) -> RawResult<RawStat> {
        if self.is_cut()? {
            let order = self.shared().stored()?.map_or(0, |stored| stored.order.into());
            let object_size = 1_u64.checked_shl(order).unwrap_or(0);
            let block_name_prefix = self.block_name_prefix()?;
            return Ok(RawStat { size: 0, object_size, objects: 0, order: order as i32, block_name_prefix });
        }
        // SAFETY: a struct of integers and a char array; zeros are valid.
        let mut info: sys::rbd_image_info_t = unsafe { std::mem::zeroed() };
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_stat(self.as_ptr(), &raw mut info, size_of_val(&info)) })?;
        if info.size == 0 {
            // Fails for a snapshot that was removed.
            self.size()?;
        }
        Ok(RawStat {
            size: positive(info.size),
            object_size: info.obj_size,
            objects: info.num_objs,
            order: info.order,
            // The field of `info` has room for 23 bytes only.
            block_name_prefix: self.block_name_prefix()?,
        })
    }

    pub(crate) fn time(&self, when: When) -> RawResult<libc::timespec> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let call = match when {
            When::Create => sys::rbd_get_create_timestamp,
            When::Access => sys::rbd_get_access_timestamp,
            When::Modify => sys::rbd_get_modify_timestamp,
        };
        // SAFETY: the image is open; both timespec types are the system's struct timespec.
        check(unsafe { call(self.as_ptr(), (&raw mut time).cast()) })?;
        Ok(time)
    }

    /// Asks the pool. librbd would read the handle's name without a lock, while a rename that this
    /// client carries out as the owner of the exclusive lock replaces it.
    pub(crate) fn name(&self) -> RawResult<String> {
        let (id, ioctx) = (self.id()?, self.pool());
        if id.is_empty() {
            return self.name_of_old_format();
        }
        let id = CString::new(id).map_err(|_| Errno::EBADMSG)?;
        match ioctx.image_name(&id) {
            Err(Errno::ENOENT) => ioctx.trash_get(&id).map(|trashed| trashed.name),
            name => name,
        }
    }

    /// Asks librbd: images of the old format have no exclusive lock, so their handles carry out no
    /// renames for other clients.
    fn name_of_old_format(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_get_name(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    /// Empty for an image of the old format: librbd refuses the query there.
    pub(crate) fn id(&self) -> RawResult<String> {
        // SAFETY: the buffer has `len` bytes.
        let fetch =
            |buffer: *mut c_char, len: usize| (unsafe { sys::rbd_get_id(self.as_ptr(), buffer, len) }, 0);
        // SAFETY: `fetch` writes at most the length it is given.
        match unsafe { grow_string(64, fetch) } {
            Err(Errno::EINVAL) if self.is_old_format()? => Ok(String::new()),
            id => id,
        }
    }

    pub(crate) fn block_name_prefix(&self) -> RawResult<String> {
        // SAFETY: the buffer has `len` bytes.
        let fetch = |buffer: *mut c_char, len: usize| unsafe {
            (sys::rbd_get_block_name_prefix(self.as_ptr(), buffer, len), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    pub(crate) fn update_features(&self, features: u64, enable: bool) -> RawResult<()> {
        let call = || {
            // SAFETY: the image is open.
            unsafe { sys::rbd_update_features(self.as_ptr(), features, u8::from(enable)) }
        };
        let lease = self.shared().lease();
        // The user of this handle then knows that the lock is gone.
        let disables = !enable && features & Features::EXCLUSIVE_LOCK.bits() != 0;
        if disables {
            lease.set_disabled(true);
        }
        let changed = check(self.change(call));
        if disables && changed.is_err() {
            lease.set_disabled(false);
        } else if disables {
            // Ends the lease now. After a failure, the next renewal does.
            let _ = self.shared().renew_lease();
        }
        changed?;
        Ok(())
    }

    /// Fails with `ENOENT` if the image, or the snapshot with this name, was removed or is being
    /// removed. Only a handle that was opened read-only does not notice that, and it asks the OSDs.
    /// Does not check images of the old format. Blocks.
    pub(crate) fn check_existence(&self, snapshot: Option<&str>) -> RawResult<()> {
        let (id, pool) = (self.id()?, self.pool());
        if !self.settled || id.is_empty() {
            return Ok(());
        }
        let header = header_of(&id, c"")?;
        if let Some(name) = snapshot {
            // librbd looks up only users' snapshots by their names.
            let snapshot = self.snapshots()?.into_iter().find(|snapshot| snapshot.name == name);
            return pool.stored(&header, snapshot.map(|snapshot| snapshot.id)).map(drop);
        }
        pool.stored(&header, None)?;
        let id = CString::new(id).map_err(|_| Errno::EBADMSG)?;
        // A removal moves the image to the trash before it removes data, and removes the header
        // last.
        let is_trashed = pool.image_name(&id) == Err(Errno::ENOENT);
        if is_trashed && pool.trash_get(&id)?.source == RBD_TRASH_IMAGE_SOURCE_REMOVING {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    pub(crate) fn watchers(&self) -> RawResult<Vec<Watcher>> {
        // SAFETY: the image is open.
        unsafe { watchers_of(self.as_ptr()) }
    }
}

/// # Safety
/// The image must be open.
pub(super) unsafe fn watchers_of(image: sys::rbd_image_t) -> RawResult<Vec<Watcher>> {
    let fetch = |buffer: *mut sys::rbd_image_watcher_t, mut len: usize| {
        // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
        let code = unsafe { sys::rbd_watchers_list(image, buffer, &raw mut len) };
        (code, len)
    };
    // SAFETY: a struct of a pointer and integers; all zeros are valid; `fetch` writes at most the
    // length it is given.
    let mut raw = unsafe { grow(16, fetch) }?;
    let watchers = raw
        .iter()
        .map(|watcher| Watcher {
            // SAFETY: on success each address is set.
            address: ClientAddress::from_ceph(unsafe { copy_string(watcher.addr) }),
            client: u64::try_from(watcher.id).unwrap_or(0),
            cookie: watcher.cookie,
        })
        .collect();
    // SAFETY: the library owns the addresses, which are not used after this.
    unsafe { sys::rbd_watchers_list_cleanup(raw.as_mut_ptr(), raw.len()) };
    Ok(watchers)
}
