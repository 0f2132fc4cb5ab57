//! The mirroring state of an image, asked through the address of the handle.

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string};

/// The mirroring state of an image.
#[derive(Debug)]
pub(crate) struct RawMirrorInfo {
    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(crate) global_id: String,
    pub(crate) state: u32,
    pub(crate) primary: bool,
}

/// # Safety
/// The string must be null or a C string.
pub(in crate::raw) unsafe fn copy_info(info: &sys::rbd_mirror_image_info_t) -> RawMirrorInfo {
    // SAFETY: the caller's promise.
    let global_id = unsafe { copy_string(info.global_id) };
    RawMirrorInfo { global_id, state: info.state.0, primary: info.primary }
}

/// Returns whether the image is mirrored and not primary.
///
/// # Safety
/// The image must be open.
pub(in crate::raw) unsafe fn is_secondary(image: sys::rbd_image_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { info_of(image) }.is_ok_and(|info| info.state == sys::RBD_MIRROR_IMAGE_ENABLED.0 && !info.primary)
}

/// # Safety
/// The image must be open.
pub(in crate::raw) unsafe fn info_of(image: sys::rbd_image_t) -> RawResult<RawMirrorInfo> {
    const SIZE: usize = size_of::<sys::rbd_mirror_image_info_t>();
    // SAFETY: a struct of a pointer and integers; all zeros are valid.
    let mut info: sys::rbd_mirror_image_info_t = unsafe { std::mem::zeroed() };
    // SAFETY: the image is open; librbd is told the size of the struct.
    check(unsafe { sys::rbd_mirror_image_get_info(image, &raw mut info, SIZE) })?;
    // SAFETY: on success the string is set; it is not used after the cleanup.
    unsafe {
        let copied = copy_info(&info);
        sys::rbd_mirror_image_get_info_cleanup(&raw mut info);
        Ok(copied)
    }
}
