//! Volumes and snapshots as images, in blocking calls.
//!
//! The controller keeps no journal. It derives the name of an image from the request, and keeps
//! notes in the metadata of the image. So a repeated request continues where it was interrupted.

mod background;
mod capacity;
mod clone;
mod create;
mod delete;
mod expand;
mod groups;
mod list;
mod metadata;
mod request;
mod snapshots;
mod unfinished;

use std::sync::Arc;

use rbd::{ErrorKind, Image, IoCtx, ObjectKind};
use tonic::Status;

use crate::calls;
use crate::clusters::{Clusters, Secrets};
use crate::ids::{Place, VolumeId};
use crate::status::{self, OrStatus};

pub use background::Background;
pub(crate) use capacity::or_full;
pub use groups::GroupSnapshot;
pub use list::Page;
pub use metadata::{Block, Blocks};
pub use request::{CreateVolume, Source, Volume};
pub use snapshots::Snapshot;

/// How the controller works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A clone with this many ancestors is flattened in the background.
    pub flatten_depth: usize,
    /// A volume that has so many snapshots gets no more.
    pub most_snapshots: usize,
}

/// How many snapshots a volume may have. The kernel maps no image with more than 510, and if it has
/// mapped one, it does not hear of the next snapshots: writes would change them.
pub const MOST_SNAPSHOTS: usize = 450;

/// Creates and deletes.
#[derive(Debug, Clone)]
pub struct Controller {
    clusters: Arc<Clusters>,
    options: Options,
    background: Background,
}

impl Controller {
    /// Works on these clusters.
    pub fn new(clusters: Arc<Clusters>, options: Options) -> Controller {
        Controller { clusters, options, background: Background::default() }
    }

    /// Returns the clusters.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Returns whether the volume exists.
    pub fn exists(&self, id: &VolumeId, secrets: &Secrets) -> Result<bool, Status> {
        match self.open(id, secrets, true) {
            Ok(_) => Ok(true),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Opens the image of a volume.
    fn open(&self, id: &VolumeId, secrets: &Secrets, read_only: bool) -> Result<Image, Status> {
        let pool = self.clusters.place(&id.place, secrets)?;
        open(&pool, id, read_only)
    }
}

/// Opens the image of a volume, unless it is in the trash: then the volume is gone.
pub(crate) fn open(pool: &IoCtx, id: &VolumeId, read_only: bool) -> Result<Image, Status> {
    opened(pool, id, pool.open_by_id(&id.image).read_only(read_only).run())
}

/// Opens the image of a volume for changes that free space, which also work if the pool is full.
fn open_to_free(pool: &IoCtx, id: &VolumeId) -> Result<Image, Status> {
    opened(pool, id, pool.open_by_id(&id.image).free_when_full(true).run())
}

fn opened(pool: &IoCtx, id: &VolumeId, opened: rbd::Result<Image>) -> Result<Image, Status> {
    match opened {
        Ok(image) if pool.trash().get(&id.image).is_ok() => {
            drop(image);
            Err(Status::not_found(format!("volume '{id}' was deleted; its image waits in the trash")))
        }
        // A clone without its parent is not missing, and must not count as deleted.
        Err(error) if error.is_not_found() && is_there(pool, id)? => {
            Err(Status::failed_precondition(format!("volume '{id}' exists, but {error}")))
        }
        opened => opened.or_status(),
    }
}

/// Returns whether the image of a volume exists, and is not in the trash.
pub(crate) fn is_there(pool: &IoCtx, id: &VolumeId) -> Result<bool, Status> {
    Ok(calls::has_header(pool, &id.image)? && found(pool.trash().get(&id.image))?.is_none())
}

/// Where the images of a pool lie.
fn place(cluster: &str, pool: &IoCtx) -> Place {
    Place { cluster: cluster.to_owned(), pool: pool.pool_id(), namespace: pool.namespace().to_owned() }
}

/// Distinguishes a missing image or snapshot from other failures.
fn found<T>(result: rbd::Result<T>) -> Result<Option<T>, Status> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound {
                    what: ObjectKind::Image
                        | ObjectKind::TrashedImage
                        | ObjectKind::Snapshot
                        | ObjectKind::MetadataKey,
                    ..
                }
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(status::of(&error)),
    }
}
