//! The namespace of a snapshot: user, group, trash, or mirroring.

use std::ffi::{CStr, c_char};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow_string};
use crate::raw::ffi::late::{LateResult, need};
use crate::raw::image::Image;

/// The group snapshot that a snapshot is part of.
#[derive(Debug)]
pub(crate) struct RawMembership {
    pub(crate) pool_id: i64,
    pub(crate) group: String,
    pub(crate) snapshot: String,
}

/// The mirroring state stored with a mirror snapshot.
#[derive(Debug)]
pub(crate) struct RawMirrorSnapshot {
    pub(crate) state: sys::rbd_snap_mirror_state_t,
    pub(crate) peers: Vec<String>,
    pub(crate) complete: bool,
    pub(crate) primary: String,
    pub(crate) primary_snapshot: u64,
    pub(crate) copied_objects: u64,
}

impl Image {
    pub(crate) fn snapshot_namespace_type(&self, id: u64) -> RawResult<sys::rbd_snap_namespace_type_t> {
        let mut kind = sys::RBD_SNAP_NAMESPACE_TYPE_USER;
        // SAFETY: the image is open; the out pointer lives through the call.
        check(unsafe { sys::rbd_snap_get_namespace_type(self.as_ptr(), id, &raw mut kind) })?;
        Ok(kind)
    }

    pub(crate) fn snapshot_group(&self, id: u64) -> RawResult<RawMembership> {
        // SAFETY: a struct of an integer and pointers; all zeros are valid.
        let mut raw: sys::rbd_snap_group_namespace_t = unsafe { std::mem::zeroed() };
        let size = size_of_val(&raw);
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_snap_get_group_namespace(self.as_ptr(), id, &raw mut raw, size) })?;
        // SAFETY: on success both strings are set.
        let (group, snapshot) = unsafe { (copy_string(raw.group_name), copy_string(raw.group_snap_name)) };
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_snap_group_namespace_cleanup(&raw mut raw, size) };
        Ok(RawMembership { pool_id: raw.group_pool, group, snapshot })
    }

    /// Returns the name that a snapshot had before it was moved to the trash.
    pub(crate) fn snapshot_trash_name(&self, id: u64) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            (unsafe { sys::rbd_snap_get_trash_namespace(self.as_ptr(), id, buffer, len) }, 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    /// Returns the kind that a snapshot had before it was moved to the trash.
    pub(crate) fn snapshot_trash_type(&self, id: u64) -> LateResult<sys::rbd_snap_namespace_type_t> {
        let get = need(&sys::late::rbd_snap_get_trash_namespace2)?;
        let cleanup = need(&sys::late::rbd_snap_trash_namespace_cleanup)?;
        // SAFETY: a struct of an integer and a pointer; all zeros are valid.
        let mut raw: sys::late::rbd_snap_trash_namespace_t = unsafe { std::mem::zeroed() };
        let size = size_of_val(&raw);
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { get(self.as_ptr(), id, &raw mut raw, size) })?;
        // SAFETY: the library owns the string, and we did not keep it.
        unsafe { cleanup(&raw mut raw, size) };
        Ok(raw.original_namespace_type)
    }

    pub(crate) fn snapshot_mirror(&self, id: u64) -> RawResult<RawMirrorSnapshot> {
        // SAFETY: a struct of integers and pointers; all zeros are valid.
        let mut raw: sys::rbd_snap_mirror_namespace_t = unsafe { std::mem::zeroed() };
        let size = size_of_val(&raw);
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_snap_get_mirror_namespace(self.as_ptr(), id, &raw mut raw, size) })?;
        // SAFETY: the strings are consecutive, as many as the count says.
        let peers = unsafe { consecutive(raw.mirror_peer_uuids, raw.mirror_peer_uuids_count) };
        let mirror = RawMirrorSnapshot {
            state: raw.state,
            peers,
            complete: raw.complete,
            // SAFETY: on success the string is set.
            primary: unsafe { copy_string(raw.primary_mirror_uuid) },
            primary_snapshot: raw.primary_snap_id,
            copied_objects: raw.last_copied_object_number,
        };
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_snap_mirror_namespace_cleanup(&raw mut raw, size) };
        Ok(mirror)
    }
}

/// Copies consecutive strings, each ended by a NUL.
///
/// # Safety
/// There must be `count` strings at `text`, which may be null if `count` is 0.
unsafe fn consecutive(mut text: *const c_char, count: usize) -> Vec<String> {
    let mut strings = Vec::new();
    for _ in 0..count {
        // SAFETY: the caller promises another string here.
        let one = unsafe { CStr::from_ptr(text) };
        strings.push(one.to_string_lossy().into_owned());
        // SAFETY: the next string follows the NUL; nothing is read after the last one.
        text = unsafe { text.add(one.count_bytes() + 1) };
    }
    strings
}
