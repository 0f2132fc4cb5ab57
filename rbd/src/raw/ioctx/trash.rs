//! The trash of a pool or namespace.

use std::ffi::CStr;

use librbd_sys as sys;
pub(crate) use librbd_sys::{
    RBD_TRASH_IMAGE_SOURCE_MIGRATION, RBD_TRASH_IMAGE_SOURCE_MIRRORING, RBD_TRASH_IMAGE_SOURCE_REMOVING,
    RBD_TRASH_IMAGE_SOURCE_USER, RBD_TRASH_IMAGE_SOURCE_USER_PARENT,
};

use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow};
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::progress::with_progress;

/// An image in the trash, with the text copied. Times are in seconds since 1970.
#[derive(Debug)]
pub(crate) struct RawTrashed {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) source: sys::rbd_trash_image_source_t,
    pub(crate) deleted: i64,
    pub(crate) deferred_until: i64,
}

/// # Safety
/// The strings of `info` must be null or C strings.
unsafe fn copy(info: &sys::rbd_trash_image_info_t) -> RawTrashed {
    // SAFETY: the caller's promise.
    let (id, name) = unsafe { (copy_string(info.id), copy_string(info.name)) };
    RawTrashed {
        id,
        name,
        source: info.source,
        deleted: info.deletion_time,
        deferred_until: info.deferment_end_time,
    }
}

impl IoCtx {
    pub(crate) fn trash_move(&self, name: &CStr, delay: u64) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rbd_trash_move(self.as_ptr(), name.as_ptr(), delay) })?;
        Ok(())
    }

    pub(crate) fn trash_get(&self, id: &CStr) -> RawResult<RawTrashed> {
        // SAFETY: a struct of pointers and integers; all zeros are valid.
        let mut info: sys::rbd_trash_image_info_t = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is valid, id and out pointer live through the call.
        check(unsafe { sys::rbd_trash_get(self.as_ptr(), id.as_ptr(), &raw mut info) })?;
        // SAFETY: on success both strings are set; the library owns them, and they are not used
        // after the cleanup.
        unsafe {
            let copied = copy(&info);
            sys::rbd_trash_get_cleanup(&raw mut info);
            Ok(copied)
        }
    }

    pub(crate) fn trash_list(&self) -> RawResult<Vec<RawTrashed>> {
        let fetch = |buffer: *mut sys::rbd_trash_image_info_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { sys::rbd_trash_list(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: a struct of pointers and integers; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut infos = unsafe { grow(32, fetch) }?;
        // SAFETY: on success all strings are set; the library owns them, and they are not used
        // after the cleanup.
        unsafe {
            let copied = infos.iter().map(|info| copy(info)).collect();
            sys::rbd_trash_list_cleanup(infos.as_mut_ptr(), infos.len());
            Ok(copied)
        }
    }

    pub(crate) fn trash_restore(&self, id: &CStr, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, both strings live through the call.
        check(unsafe { sys::rbd_trash_restore(self.as_ptr(), id.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn trash_remove(&self, id: &CStr, force: bool, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: handle, id and the progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_trash_remove_with_progress(self.as_ptr(), id.as_ptr(), force, Some(report), arg)
            })
        }?;
        Ok(())
    }

    pub(crate) fn trash_purge(
        &self,
        expired_before: i64,
        threshold: f32,
        progress: Progress<'_>,
    ) -> RawResult<()> {
        // SAFETY: the handle and the progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_trash_purge_with_progress(
                    self.as_ptr(),
                    expired_before,
                    threshold,
                    Some(report),
                    arg,
                )
            })
        }?;
        Ok(())
    }
}
