//! Mirroring of one image.

use super::{Direction, ImageInfo, ImageMode, ImageState, ImageStatus, Peer, PoolMode};
use crate::aio::Explain;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::image::Image;
use crate::raw::image::snapshot::RawQuiesce;

/// Mirroring of an image: see [`Image::mirroring`].
#[derive(Debug, Clone, Copy)]
pub struct ImageMirroring<'a> {
    pub(super) image: &'a Image,
}

/// Creates a mirror snapshot: see [`ImageMirroring::create_snapshot`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`, `start` or `await`"]
pub struct CreateMirrorSnapshot<'a> {
    pub(super) image: &'a Image,
    pub(super) quiesce: RawQuiesce,
}

/// Disables mirroring of an image: see [`ImageMirroring::disable`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct DisableImage<'a> {
    image: &'a Image,
    force: bool,
}

/// Promotes an image: see [`ImageMirroring::promote`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`, `start` or `await`"]
pub struct PromoteImage<'a> {
    pub(super) image: &'a Image,
    pub(super) force: bool,
}

impl Image {
    /// Returns the group of calls that enable and disable mirroring of this image, promote and
    /// demote it, and read its status.
    pub fn mirroring(&self) -> ImageMirroring<'_> {
        ImageMirroring { image: self }
    }
}

impl<'a> ImageMirroring<'a> {
    /// Enables mirroring of the image, which becomes primary here.
    ///
    /// The pool (or namespace) must be in [`PoolMode::Image`]. In [`PoolMode::Pool`] the feature
    /// journaling decides, and [`ImageMode::Snapshot`] is refused.
    ///
    /// Implements: `rbd_mirror_image_enable2`.
    #[doc(alias = "rbd_mirror_image_enable")]
    #[doc(alias = "rbd_mirror_image_enable2")]
    pub fn enable(&self, mode: ImageMode) -> Result<()> {
        let operation = "enable mirroring of";
        if mode == ImageMode::Journal {
            // The journal would contain unencrypted data.
            self.image.refuse_encrypted(operation, "mirror it with snapshots")?;
        }
        let result = self.image.bounded(operation, move |raw| raw.mirror_enable(mode.raw()));
        result.map_err(|error| match error.errno() {
            Some(Errno::EINVAL) => self.explain_enable(error, mode),
            _ => error,
        })
    }

