//! What a pool or namespace holds, as librbd counts it.

use super::IoCtx;
use crate::error::Result;
use crate::raw::ioctx::stats::RawCounts;

/// The images of a pool or namespace in numbers, those in the trash apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PoolStats {
    /// The images.
    pub images: ImageCounts,
    /// The images in the trash.
    pub trash: ImageCounts,
}

/// Numbers of some images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ImageCounts {
    /// How many.
    pub count: u64,
    /// The sum of their sizes, in bytes: what could be written, not what is used.
    pub provisioned: u64,
    /// The sum of their greatest sizes, at any snapshot or now, in bytes.
    pub max_provisioned: u64,
    /// How many snapshots they have.
    pub snapshots: u64,
}

impl IoCtx {
    /// Counts the images here. Opens every one of them: takes long in a big pool.
    ///
    /// Implements: `rbd_pool_stats_create`, `rbd_pool_stats_option_add_uint64`,
    /// `rbd_pool_stats_get`, `rbd_pool_stats_destroy`.
    #[doc(alias = "rbd_pool_stats_get")]
    pub fn stats(&self) -> Result<PoolStats> {
        let (images, trash) =
            self.bounded("count the images of", || self.pool_object(), move |raw| raw.stats())?;
        Ok(PoolStats { images: images.into(), trash: trash.into() })
    }
}

impl From<RawCounts> for ImageCounts {
    fn from(raw: RawCounts) -> ImageCounts {
        ImageCounts {
            count: raw.images,
            provisioned: raw.provisioned,
            max_provisioned: raw.max_provisioned,
            snapshots: raw.snapshots,
        }
    }
}
