//! Snapshots of an open image.

use std::ffi::{CStr, c_char, c_int};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string};
use crate::raw::image::Image;
use crate::raw::image::size::Turn;
use crate::raw::thread::progress::with_progress;

/// A snapshot in a listing.
#[derive(Debug)]
pub(crate) struct RawSnapshot {
    pub(crate) id: u64,
    pub(crate) size: u64,
    pub(crate) name: String,
}

/// How a snapshot treats its quiesce watchers. By default they pause their writes, and may refuse.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawQuiesce {
    pub(crate) skip: bool,
    pub(crate) ignore_error: bool,
}

impl RawQuiesce {
    pub(in crate::raw) fn flags(self) -> u32 {
        let skip = if self.skip { sys::RBD_SNAP_CREATE_SKIP_QUIESCE } else { 0 };
        let ignore = if self.ignore_error { sys::RBD_SNAP_CREATE_IGNORE_QUIESCE_ERROR } else { 0 };
        skip | ignore
    }
}

impl Image {
    /// Returns all snapshots of all namespaces.
    pub(crate) fn snapshots(&self) -> RawResult<Vec<RawSnapshot>> {
        let fetch = |buffer: *mut sys::rbd_snap_info_t, capacity: usize| {
            // One element is reserved: `rbd_snap_list_end` continues until it finds a zero element.
            let mut len = capacity as c_int - 1;
            // SAFETY: the buffer has more than `len` elements; the number needed comes back in
            // `len`.
            let code = unsafe { sys::rbd_snap_list(self.as_ptr(), buffer, &raw mut len) };
            (code, if code < 0 { len as usize + 1 } else { code as usize + 1 })
        };
        // SAFETY: a struct of integers and a pointer; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut raw = unsafe { grow(33, fetch) }?;
        let snapshots = raw[..raw.len() - 1]
            .iter()
            // SAFETY: on success each name is set.
            .map(|snap| RawSnapshot { id: snap.id, size: snap.size, name: unsafe { copy_string(snap.name) } })
            .collect();
        // SAFETY: the library owns the names, which are not used after this; the last element is
        // zero.
        unsafe { sys::rbd_snap_list_end(raw.as_mut_ptr()) };
        Ok(snapshots)
    }

    pub(crate) fn snapshot_exists(&self, name: &CStr) -> RawResult<bool> {
        let mut exists = false;
        // SAFETY: the image is open; name and out pointer live through the call.
        check(unsafe { sys::rbd_snap_exists(self.as_ptr(), name.as_ptr(), &raw mut exists) })?;
        Ok(exists)
    }

    pub(crate) fn snapshot_id(&self, name: &CStr) -> RawResult<u64> {
        let mut id = 0;
        // SAFETY: as above.
        check(unsafe { sys::rbd_snap_get_id(self.as_ptr(), name.as_ptr(), &raw mut id) })?;
        Ok(id)
    }

    pub(crate) fn snapshot_name(&self, id: u64) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_snap_get_name(self.as_ptr(), id, buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    /// Returns when the snapshot was taken. librbd looks the id up without a lock, and **aborts the
    /// process** if it is unknown. So the handle must be one that librbd does not refresh, opened
    /// read-only. Fails with `EINVAL` on others.
    pub(crate) fn snapshot_time(&self, id: u64) -> RawResult<libc::timespec> {
        if !self.settled {
            return Err(Errno::EINVAL);
        }
        self.snapshot_namespace_type(id)?;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the image is open; both timespec types are the system's struct timespec.
        check(unsafe { sys::rbd_snap_get_timestamp(self.as_ptr(), id, (&raw mut time).cast()) })?;
        Ok(time)
    }

    pub(crate) fn snapshot_create(
        &self,
        name: &CStr,
        quiesce: RawQuiesce,
        progress: Progress<'_>,
    ) -> RawResult<()> {
        let flags = quiesce.flags();
        // SAFETY: the image is open; name and progress state live through the call.
        self.change(|| unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_snap_create2(self.as_ptr(), name.as_ptr(), flags, Some(report), arg)
            })
        })?;
        Ok(())
    }

    pub(crate) fn snapshot_remove(
        &self,
        name: &CStr,
        flatten: bool,
        unprotect: bool,
        progress: Progress<'_>,
    ) -> RawResult<()> {
        let mut flags = 0;
        if flatten {
            flags |= sys::RBD_SNAP_REMOVE_FLATTEN;
        }
        if unprotect {
            flags |= sys::RBD_SNAP_REMOVE_UNPROTECT;
        }
        // SAFETY: the image is open; name and progress state live through the call.
        self.change(|| unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_snap_remove2(self.as_ptr(), name.as_ptr(), flags, Some(report), arg)
            })
        })?;
        Ok(())
    }

    pub(crate) fn snapshot_remove_by_id(&self, id: u64) -> RawResult<()> {
        // SAFETY: the image is open.
        check(self.change(|| unsafe { sys::rbd_snap_remove_by_id(self.as_ptr(), id) }))?;
        Ok(())
    }

    pub(crate) fn snapshot_rename(&self, from: &CStr, to: &CStr) -> RawResult<()> {
        // SAFETY: the image is open; both names live through the call.
        check(self.change(|| unsafe { sys::rbd_snap_rename(self.as_ptr(), from.as_ptr(), to.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn snapshot_protect(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the image is open; the name lives through the call.
        check(self.change(|| unsafe { sys::rbd_snap_protect(self.as_ptr(), name.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn snapshot_unprotect(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: as above.
        check(self.change(|| unsafe { sys::rbd_snap_unprotect(self.as_ptr(), name.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn snapshot_is_protected(&self, name: &CStr) -> RawResult<bool> {
        let mut protected = 0;
        // SAFETY: the image is open; name and out pointer live through the call.
        check(unsafe { sys::rbd_snap_is_protected(self.as_ptr(), name.as_ptr(), &raw mut protected) })?;
        Ok(protected != 0)
    }

    /// Returns the limit; `u64::MAX` means none.
    pub(crate) fn snapshot_limit(&self) -> RawResult<u64> {
        let mut limit = 0;
        // SAFETY: the image is open; the out pointer lives through the call.
        check(unsafe { sys::rbd_snap_get_limit(self.as_ptr(), &raw mut limit) })?;
        Ok(limit)
    }

    pub(crate) fn snapshot_set_limit(&self, limit: u64) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_snap_set_limit(self.as_ptr(), limit) })?;
        Ok(())
    }

    pub(crate) fn snapshot_rollback(&self, name: &CStr, progress: Progress<'_>) -> RawResult<()> {
        let _turn = Turn::take(self.shared());
        let _alone = self.hold()?;
        // SAFETY: the image is open; name and progress state live through the call.
        let rolled_back = unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_snap_rollback_with_progress(self.as_ptr(), name.as_ptr(), Some(report), arg)
            })
        };
        self.size_changed();
        rolled_back.map(drop)
    }

    /// Sets the handle to a snapshot. The caller must be its only user, because this changes the
    /// meaning of I/O.
    pub(crate) fn set_snapshot_id(&self, id: u64) -> RawResult<()> {
        // SAFETY: the image is open, and only this thread uses it.
        check(unsafe { sys::rbd_snap_set_by_id(self.as_ptr(), id) })?;
        self.size_changed();
        Ok(())
    }
}
