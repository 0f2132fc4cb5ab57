//! Counts of the images in a pool or namespace.

use super::IoCtx;
use crate::error::Result;
use crate::raw::ioctx::stats::RawCounts;

/// Counts of the images in a pool or namespace, and of those in its trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PoolStats {
    /// Counts of the images.
    pub images: ImageCounts,
    /// Counts of the images in the trash.
    pub trash: ImageCounts,
}

/// Counts of a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ImageCounts {
    /// The number of images.
    pub count: u64,
    /// The sum of their sizes in bytes: the provisioned space, not the used space.
    pub provisioned: u64,
    /// The sum, in bytes, of the largest size that each image has now or at any snapshot.
    pub max_provisioned: u64,
    /// The number of their snapshots.
    pub snapshots: u64,
}

impl IoCtx {
    /// Counts the images of the pool and namespace. Opens every image, so it takes long in a big
    /// pool, where it may exceed the call timeout.
    ///
    /// Implements: `rbd_pool_stats_create`, `rbd_pool_stats_option_add_uint64`,
    /// `rbd_pool_stats_get`, `rbd_pool_stats_destroy`.
    #[doc(alias = "rbd_pool_stats_get")]
    pub fn stats(&self) -> Result<PoolStats> {
        let (images, trash) =
            self.bounded("count the images of", || self.pool_object(), move |raw| raw.stats())?;
        if images.images == 0 && trash.images == 0 {
            self.check_namespace("count the images of")?;
        }
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
