//! Live migration of an image to another pool, name or layout.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use librbd_sys as sys;

use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow_string};
use crate::raw::ffi::options::ImageOptions;
use crate::raw::image::Image;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::progress::with_progress;

/// One end of a migration.
#[derive(Debug)]
pub(crate) struct RawMigrationEnd {
    pub(crate) pool_id: i64,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) id: String,
}

/// The state of a migration.
#[derive(Debug)]
pub(crate) struct RawMigration {
    pub(crate) source: RawMigrationEnd,
    pub(crate) destination: RawMigrationEnd,
    pub(crate) state: sys::rbd_image_migration_state_t,
    pub(crate) description: String,
}

impl IoCtx {
    pub(crate) fn migration_prepare(
        &self,
        image: &CStr,
        to: &IoCtx,
        name: &CStr,
        options: &ImageOptions,
    ) -> RawResult<()> {
        let (from, to) = (self.as_ptr(), to.as_ptr());
        // SAFETY: both pool handles and the options are valid; the names live through the call.
        check(unsafe {
            sys::rbd_migration_prepare(from, image.as_ptr(), to, name.as_ptr(), options.as_ptr())
        })?;
        Ok(())
    }

    /// Prepares an import into this pool.
    pub(crate) fn migration_prepare_import(
        &self,
        source: &CStr,
        name: &CStr,
        options: &ImageOptions,
    ) -> RawResult<()> {
        // SAFETY: pool handle and options are valid; the strings live through the call.
        check(unsafe {
            sys::rbd_migration_prepare_import(source.as_ptr(), self.as_ptr(), name.as_ptr(), options.as_ptr())
        })?;
        Ok(())
    }

    pub(crate) fn migration_execute(self: &Arc<Self>, image: &CStr, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: the pool handle is valid; name and progress state live through the call.
        self.change(image, || unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_migration_execute_with_progress(self.as_ptr(), image.as_ptr(), Some(report), arg)
            })
        })?;
        Ok(())
    }

    pub(crate) fn migration_abort(&self, image: &CStr, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: as above.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_migration_abort_with_progress(self.as_ptr(), image.as_ptr(), Some(report), arg)
            })
        }?;
        Ok(())
    }

    pub(crate) fn migration_commit(&self, image: &CStr, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: as above.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_migration_commit_with_progress(self.as_ptr(), image.as_ptr(), Some(report), arg)
            })
        }?;
        Ok(())
    }

    pub(crate) fn migration_status(&self, image: &CStr) -> RawResult<RawMigration> {
        // SAFETY: a struct of integers and pointers; all zeros are valid.
        let mut raw: sys::rbd_image_migration_status_t = unsafe { std::mem::zeroed() };
        let size = size_of_val(&raw);
        // SAFETY: the pool handle is valid, the name lives through the call; librbd is told the
        // size of the struct.
        check(unsafe { sys::rbd_migration_status(self.as_ptr(), image.as_ptr(), &raw mut raw, size) })?;
        // SAFETY: on success all strings are set.
        let status = unsafe {
            RawMigration {
                source: RawMigrationEnd {
                    pool_id: raw.source_pool_id,
                    namespace: copy_string(raw.source_pool_namespace),
                    name: copy_string(raw.source_image_name),
                    id: copy_string(raw.source_image_id),
                },
                destination: RawMigrationEnd {
                    pool_id: raw.dest_pool_id,
                    namespace: copy_string(raw.dest_pool_namespace),
                    name: copy_string(raw.dest_image_name),
                    id: copy_string(raw.dest_image_id),
                },
                state: raw.state,
                description: copy_string(raw.state_description),
            }
        };
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_migration_status_cleanup(&raw mut raw) };
        Ok(status)
    }
}

impl Image {
    pub(crate) fn migration_source_spec(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_get_migration_source_spec(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(1024, fetch) }
    }
}