    /// Disables mirroring of the image. The peer removes its copy.
    ///
    /// The local copy stays as an ordinary image. If it is not primary, the call fails unless it is
    /// [forced](DisableImage::force). Also succeeds if the image is not mirrored.
    ///
    /// Implements: `rbd_mirror_image_disable`.
    #[doc(alias = "rbd_mirror_image_disable")]
    pub fn disable(&self) -> DisableImage<'a> {
        DisableImage { image: self.image, force: false }
    }

    /// Promotes the local copy to primary, so that it can be written. Fails with
    /// [`ErrorKind::Busy`] unless the other copy is demoted and its demotion is replicated to this
    /// cluster.
    ///
    /// The local mirroring daemon keeps the exclusive lock until it notices the change. For some
    /// seconds, this call and the first writes after it can fail with [`ErrorKind::ReadOnly`]. Try
    /// again then.
    ///
    /// Implements: `rbd_mirror_image_promote`.
    #[doc(alias = "rbd_mirror_image_promote")]
    pub fn promote(&self) -> PromoteImage<'a> {
        PromoteImage { image: self.image, force: false }
    }

    /// Demotes the local copy, so that it is not primary and cannot be written.
    ///
    /// Implements: `rbd_mirror_image_demote`.
    #[doc(alias = "rbd_mirror_image_demote")]
    pub fn demote(&self) -> Result<()> {
        let result = self.image.bounded("demote", move |raw| raw.mirror_demote());
        result.map_err(|error| self.explain(error, Role::Primary))
    }

    /// Requests that the daemon replace the local copy with a new copy of the primary. **Data that
    /// only the local copy holds is lost.**
    ///
    /// Returns at once. The daemon later removes the image and creates it again under the same
    /// name. Keep no handle of it open.
    ///
    /// Implements: `rbd_mirror_image_resync`.
    #[doc(alias = "rbd_mirror_image_resync")]
    pub fn resync(&self) -> Result<()> {
        let result = self.image.bounded("resync", move |raw| raw.mirror_resync());
        result.map_err(|error| self.explain(error, Role::Secondary))
    }

    /// Creates a mirror snapshot. The daemon then copies its differences from the previous one to
    /// the peer. The image must be primary and mirrored by [snapshots](ImageMode::Snapshot).
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let snapshot_id = image.mirroring().create_snapshot().skip_quiesce(true).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_mirror_image_create_snapshot2`.
    #[doc(alias = "rbd_mirror_image_create_snapshot")]
    #[doc(alias = "rbd_mirror_image_create_snapshot2")]
    pub fn create_snapshot(&self) -> CreateMirrorSnapshot<'a> {
        CreateMirrorSnapshot { image: self.image, quiesce: RawQuiesce::default() }
    }

    /// Returns whether the image is mirrored, and whether it is primary.
    ///
    /// Implements: `rbd_mirror_image_get_info`.
    #[doc(alias = "rbd_mirror_image_get_info")]
    pub fn info(&self) -> Result<ImageInfo> {
        Ok(self.image.bounded("read the mirroring of", move |raw| raw.mirror_info())?.into())
    }

    /// Returns the mirroring mode; `None` if the image is not mirrored.
    ///
    /// Implements: `rbd_mirror_image_get_mode`.
    #[doc(alias = "rbd_mirror_image_get_mode")]
    pub fn mode(&self) -> Result<Option<ImageMode>> {
        // librbd returns the journal mode for an image that is not mirrored.
        if self.info()?.state == ImageState::Disabled {
            return Ok(None);
        }
        let mode = self.image.bounded("read the mirroring mode of", move |raw| raw.mirror_mode())?;
        Ok(Some(ImageMode::from_raw(mode)))
    }

    /// Returns the status that the daemons of all sites report.
    ///
    /// Implements: `rbd_mirror_image_get_global_status`.
    #[doc(alias = "rbd_mirror_image_get_status")]
    #[doc(alias = "rbd_mirror_image_get_global_status")]
    pub fn status(&self) -> Result<ImageStatus> {
        Ok(self.image.bounded("read the mirroring status of", move |raw| raw.mirror_status())?.into())
    }

    /// Returns the instance id of the daemon that replicates the image: 4123 for `client.4123`.
    /// `None` if no daemon does. See [`Cluster::instance_id`](crate::Cluster::instance_id).
    ///
    /// Implements: `rbd_mirror_image_get_instance_id`.
    #[doc(alias = "rbd_mirror_image_get_instance_id")]
    pub fn instance_id(&self) -> Result<Option<u64>> {
        match self.image.bounded("look up the mirroring daemon of", move |raw| raw.mirror_instance_id()) {
            Ok(instance) => Ok(Some(instance)),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ESTALE)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Explains a failure that the mode of the pool or namespace causes.
    fn explain_enable(self, error: Error, wanted: ImageMode) -> Error {
        let ioctx = self.image.ioctx();
        match ioctx.mirroring().mode() {
            Ok(PoolMode::Disabled | PoolMode::InitOnly) => {
                error.with_kind(ErrorKind::MirroringDisabled).with_detail(
                    "mirroring is disabled in its pool or namespace; set its mirroring mode to image \
                 or pool first",
                )
            }
            Ok(PoolMode::Pool) => error.with_kind(ErrorKind::NotSupported).with_detail(
                "its pool or namespace mirrors all images with journaling; enable the feature journaling",
            ),
            _ => match self.mode() {
                Ok(Some(mode)) if mode != wanted => error
                    .with_kind(ErrorKind::AlreadyExists)
                    .with_detail(format!("it is already mirrored by {mode}; disable mirroring first")),
                _ => error,
            },
        }
    }

    /// Explains an error by the mirroring state of the image.
    fn explain(self, error: Error, role: Role) -> Error {
        if !matches!(error.errno(), Some(Errno::EINVAL | Errno::ENOENT | Errno::EBUSY)) {
            return error;
        }
        let Ok(info) = self.info() else { return error };
        let error = role.explanation(&info)(error);
        let unexplained = role == Role::Primary && error.errno() == Some(Errno::EINVAL);
        if unexplained
            && info.primary
            && self.image.ioctx().mirroring().mode().is_ok_and(|mode| mode == PoolMode::Pool)
        {
            return error.with_kind(ErrorKind::NotSupported).with_detail(
                "its pool or namespace mirrors all images with the feature journaling; disable that feature",
            );
        }
        error
    }
}

/// The role that an operation requires of an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Secondary,
}

impl Role {
    /// Returns the explanation of errors on an image with this mirroring state. librbd returns
    /// EINVAL for an image that is not mirrored (16.2 also ENOENT, although the image is open), and
    /// for one in the other role.
    pub(super) fn explanation(self, info: &ImageInfo) -> Explain {
        let unchanged: Explain = |error| error;
        match (self, info.state, info.primary) {
            (_, ImageState::Disabled, _) => {
                |error| about_state(error, |error| error.with_kind(ErrorKind::MirroringDisabled))
            }
            (Role::Primary, _, true) => unchanged,
            (Role::Primary, _, false) => |error| {
                about_state(error, |error| {
                    error
                        .with_kind(ErrorKind::ReadOnly)
                        .with_detail("it is not primary; do this at the primary site, or promote it")
                })
            },
            (Role::Secondary, _, true) => |error| {
                about_state(error, |error| {
                    error
                        .with_kind(ErrorKind::InvalidInput)
                        .with_detail("it is primary already; to resync it, demote it first")
                })
            },
            (Role::Secondary, _, false) => |error| match error.errno() {
                Some(Errno::EBUSY) => error.with_detail(STILL_PRIMARY),
                _ => error,
            },
        }
    }
}

/// Explains librbd's errors for an image in the wrong state.
fn about_state(error: Error, explain: impl FnOnce(Error) -> Error) -> Error {
    match error.errno() {
        Some(Errno::EINVAL | Errno::ENOENT) => explain(error),
        _ => error,
    }
}

/// Why an image cannot be promoted yet.
const STILL_PRIMARY: &str = "another copy is still primary; demote it first and wait until the \
    demotion is replicated, or promote with `force(true)`";

impl DisableImage<'_> {
    /// Sets whether to disable mirroring of a copy that is not primary. Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Disables mirroring. Blocks.
    pub fn run(self) -> Result<()> {
        let DisableImage { image, force } = self;
        let result = image.bounded("disable mirroring of", move |raw| raw.mirror_disable(force));
        match result.map_err(|error| image.mirroring().explain(error, Role::Primary)) {
            // librbd checks this only in some modes of the pool.
            Err(error) if error.is_mirroring_disabled() => Ok(()),
            result => result,
        }
    }
}

impl PromoteImage<'_> {
    /// Sets whether to promote without the other copy, after its cluster was lost. When that
    /// cluster returns, both copies are primary, and one must be demoted and
    /// [resynced](ImageMirroring::resync). Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Promotes the image. Blocks.
    pub fn run(self) -> Result<()> {
        let PromoteImage { image, force } = self;
        let result = image.bounded("promote", move |raw| raw.mirror_promote(force));
        result.map_err(|error| image.mirroring().explain(error, Role::Secondary))
    }
}

impl CreateMirrorSnapshot<'_> {
    /// Sets whether to skip the [quiesce watches](Image::watch_quiesce) of the image. Default: off.
    pub fn skip_quiesce(mut self, skip_quiesce: bool) -> Self {
        self.quiesce.skip = skip_quiesce;
        self
    }

    /// Sets whether to create the snapshot even if a quiesce watch fails. Default: off.
    pub fn ignore_quiesce_error(mut self, ignore_quiesce_error: bool) -> Self {
        self.quiesce.ignore_error = ignore_quiesce_error;
        self
    }

    /// Creates the snapshot and returns its id. Blocks until it exists; before that, the image's
    /// quiesce watches have answered.
    pub fn run(self) -> Result<u64> {
        let CreateMirrorSnapshot { image, quiesce } = self;
        let result = image.bounded("create a mirror snapshot of", move |raw| raw.mirror_snapshot(quiesce));
        result.map_err(|error| {
            let error = image.mirroring().explain(error, Role::Primary);
            if error.errno() != Some(Errno::EINVAL) || *error.kind() != ErrorKind::Other {
                return error;
            }
            let sends = |peer: &Peer| peer.direction != Direction::RxOnly;
            match image.ioctx().mirroring().peers().list() {
                Ok(peers) if !peers.iter().any(sends) => error
                    .with_kind(ErrorKind::NotFound { what: ObjectKind::MirrorPeer })
                    .with_detail("its pool has no peer to replicate to; add one"),
                _ => error,
            }
        })
    }
}
