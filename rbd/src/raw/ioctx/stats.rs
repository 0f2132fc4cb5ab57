//! Statistics of a pool or namespace, counted by librbd.

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ioctx::IoCtx;

/// A request for statistics, freed when it is dropped.
struct StatsRequest(sys::rbd_pool_stats_t);

impl Drop for StatsRequest {
    fn drop(&mut self) {
        // SAFETY: we own the handle.
        unsafe { sys::rbd_pool_stats_destroy(self.0) }
    }
}

/// The number of images, their size, their greatest size over all snapshots, and the number of
/// snapshots.
#[derive(Debug, Default)]
pub(crate) struct RawCounts {
    pub(crate) images: u64,
    pub(crate) provisioned: u64,
    pub(crate) max_provisioned: u64,
    pub(crate) snapshots: u64,
}

impl IoCtx {
    /// Returns the counts of the images, and those of the trash.
    pub(crate) fn stats(&self) -> RawResult<(RawCounts, RawCounts)> {
        let (mut images, mut trash) = (RawCounts::default(), RawCounts::default());
        let mut handle = std::ptr::null_mut();
        // SAFETY: the out pointer lives through the call, which cannot fail.
        unsafe { sys::rbd_pool_stats_create(&raw mut handle) };
        let request = StatsRequest(handle);
        for (option, into) in [
            (sys::RBD_POOL_STAT_OPTION_IMAGES, &raw mut images.images),
            (sys::RBD_POOL_STAT_OPTION_IMAGE_PROVISIONED_BYTES, &raw mut images.provisioned),
            (sys::RBD_POOL_STAT_OPTION_IMAGE_MAX_PROVISIONED_BYTES, &raw mut images.max_provisioned),
            (sys::RBD_POOL_STAT_OPTION_IMAGE_SNAPSHOTS, &raw mut images.snapshots),
            (sys::RBD_POOL_STAT_OPTION_TRASH_IMAGES, &raw mut trash.images),
            (sys::RBD_POOL_STAT_OPTION_TRASH_PROVISIONED_BYTES, &raw mut trash.provisioned),
            (sys::RBD_POOL_STAT_OPTION_TRASH_MAX_PROVISIONED_BYTES, &raw mut trash.max_provisioned),
            (sys::RBD_POOL_STAT_OPTION_TRASH_SNAPSHOTS, &raw mut trash.snapshots),
        ] {
            // SAFETY: the request is valid; librbd keeps the pointer until the request is
            // destroyed, and the counts outlive the request.
            check(unsafe { sys::rbd_pool_stats_option_add_uint64(request.0, option.0 as i32, into) })?;
        }
        // SAFETY: pool handle and request are valid; the counts that librbd writes are alive and
        // not borrowed.
        check(unsafe { sys::rbd_pool_stats_get(self.as_ptr(), request.0) })?;
        drop(request);
        Ok((images, trash))
    }
}
