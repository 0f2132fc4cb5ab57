//! Asynchronous mirroring calls of an image.

use super::image::Role;
use super::{CreateMirrorSnapshot, ImageInfo, ImageMirroring, ImageMode, ImageStatus, PromoteImage};
use crate::aio::{ErrorQuery, Op};
use crate::error::Result;
use crate::raw::{self, RawResult};

impl ImageMirroring<'_> {
    /// Starts to [demote](Self::demote) the image.
    ///
    /// A thread of this crate submits the operation, because librbd waits for OSDs before it
    /// accepts one (seen with 16.2).
    ///
    /// Implements: `rbd_aio_mirror_image_demote`.
    #[doc(alias = "rbd_aio_mirror_image_demote")]
    pub fn start_demote(&self) -> Op<()> {
        self.image.aio().explained_later("demote", need_primary, |raw| Ok(raw.aio_mirror_demote()?))
    }

    /// Starts to read whether the image is mirrored, and whether it is primary: see
    /// [`info`](Self::info).
    ///
    /// Implements: `rbd_aio_mirror_image_get_info`.
    #[doc(alias = "rbd_aio_mirror_image_get_info")]
    pub fn start_info(&self) -> Op<ImageInfo> {
        self.image.aio().about_image("read the mirroring of", |raw| Ok(raw.aio_mirror_info(ImageInfo::from)?))
    }

    /// Starts to read the mirroring mode. Like librbd, it returns [`Journal`](ImageMode::Journal)
    /// for an image that is not mirrored: [`mode`](Self::mode) distinguishes the two.
    ///
    /// Implements: `rbd_aio_mirror_image_get_mode`.
    #[doc(alias = "rbd_aio_mirror_image_get_mode")]
    pub fn start_mode(&self) -> Op<ImageMode> {
        let operation = "read the mirroring mode of";
        self.image.aio().about_image(operation, |raw| Ok(raw.aio_mirror_mode(ImageMode::from_raw)?))
    }

    /// Starts to read the status that the daemons of all sites report: see
    /// [`status`](Self::status).
    ///
    /// Implements: `rbd_aio_mirror_image_get_global_status`.
    #[doc(alias = "rbd_aio_mirror_image_get_status")]
    #[doc(alias = "rbd_aio_mirror_image_get_global_status")]
    pub fn start_status(&self) -> Op<ImageStatus> {
        let operation = "read the mirroring status of";
        self.image.aio().about_image(operation, |raw| Ok(raw.aio_mirror_status(ImageStatus::from)?))
    }
}

impl PromoteImage<'_> {
    /// Starts to promote the image.
    ///
    /// If another client owns the exclusive lock, the future may never end although the image was
    /// promoted: see [`CreateMirrorSnapshot::start`].
    ///
    /// A thread of this crate submits the operation, because librbd waits for OSDs before it
    /// accepts one (seen with 16.2).
    ///
    /// Implements: `rbd_aio_mirror_image_promote`.
    #[doc(alias = "rbd_aio_mirror_image_promote")]
    pub fn start(self) -> Op<()> {
        let PromoteImage { image, force } = self;
        image.aio().explained_later("promote", need_secondary, move |raw| Ok(raw.aio_mirror_promote(force)?))
    }
}

impl CreateMirrorSnapshot<'_> {
    /// Starts to create the snapshot and returns at once. The future returns the snapshot's id.
    ///
    /// If another client owns the exclusive lock, that client creates the snapshot. librbd can lose
    /// its answer on a busy machine. Then the future never ends, although the snapshot exists.
    /// [`run`](Self::run) ends in this case, too.
    ///
    /// Implements: `rbd_aio_mirror_image_create_snapshot`.
    #[doc(alias = "rbd_aio_mirror_image_create_snapshot")]
    pub fn start(self) -> Op<u64> {
        let CreateMirrorSnapshot { image, quiesce } = self;
        let operation = "create a mirror snapshot of";
        image.aio().explained(operation, need_primary, |raw| Ok(raw.aio_mirror_snapshot(quiesce)?))
    }
}

impl IntoFuture for PromoteImage<'_> {
    type Output = Result<()>;
    type IntoFuture = Op<()>;

    fn into_future(self) -> Op<()> {
        self.start()
    }
}

impl IntoFuture for CreateMirrorSnapshot<'_> {
    type Output = Result<u64>;
    type IntoFuture = Op<u64>;

    fn into_future(self) -> Op<u64> {
        self.start()
    }
}

// librbd's EINVAL means that the image is not mirrored, or not in the required role; some releases
// return ENOENT for an image that is not mirrored. A query before the operation distinguishes the
// two.

fn need_primary(raw: &raw::image::Image) -> RawResult<ErrorQuery> {
    raw.aio_mirror_info(|info| Role::Primary.explanation(&info.into()))
}

fn need_secondary(raw: &raw::image::Image) -> RawResult<ErrorQuery> {
    raw.aio_mirror_info(|info| Role::Secondary.explanation(&info.into()))
}
