//! The mirrored images of a pool or namespace, page by page.

use std::ffi::{CString, c_char};
use std::ptr;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string};
use crate::raw::image::mirrored::{RawMirrorInfo, copy_info};
use crate::raw::ioctx::IoCtx;
use crate::raw::mirror::image::{RawMirrorStatus, copy_status};

/// How many images one call asks for.
const PAGE: usize = 256;
/// The size of the buffer for states. Ceph has fewer.
const STATES: usize = 64;

/// Pairs of an image's id and a value.
type ById<T> = Vec<(String, T)>;

/// Asks for pages until one is empty. Each begins after the last id of the one before. librbd may
/// return fewer items than requested although more follow.
fn pages<T>(mut page: impl FnMut(&CString) -> RawResult<ById<T>>) -> RawResult<ById<T>> {
    let mut all = Vec::new();
    let mut start = CString::default();
    loop {
        let found = page(&start)?;
        let Some((last, _)) = found.last() else { return Ok(all) };
        let last = CString::new(last.as_str()).unwrap_or_default();
        // An id that is no valid text can sort before the requested one.
        if last <= start {
            return Err(Errno::EBADMSG);
        }
        start = last;
        all.extend(found);
    }
}

/// # Safety
/// Each must be null or a C string.
unsafe fn copy_ids(ids: &[*mut c_char]) -> impl Iterator<Item = String> {
    // SAFETY: the caller's promise.
    ids.iter().map(|id| unsafe { copy_string(*id) })
}

impl IoCtx {
    /// Returns the status of each mirrored image, by image id.
    pub(crate) fn mirror_statuses(&self) -> RawResult<ById<RawMirrorStatus>> {
        pages(|start| {
            let mut ids = [ptr::null_mut(); PAGE];
            // SAFETY: a struct of pointers and integers; all zeros are valid.
            let mut statuses: Vec<sys::rbd_mirror_image_global_status_t> =
                vec![unsafe { std::mem::zeroed() }; PAGE];
            let mut len = 0;
            // SAFETY: both arrays have as many elements as is said; the number used comes back in
            // `len`.
            check(unsafe {
                sys::rbd_mirror_image_global_status_list(
                    self.as_ptr(),
                    start.as_ptr(),
                    PAGE,
                    ids.as_mut_ptr(),
                    statuses.as_mut_ptr(),
                    &raw mut len,
                )
            })?;
            let len = len.min(PAGE);
            // SAFETY: the first `len` elements are set; the library owns them, and they are not
            // used after the cleanup.
            unsafe {
                let copies = statuses[..len].iter().map(|status| copy_status(status));
                let found = copy_ids(&ids[..len]).zip(copies).collect();
                let (ids, statuses) = (ids.as_mut_ptr(), statuses.as_mut_ptr());
                sys::rbd_mirror_image_global_status_list_cleanup(ids, statuses, len);
                Ok(found)
            }
        })
    }

    /// Returns mode and state of each mirrored image (optionally of one mode), by image id.
    pub(crate) fn mirror_infos(&self, mode: Option<u32>) -> RawResult<ById<(u32, RawMirrorInfo)>> {
        pages(|start| {
            let mut filter = mode.map(sys::rbd_mirror_image_mode_t);
            let mut ids = [ptr::null_mut(); PAGE];
            let mut modes = [sys::RBD_MIRROR_IMAGE_MODE_JOURNAL; PAGE];
            // SAFETY: a struct of a pointer and integers; all zeros are valid.
            let mut infos: Vec<sys::rbd_mirror_image_info_t> = vec![unsafe { std::mem::zeroed() }; PAGE];
            let mut len = 0;
            // SAFETY: the filter is null or a mode; all arrays have as many elements as is said;
            // the number used comes back in `len`.
            check(unsafe {
                sys::rbd_mirror_image_info_list(
                    self.as_ptr(),
                    filter.as_mut().map_or(ptr::null_mut(), ptr::from_mut),
                    start.as_ptr(),
                    PAGE,
                    ids.as_mut_ptr(),
                    modes.as_mut_ptr(),
                    infos.as_mut_ptr(),
                    &raw mut len,
                )
            })?;
            let len = len.min(PAGE);
            // SAFETY: the first `len` elements are set; the library owns them, and they are not
            // used after the cleanup.
            unsafe {
                let copies = modes.iter().zip(&infos[..len]).map(|(mode, info)| (mode.0, copy_info(info)));
                let found = copy_ids(&ids[..len]).zip(copies).collect();
                sys::rbd_mirror_image_info_list_cleanup(ids.as_mut_ptr(), infos.as_mut_ptr(), len);
                Ok(found)
            }
        })
    }

