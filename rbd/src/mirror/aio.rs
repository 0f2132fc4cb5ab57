//! The same without waiting: operations as futures.
//!
//! librbd's EINVAL means that the image is not mirrored, or not in the role that it must have.
//! Which of them, the calls that block find out by asking; these name both.

use super::image::STILL_PRIMARY;
use super::{CreateSnapshot, ImageMirroring, ImageMode, Info, Promote, Status};
use crate::aio::Op;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};

impl ImageMirroring<'_> {
    /// Begins to [demote](Self::demote) the image.
    ///
    /// A thread of this crate submits it, since librbd waits for OSDs before it takes it (seen with
    /// 16.2).
    ///
    /// Implements: `rbd_aio_mirror_image_demote`.
    #[doc(alias = "rbd_aio_mirror_image_demote")]
    pub fn start_demote(self) -> Op<()> {
        self.image.aio().explained_later("demote", not_primary, |raw| Ok(raw.aio_mirror_demote()?))
    }

    /// Begins to ask whether it is mirrored, and whether it is primary: see [`info`](Self::info).
    ///
    /// Implements: `rbd_aio_mirror_image_get_info`.
    #[doc(alias = "rbd_aio_mirror_image_get_info")]
    pub fn start_info(self) -> Op<Info> {
        self.image.aio().about_image("read the mirroring of", |raw| Ok(raw.aio_mirror_info(Info::from)?))
    }

    /// Begins to ask by what it is mirrored. Of an image that is not mirrored at all it answers
    /// [`Journal`](ImageMode::Journal), as librbd does: [`mode`](Self::mode) asks for both.
    ///
    /// Implements: `rbd_aio_mirror_image_get_mode`.
    #[doc(alias = "rbd_aio_mirror_image_get_mode")]
    pub fn start_mode(self) -> Op<ImageMode> {
        let operation = "read the mirroring mode of";
        self.image.aio().about_image(operation, |raw| Ok(raw.aio_mirror_mode(ImageMode::from_raw)?))
    }

    /// Begins to ask what the daemons of all sites tell of it: see [`status`](Self::status).
    ///
    /// Implements: `rbd_aio_mirror_image_get_global_status`.
    #[doc(alias = "rbd_aio_mirror_image_get_status")]
    #[doc(alias = "rbd_aio_mirror_image_get_global_status")]
    pub fn start_status(self) -> Op<Status> {
        let operation = "read the mirroring status of";
        self.image.aio().about_image(operation, |raw| Ok(raw.aio_mirror_status(Status::from)?))
    }
}

impl Promote<'_> {
    /// Begins to promote the image.
    ///
    /// A thread of this crate submits it, since librbd waits for OSDs before it takes it (seen with
    /// 16.2).
    ///
    /// Implements: `rbd_aio_mirror_image_promote`.
    #[doc(alias = "rbd_aio_mirror_image_promote")]
    pub fn start(self) -> Op<()> {
        let Promote { image, force } = self;
        image.aio().explained_later("promote", not_secondary, move |raw| Ok(raw.aio_mirror_promote(force)?))
    }
}

impl CreateSnapshot<'_> {
    /// Begins to make it, and returns at once. What comes out is its id.
    ///
    /// Implements: `rbd_aio_mirror_image_create_snapshot`.
    #[doc(alias = "rbd_aio_mirror_image_create_snapshot")]
    pub fn start(self) -> Op<u64> {
        let CreateSnapshot { image, quiesce } = self;
        let operation = "make a snapshot for mirroring of";
        image.aio().explained(operation, not_primary, |raw| Ok(raw.aio_mirror_snapshot(quiesce)?))
    }
}

fn not_primary(error: Error) -> Error {
    not_mirrored_or(error, "is not primary")
}

fn not_secondary(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBUSY) => error.with_detail(STILL_PRIMARY),
        _ => not_mirrored_or(error, "is primary already"),
    }
}

fn not_mirrored_or(error: Error, role: &str) -> Error {
    match error.errno() {
        // The image is there, for it is open.
        Some(Errno::ENOENT) => error.with_kind(ErrorKind::MirroringDisabled),
        Some(Errno::EINVAL) => {
            error.with_detail(format!("it is not mirrored, or {role}; `mirroring().info()` tells which"))
        }
        _ => error,
    }
}
