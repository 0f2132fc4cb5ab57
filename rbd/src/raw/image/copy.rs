//! Copies of images, and maintenance of their objects and object map.

use std::ffi::CStr;

use librbd_sys as sys;

use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::options::ImageOptions;
use crate::raw::image::Image;
use crate::raw::image::size::Turn;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::progress::with_progress;

impl Image {
    /// Copies the version that the handle shows into a new image. Runs of `sparse_size` zero bytes
    /// are not written; with 0 they are.
    pub(crate) fn copy(
        &self,
        to: &IoCtx,
        name: &CStr,
        options: &ImageOptions,
        sparse_size: usize,
        progress: Progress<'_>,
    ) -> RawResult<()> {
        let (image, to) = (self.as_ptr(), to.as_ptr());
        // SAFETY: image, pool and options are valid; name and progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_copy_with_progress4(
                    image,
                    to,
                    name.as_ptr(),
                    options.as_ptr(),
                    Some(report),
                    arg,
                    sparse_size,
                )
            })
        }?;
        Ok(())
    }

    /// Copies the version that the handle shows over another open image.
    pub(crate) fn copy_over(&self, to: &Image, progress: Progress<'_>) -> RawResult<()> {
        to.shared().mark_written();
        // SAFETY: both images are open; the progress state lives through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_copy_with_progress2(self.as_ptr(), to.as_ptr(), Some(report), arg)
            })
        }?;
        Ok(())
    }

    /// Copies the image with its snapshots.
    pub(crate) fn deep_copy(
        &self,
        to: &IoCtx,
        name: &CStr,
        options: &ImageOptions,
        progress: Progress<'_>,
    ) -> RawResult<()> {
        let (image, to) = (self.as_ptr(), to.as_ptr());
        // SAFETY: image, pool and options are valid; name and progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_deep_copy_with_progress(
                    image,
                    to,
                    name.as_ptr(),
                    options.as_ptr(),
                    Some(report),
                    arg,
                )
            })
        }?;
        Ok(())
    }

    pub(crate) fn sparsify(&self, sparse_size: usize, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: the image is open; the progress state lives through the call.
        self.change(|| unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_sparsify_with_progress(self.as_ptr(), sparse_size, Some(report), arg)
            })
        })?;
        Ok(())
    }

    pub(crate) fn rebuild_object_map(&self, progress: Progress<'_>) -> RawResult<()> {
        // librbd 16.2 aborts the process if the object map shrinks meanwhile.
        let _turn = Turn::take(self.shared());
        // SAFETY: the image is open; the progress state lives through the call.
        self.change(|| unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_rebuild_object_map(self.as_ptr(), Some(report), arg)
            })
        })?;
        Ok(())
    }
}