    /// Returns the instance id of the daemon that replicates each image, by image id.
    pub(crate) fn mirror_instance_ids(&self) -> RawResult<ById<u64>> {
        let texts: ById<String> = pages(|start| {
            let (mut ids, mut instances) = ([ptr::null_mut(); PAGE], [ptr::null_mut(); PAGE]);
            let mut len = 0;
            // SAFETY: both arrays have as many elements as is said; the number used comes back in
            // `len`.
            check(unsafe {
                sys::rbd_mirror_image_instance_id_list(
                    self.as_ptr(),
                    start.as_ptr(),
                    PAGE,
                    ids.as_mut_ptr(),
                    instances.as_mut_ptr(),
                    &raw mut len,
                )
            })?;
            let len = len.min(PAGE);
            // SAFETY: the first `len` elements are set; the library owns them, and they are not
            // used after the cleanup.
            unsafe {
                let found = copy_ids(&ids[..len]).zip(copy_ids(&instances[..len])).collect();
                let (ids, instances) = (ids.as_mut_ptr(), instances.as_mut_ptr());
                sys::rbd_mirror_image_instance_id_list_cleanup(ids, instances, len);
                Ok(found)
            }
        })?;
        let number = |text: String| text.parse().map_err(|_| Errno::EBADMSG);
        texts.into_iter().map(|(image, instance)| Ok((image, number(instance)?))).collect()
    }

    /// Returns how many mirrored images are in each state.
    pub(crate) fn mirror_summary(&self) -> RawResult<Vec<(u32, u64)>> {
        let mut states = [sys::MIRROR_IMAGE_STATUS_STATE_UNKNOWN; STATES];
        let mut counts = [0; STATES];
        let mut len = STATES;
        let (states_out, counts_out) = (states.as_mut_ptr(), counts.as_mut_ptr());
        // SAFETY: both arrays have `len` elements; the number used comes back in `len`.
        check(unsafe {
            sys::rbd_mirror_image_status_summary(self.as_ptr(), states_out, counts_out, &raw mut len)
        })?;
        let both = states.iter().zip(counts).take(len);
        Ok(both.map(|(state, count)| (state.0, u64::try_from(count).unwrap_or(0))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_on_each_other_until_an_empty_one() {
        let mut asked = Vec::new();
        let all = pages(|start| {
            asked.push(start.to_string_lossy().into_owned());
            Ok(match asked.len() {
                1 => vec![("a".to_owned(), 1), ("b".to_owned(), 2)],
                2 => vec![("c".to_owned(), 3)],
                _ => Vec::new(),
            })
        });
        assert_eq!(all.unwrap().len(), 3);
        assert_eq!(asked, ["", "b", "c"]);
    }

    /// A replacement character replaces an invalid byte, and sorts before it, so librbd would
    /// return the same page forever.
    #[test]
    fn a_page_that_does_not_go_on_ends_the_list() {
        let mut asked = 0;
        let all = pages(|_| {
            asked += 1;
            assert!(asked < 9, "it asks without end");
            Ok(vec![("a".to_owned(), 1), ("\u{fffd}".to_owned(), 2)])
        });
        assert_eq!(all.unwrap_err(), Errno::EBADMSG);
    }
}
