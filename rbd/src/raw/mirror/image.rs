//! Mirroring of one image.

use std::ffi::c_char;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow_string};
use crate::raw::image::Image;
use crate::raw::image::mirrored::{RawMirrorInfo, copy_info, info_of};
use crate::raw::image::snapshot::RawQuiesce;

/// The mirroring status of an image on all sites.
#[derive(Debug)]
pub(crate) struct RawMirrorStatus {
    pub(crate) name: String,
    pub(crate) info: RawMirrorInfo,
    pub(crate) sites: Vec<RawSiteStatus>,
}

/// The mirroring status of an image on one site. The time is in seconds since 1970, or 0 for never.
/// The uuid is empty for this site.
#[derive(Debug)]
pub(crate) struct RawSiteStatus {
    pub(crate) mirror_uuid: String,
    pub(crate) state: u32,
    pub(crate) description: String,
    pub(crate) last_update: i64,
    pub(crate) up: bool,
}

/// # Safety
/// The strings must be null or C strings, and the array must have as many elements as it says.
pub(in crate::raw) unsafe fn copy_status(status: &sys::rbd_mirror_image_global_status_t) -> RawMirrorStatus {
    let sites = if status.site_statuses.is_null() {
        &[]
    } else {
        // SAFETY: not null; the caller promises the length.
        unsafe { std::slice::from_raw_parts(status.site_statuses, status.site_statuses_count as usize) }
    };
    // SAFETY: the caller's promise, for each string.
    let site = |site: &sys::rbd_mirror_image_site_status_t| unsafe {
        RawSiteStatus {
            mirror_uuid: copy_string(site.mirror_uuid),
            state: site.state.0,
            description: copy_string(site.description),
            last_update: site.last_update,
            up: site.up,
        }
    };
    // SAFETY: the caller's promise.
    let (name, info) = unsafe { (copy_string(status.name), copy_info(&status.info)) };
    RawMirrorStatus { name, info, sites: sites.iter().map(site).collect() }
}

impl Image {
    pub(crate) fn mirror_enable(&self, mode: u32) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_mirror_image_enable2(self.as_ptr(), sys::rbd_mirror_image_mode_t(mode)) })?;
        Ok(())
    }

    pub(crate) fn mirror_disable(&self, force: bool) -> RawResult<()> {
        // SAFETY: the image is open.
        check(self.change(|| unsafe { sys::rbd_mirror_image_disable(self.as_ptr(), force) }))?;
        Ok(())
    }

    pub(crate) fn mirror_promote(&self, force: bool) -> RawResult<()> {
        // SAFETY: the image is open.
        check(self.change(|| unsafe { sys::rbd_mirror_image_promote(self.as_ptr(), force) }))?;
        Ok(())
    }

    pub(crate) fn mirror_demote(&self) -> RawResult<()> {
        // SAFETY: the image is open.
        check(self.change(|| unsafe { sys::rbd_mirror_image_demote(self.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn mirror_resync(&self) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_mirror_image_resync(self.as_ptr()) })?;
        Ok(())
    }

    /// Creates a mirror snapshot. Returns its id.
    pub(crate) fn mirror_snapshot(&self, quiesce: RawQuiesce) -> RawResult<u64> {
        let (flags, mut id) = (quiesce.flags(), 0);
        // SAFETY: the image is open, the out pointer lives through the call.
        check(self.change(|| unsafe {
            sys::rbd_mirror_image_create_snapshot2(self.as_ptr(), flags, &raw mut id)
        }))?;
        Ok(id)
    }

    pub(crate) fn mirror_info(&self) -> RawResult<RawMirrorInfo> {
        // SAFETY: the image is open.
        unsafe { info_of(self.as_ptr()) }
    }

    pub(crate) fn mirror_mode(&self) -> RawResult<u32> {
        let mut mode = sys::RBD_MIRROR_IMAGE_MODE_JOURNAL;
        // SAFETY: the image is open, the out pointer lives through the call.
        check(unsafe { sys::rbd_mirror_image_get_mode(self.as_ptr(), &raw mut mode) })?;
        Ok(mode.0)
    }

    pub(crate) fn mirror_status(&self) -> RawResult<RawMirrorStatus> {
        const SIZE: usize = size_of::<sys::rbd_mirror_image_global_status_t>();
        // SAFETY: a struct of pointers and integers; all zeros are valid.
        let mut status: sys::rbd_mirror_image_global_status_t = unsafe { std::mem::zeroed() };
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_mirror_image_get_global_status(self.as_ptr(), &raw mut status, SIZE) })?;
        // SAFETY: on success strings and array are set; the library owns them, and they are not
        // used after the cleanup.
        unsafe {
            let copied = copy_status(&status);
            sys::rbd_mirror_image_global_status_cleanup(&raw mut status);
            Ok(copied)
        }
    }

    /// Returns the instance id of the daemon that replicates the image.
    pub(crate) fn mirror_instance_id(&self) -> RawResult<u64> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_mirror_image_get_instance_id(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }?.parse().map_err(|_| Errno::EBADMSG)
    }
}
