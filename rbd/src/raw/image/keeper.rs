//! The owner of an image's exclusive lock, asked through the address of the handle.

use std::ffi::c_char;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string};
use crate::raw::image::mirrored::is_secondary;

/// # Safety
/// The image must be open.
pub(super) unsafe fn owners_of(image: sys::rbd_image_t) -> RawResult<Vec<String>> {
    let fetch = |buffer: *mut *mut c_char, mut len: usize| {
        let mut mode = sys::RBD_LOCK_MODE_EXCLUSIVE;
        // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
        let code = unsafe { sys::rbd_lock_get_owners(image, &raw mut mode, buffer, &raw mut len) };
        (code, len)
    };
    // SAFETY: null is a valid pointer; `fetch` writes at most as many elements as it is given.
    let mut owners = match unsafe { grow(4, fetch) } {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        owners => owners?,
    };
    // SAFETY: on success each is a C string.
    let copies = owners.iter().map(|owner| unsafe { copy_string(*owner) }).collect();
    // SAFETY: the library owns the strings, which are not used after this.
    unsafe { sys::rbd_lock_get_owners_cleanup(owners.as_mut_ptr(), owners.len()) };
    Ok(copies)
}

/// Returns the address of another client that keeps the exclusive lock. Returns `None` if a write
/// is refused for another reason: the image is not primary, or no other client has the lock.
///
/// # Safety
/// The image must be open.
pub(in crate::raw) unsafe fn keeper_of(image: sys::rbd_image_t) -> Option<String> {
    let mut ours = 0;
    // SAFETY: the image is open, the out pointer lives through the call.
    check(unsafe { sys::rbd_is_exclusive_lock_owner(image, &raw mut ours) }).ok()?;
    // SAFETY: as above.
    if ours != 0 || unsafe { is_secondary(image) } {
        return None;
    }
    // SAFETY: as above.
    unsafe { owners_of(image) }.ok()?.into_iter().next()
}

/// Returns the id of the image, which never changes. The name is no alternative: librbd reads it
/// without a lock while a rename may replace it, and asking the cluster for it could block.
///
/// # Safety
/// The image must be open.
pub(super) unsafe fn id(image: sys::rbd_image_t) -> RawResult<String> {
    // SAFETY: the caller's promise; the buffer has `len` bytes.
    let fetch = |buffer: *mut c_char, len: usize| (unsafe { sys::rbd_get_id(image, buffer, len) }, 0);
    // SAFETY: `fetch` writes at most the length it is given.
    unsafe { grow_string(64, fetch) }
}
