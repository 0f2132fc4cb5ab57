//! Groups of images and their snapshots.

use std::ffi::{CStr, CString, c_char, c_int};

use librbd_sys as sys;

use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string, grow_strings};
use crate::raw::ffi::late::{LateResult, need};
use crate::raw::image::Image;
use crate::raw::image::snapshot::RawQuiesce;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::progress::with_progress;

/// An image in a group: pool id, name, and whether it is completely attached.
#[derive(Debug)]
pub(crate) struct RawMember {
    pub(crate) pool_id: i64,
    pub(crate) name: String,
    pub(crate) attached: bool,
}

/// A snapshot of a group: its name, and whether it is complete.
#[derive(Debug)]
pub(crate) struct RawGroupSnapshot {
    pub(crate) name: String,
    pub(crate) complete: bool,
}

/// The details of a group snapshot, which newer libraries return.
#[derive(Debug)]
pub(crate) struct RawGroupSnapshotInfo {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image_snapshot: String,
    pub(crate) complete: bool,
    /// Pool id, image name and snapshot id of each image.
    pub(crate) images: Vec<(i64, String, u64)>,
}

impl IoCtx {
    pub(crate) fn group_create(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rbd_group_create(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn group_remove(&self, name: &CStr) -> RawResult<()> {
        self.group_change(name, || {
            // SAFETY: the handle is valid, the name lives through the call.
            check(unsafe { sys::rbd_group_remove(self.as_ptr(), name.as_ptr()) })
        })
    }

    /// Removes snapshots of the images of a group. The owners of the exclusive locks may do that
    /// for this client.
    fn group_change(&self, group: &CStr, call: impl FnOnce() -> RawResult<c_int>) -> RawResult<()> {
        let members = self.group_members(group).unwrap_or_default();
        let image = |member: RawMember| Some((member.pool_id, CString::new(member.name).ok()?));
        self.change_all(members.into_iter().filter_map(image), call)?;
        Ok(())
    }

    pub(crate) fn group_rename(&self, from: &CStr, to: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, both names live through the call.
        check(unsafe { sys::rbd_group_rename(self.as_ptr(), from.as_ptr(), to.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn groups(&self) -> RawResult<Vec<String>> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed or used comes back in `len`.
            let code = unsafe { sys::rbd_group_list(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_strings(1024, fetch) }
    }

    pub(crate) fn group_id(&self, group: &CStr) -> LateResult<String> {
        let get_id = need(&sys::late::rbd_group_get_id)?;
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { get_id(self.as_ptr(), group.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        Ok(unsafe { grow_string(64, fetch) }?)
    }

    pub(crate) fn group_add(&self, group: &CStr, pool: &IoCtx, image: &CStr) -> RawResult<()> {
        // SAFETY: both handles are valid, both names live through the call.
        check(unsafe {
            sys::rbd_group_image_add(self.as_ptr(), group.as_ptr(), pool.as_ptr(), image.as_ptr())
        })?;
        Ok(())
    }

    pub(crate) fn group_drop(&self, group: &CStr, pool: &IoCtx, image: &CStr, by_id: bool) -> RawResult<()> {
        let call = if by_id { sys::rbd_group_image_remove_by_id } else { sys::rbd_group_image_remove };
        // SAFETY: both handles are valid, both names live through the call.
        check(unsafe { call(self.as_ptr(), group.as_ptr(), pool.as_ptr(), image.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn group_members(&self, group: &CStr) -> RawResult<Vec<RawMember>> {
        const ITEM: usize = size_of::<sys::rbd_group_image_info_t>();
        let fetch = |buffer: *mut sys::rbd_group_image_info_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements of the size that is passed; the number comes
            // back in `len`.
            let code = unsafe {
                sys::rbd_group_image_list(self.as_ptr(), group.as_ptr(), buffer, ITEM, &raw mut len)
            };
            (code, len)
        };
        // SAFETY: a struct of a pointer and integers; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut infos = unsafe { grow(32, fetch) }?;
        let member = |info: &sys::rbd_group_image_info_t| RawMember {
            pool_id: info.pool,
            // SAFETY: on success the name is set.
            name: unsafe { copy_string(info.name) },
            attached: info.state == sys::RBD_GROUP_IMAGE_STATE_ATTACHED,
        };
        let members = infos.iter().map(member).collect();
        // SAFETY: the library owns the names, which are not used after this.
        unsafe { sys::rbd_group_image_list_cleanup(infos.as_mut_ptr(), ITEM, infos.len()) };
        Ok(members)
    }

    pub(crate) fn group_snapshot_create(
        &self,
        group: &CStr,
        name: &CStr,
        quiesce: RawQuiesce,
    ) -> RawResult<()> {
        // SAFETY: the handle is valid, both names live through the call.
        check(unsafe {
            sys::rbd_group_snap_create2(self.as_ptr(), group.as_ptr(), name.as_ptr(), quiesce.flags())
        })?;
        Ok(())
    }

    pub(crate) fn group_snapshot_remove(&self, group: &CStr, name: &CStr) -> RawResult<()> {
        self.group_change(group, || {
            // SAFETY: the handle is valid, both names live through the call.
            check(unsafe { sys::rbd_group_snap_remove(self.as_ptr(), group.as_ptr(), name.as_ptr()) })
        })
    }

    pub(crate) fn group_snapshot_rename(&self, group: &CStr, from: &CStr, to: &CStr) -> RawResult<()> {
        let (group, from, to) = (group.as_ptr(), from.as_ptr(), to.as_ptr());
        // SAFETY: the handle is valid, all names live through the call.
        check(unsafe { sys::rbd_group_snap_rename(self.as_ptr(), group, from, to) })?;
        Ok(())
    }

    pub(crate) fn group_snapshots(&self, group: &CStr) -> RawResult<Vec<RawGroupSnapshot>> {
        const ITEM: usize = size_of::<sys::rbd_group_snap_info_t>();
        let fetch = |buffer: *mut sys::rbd_group_snap_info_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements of the size that is passed; the number comes
            // back in `len`.
            let code = unsafe {
                sys::rbd_group_snap_list(self.as_ptr(), group.as_ptr(), buffer, ITEM, &raw mut len)
            };
            (code, len)
        };
        // SAFETY: a struct of a pointer and an integer; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut infos = unsafe { grow(32, fetch) }?;
        let snapshot = |info: &sys::rbd_group_snap_info_t| RawGroupSnapshot {
            // SAFETY: on success the name is set.
            name: unsafe { copy_string(info.name) },
            complete: info.state == sys::RBD_GROUP_SNAP_STATE_COMPLETE,
        };
        let snapshots = infos.iter().map(snapshot).collect();
        // SAFETY: the library owns the names, which are not used after this.
        unsafe { sys::rbd_group_snap_list_cleanup(infos.as_mut_ptr(), ITEM, infos.len()) };
        Ok(snapshots)
    }

    pub(crate) fn group_snapshot_info(&self, group: &CStr, name: &CStr) -> LateResult<RawGroupSnapshotInfo> {
        let get_info = need(&sys::late::rbd_group_snap_get_info)?;
        let cleanup = need(&sys::late::rbd_group_snap_get_info_cleanup)?;
        // SAFETY: a struct of pointers and integers; all zeros are valid.
        let mut info: sys::late::rbd_group_snap_info2_t = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is valid, names and out pointer live through the call.
        check(unsafe { get_info(self.as_ptr(), group.as_ptr(), name.as_ptr(), &raw mut info) })?;
        // SAFETY: on success the strings and the array are set; the library owns them, and they are
        // not used after the cleanup.
        unsafe {
            let copied = copy_info(&info);
            cleanup(&raw mut info);
            Ok(copied)
        }
    }

    /// Returns the snapshots with their images. Older libraries lack the call.
    pub(crate) fn group_snapshot_infos(&self, group: &CStr) -> LateResult<Vec<RawGroupSnapshotInfo>> {
        let list = need(&sys::late::rbd_group_snap_list2)?;
        let cleanup = need(&sys::late::rbd_group_snap_list2_cleanup)?;
        let fetch = |buffer: *mut sys::late::rbd_group_snap_info2_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { list(self.as_ptr(), group.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: a struct of pointers and integers; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut infos = unsafe { grow(32, fetch) }?;
        // SAFETY: on success the strings and arrays are set; the library owns them, and they are
        // not used after the cleanup.
        unsafe {
            let copied = infos.iter().map(|info| copy_info(info)).collect();
            cleanup(infos.as_mut_ptr(), infos.len());
            Ok(copied)
        }
    }

    pub(crate) fn group_rollback(&self, group: &CStr, name: &CStr, progress: Progress<'_>) -> RawResult<()> {
        let (group, name) = (group.as_ptr(), name.as_ptr());
        // SAFETY: handle, names and the progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_group_snap_rollback_with_progress(self.as_ptr(), group, name, Some(report), arg)
            })
        }?;
        Ok(())
    }
}

impl Image {
    /// Returns the group of the image: pool id and name. The name is empty if the image is in no
    /// group.
    pub(crate) fn group(&self) -> RawResult<(i64, String)> {
        const ITEM: usize = size_of::<sys::rbd_group_info_t>();
        // SAFETY: a struct of a pointer and an integer; all zeros are valid.
        let mut info: sys::rbd_group_info_t = unsafe { std::mem::zeroed() };
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_get_group(self.as_ptr(), &raw mut info, ITEM) })?;
        // SAFETY: on success the name is null or a C string, which is not used after the cleanup.
        unsafe {
            let group = (info.pool, copy_string(info.name));
            sys::rbd_group_info_cleanup(&raw mut info, ITEM);
            Ok(group)
        }
    }
}

/// # Safety
/// The strings must be null or C strings, and the array must have as many elements as it says.
unsafe fn copy_info(info: &sys::late::rbd_group_snap_info2_t) -> RawGroupSnapshotInfo {
    let images = if info.image_snaps.is_null() {
        &[]
    } else {
        // SAFETY: not null; the caller promises the length.
        unsafe { std::slice::from_raw_parts(info.image_snaps, info.image_snaps_count) }
    };
    // SAFETY: the caller's promise, for each string.
    unsafe {
        RawGroupSnapshotInfo {
            id: copy_string(info.id),
            name: copy_string(info.name),
            image_snapshot: copy_string(info.image_snap_name),
            complete: info.state == sys::RBD_GROUP_SNAP_STATE_COMPLETE,
            images: images
                .iter()
                .map(|one| (one.pool_id, copy_string(one.image_name), one.snap_id))
                .collect(),
        }
    }
}
