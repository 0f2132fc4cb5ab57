//! Clones: parents, children, cloning and flattening.

use std::ffi::CStr;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow};
use crate::raw::ffi::late::{LateResult, need};
use crate::raw::ffi::options::ImageOptions;
use crate::raw::image::Image;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::progress::with_progress;

/// An image somewhere in the cluster.
#[derive(Debug)]
pub(crate) struct RawLinkedImage {
    pub(crate) pool_id: i64,
    pub(crate) pool: String,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) in_trash: bool,
}

/// The snapshot that an image was cloned from.
#[derive(Debug)]
pub(crate) struct RawParent {
    pub(crate) image: RawLinkedImage,
    pub(crate) snapshot_id: u64,
    pub(crate) snapshot: String,
    pub(crate) snapshot_type: sys::rbd_snap_namespace_type_t,
}

/// # Safety
/// The strings of `spec` must be null or NUL-terminated.
unsafe fn copy_linked(spec: &sys::rbd_linked_image_spec_t) -> RawLinkedImage {
    // SAFETY: the caller's promise.
    unsafe {
        RawLinkedImage {
            pool_id: spec.pool_id,
            pool: copy_string(spec.pool_name),
            namespace: copy_string(spec.pool_namespace),
            id: copy_string(spec.image_id),
            name: copy_string(spec.image_name),
            in_trash: spec.trash,
        }
    }
}

impl IoCtx {
    /// Clones a snapshot of an image of this pool into `child`.
    pub(crate) fn clone_named(
        &self,
        parent: &CStr,
        snapshot: &CStr,
        child: &IoCtx,
        name: &CStr,
        options: &ImageOptions,
    ) -> RawResult<()> {
        let (from, into) = (self.as_ptr(), child.as_ptr());
        // SAFETY: both pool handles and the options are valid, the names live through the call.
        check(unsafe {
            sys::rbd_clone3(from, parent.as_ptr(), snapshot.as_ptr(), into, name.as_ptr(), options.as_ptr())
        })?;
        Ok(())
    }

    /// Like `clone_named`, with the id of the snapshot.
    pub(crate) fn clone_by_id(
        &self,
        parent: &CStr,
        snapshot: u64,
        child: &IoCtx,
        name: &CStr,
        options: &ImageOptions,
    ) -> LateResult<()> {
        let clone = need(&sys::late::rbd_clone4)?;
        let (from, into) = (self.as_ptr(), child.as_ptr());
        // SAFETY: as above.
        check(unsafe { clone(from, parent.as_ptr(), snapshot, into, name.as_ptr(), options.as_ptr()) })?;
        Ok(())
    }
}

impl Image {
    /// Returns the parent, or `None` if the image is no clone.
    pub(crate) fn parent(&self) -> RawResult<Option<RawParent>> {
        // SAFETY: structs of integers and pointers; all zeros are valid.
        let mut image: sys::rbd_linked_image_spec_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut snapshot: sys::rbd_snap_spec_t = unsafe { std::mem::zeroed() };
        // SAFETY: the image is open; both out pointers live through the call.
        match check(unsafe { sys::rbd_get_parent(self.as_ptr(), &raw mut image, &raw mut snapshot) }) {
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let parent = RawParent {
            // SAFETY: on success all strings are set.
            image: unsafe { copy_linked(&image) },
            snapshot_id: snapshot.id,
            // SAFETY: as above.
            snapshot: unsafe { copy_string(snapshot.name) },
            snapshot_type: snapshot.namespace_type,
        };
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe {
            sys::rbd_linked_image_spec_cleanup(&raw mut image);
            sys::rbd_snap_spec_cleanup(&raw mut snapshot);
        }
        Ok(Some(parent))
    }

    /// Returns the clones of the snapshot that the handle shows, or of all snapshots.
    pub(crate) fn children(&self) -> RawResult<Vec<RawLinkedImage>> {
        self.linked(sys::rbd_list_children3)
    }

    /// Returns the clones, their clones, and so on.
    pub(crate) fn descendants(&self) -> RawResult<Vec<RawLinkedImage>> {
        self.linked(sys::rbd_list_descendants)
    }

    fn linked(
        &self,
        call: unsafe extern "C" fn(
            sys::rbd_image_t,
            *mut sys::rbd_linked_image_spec_t,
            *mut usize,
        ) -> std::ffi::c_int,
    ) -> RawResult<Vec<RawLinkedImage>> {
        let fetch = |buffer: *mut sys::rbd_linked_image_spec_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { call(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: a struct of integers and pointers; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut raw = unsafe { grow(32, fetch) }?;
        // SAFETY: on success all strings are set.
        let images = raw.iter().map(|spec| unsafe { copy_linked(spec) }).collect();
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_linked_image_spec_list_cleanup(raw.as_mut_ptr(), raw.len()) };
        Ok(images)
    }

    pub(crate) fn flatten(&self, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: the image is open; the progress state lives through the call.
        self.change(|| unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_flatten_with_progress(self.as_ptr(), Some(report), arg)
            })
        })?;
        Ok(())
    }
}
