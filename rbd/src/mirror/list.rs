//! The mirrored images of a pool or namespace.

use std::collections::BTreeMap;

use super::{ImageInfo, ImageMode, ImageStatus, PoolMirroring, ReplicationState};
use crate::error::Result;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// An image that is mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirroredImage {
    /// The image's id.
    pub id: String,
    /// The mirroring mode.
    pub mode: ImageMode,
    /// The mirroring state and role.
    pub info: ImageInfo,
}

impl PoolMirroring<'_> {
    /// Lists the mirrored images: those of one mode, or all (`None`). Queries each image, so it
    /// takes long for many images.
    ///
    /// Implements: `rbd_mirror_image_info_list`.
    #[doc(alias = "rbd_mirror_image_info_list")]
    pub fn images(&self, mode: impl Into<Option<ImageMode>>) -> Result<Vec<MirroredImage>> {
        let mode = mode.into().map(ImageMode::raw);
        let list = move |raw: &RawIoCtx| raw.mirror_infos(mode);
        let operation = "list the mirrored images of";
        let infos = self.ioctx.bounded(operation, || self.object(), list)?;
        if infos.is_empty() {
            self.ioctx.check_namespace(operation)?;
        }
        Ok(infos
            .into_iter()
            .map(|(id, (mode, info))| MirroredImage {
                id,
                mode: ImageMode::from_raw(mode),
                info: info.into(),
            })
            .collect())
    }

    /// Returns the status of all mirrored images by their ids.
    ///
    /// Implements: `rbd_mirror_image_global_status_list`.
    #[doc(alias = "rbd_mirror_image_status_list")]
    #[doc(alias = "rbd_mirror_image_global_status_list")]
    pub fn statuses(&self) -> Result<BTreeMap<String, ImageStatus>> {
        let list = |raw: &RawIoCtx| raw.mirror_statuses();
        let operation = "read the mirroring status of";
        let statuses = self.ioctx.bounded(operation, || self.object(), list)?;
        if statuses.is_empty() {
            self.ioctx.check_namespace(operation)?;
        }
        let listed = |status| ImageStatus { primary: None, ..ImageStatus::from(status) };
        Ok(statuses.into_iter().map(|(id, status)| (id, listed(status))).collect())
    }

    /// Returns the number of mirrored images in each state.
    ///
    /// Implements: `rbd_mirror_image_status_summary`.
    #[doc(alias = "rbd_mirror_image_status_summary")]
    pub fn summary(&self) -> Result<BTreeMap<ReplicationState, u64>> {
        let operation = "read the mirroring status of";
        let counts = self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_summary())?;
        if counts.is_empty() {
            self.ioctx.check_namespace(operation)?;
        }
        Ok(counts.into_iter().map(|(state, count)| (ReplicationState::from_raw(state), count)).collect())
    }

    /// Returns the instance id of the daemon that replicates each image, by the image's id. It is
    /// 4123 for `client.4123`: see [`Cluster::instance_id`](crate::Cluster::instance_id).
    ///
    /// Implements: `rbd_mirror_image_instance_id_list`.
    #[doc(alias = "rbd_mirror_image_instance_id_list")]
    pub fn instance_ids(&self) -> Result<BTreeMap<String, u64>> {
        let operation = "list the mirroring daemons of";
        let instances =
            self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_instance_ids())?;
        if instances.is_empty() {
            self.ioctx.check_namespace(operation)?;
        }
        Ok(instances.into_iter().collect())
    }
}
