//! The mirrored images of a pool or namespace.

use std::collections::BTreeMap;

use super::{ImageMode, Info, PoolMirroring, State, Status};
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
    pub info: Info,
}

impl PoolMirroring<'_> {
    /// Lists the mirrored images: all of them, or those of one mode. Queries each image, so it
    /// takes long for many images.
    ///
    /// Implements: `rbd_mirror_image_info_list`.
    #[doc(alias = "rbd_mirror_image_info_list")]
    pub fn images(&self, mode: Option<ImageMode>) -> Result<Vec<MirroredImage>> {
        let mode = mode.map(ImageMode::raw);
        let list = move |raw: &RawIoCtx| raw.mirror_infos(mode);
        let infos = self.ioctx.bounded("list the mirrored images of", || self.object(), list)?;
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
    pub fn statuses(&self) -> Result<BTreeMap<String, Status>> {
        let list = |raw: &RawIoCtx| raw.mirror_statuses();
        let statuses = self.ioctx.bounded("read the mirroring status of", || self.object(), list)?;
        let listed = |status| Status { primary: None, ..Status::from(status) };
        Ok(statuses.into_iter().map(|(id, status)| (id, listed(status))).collect())
    }

    /// Returns the number of mirrored images in each state.
    ///
    /// Implements: `rbd_mirror_image_status_summary`.
    #[doc(alias = "rbd_mirror_image_status_summary")]
    pub fn summary(&self) -> Result<BTreeMap<State, u64>> {
        let operation = "read the mirroring status of";
        let counts = self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_summary())?;
        Ok(counts.into_iter().map(|(state, count)| (State::from_raw(state), count)).collect())
    }

    /// Returns the daemon that replicates each image: the instance id (4123 for `client.4123`) by
    /// the image's id.
    ///
    /// Implements: `rbd_mirror_image_instance_id_list`.
    #[doc(alias = "rbd_mirror_image_instance_id_list")]
    pub fn instances(&self) -> Result<BTreeMap<String, String>> {
        let operation = "list the mirroring daemons of";
        let instances = self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_instances())?;
        Ok(instances.into_iter().collect())
    }
}
