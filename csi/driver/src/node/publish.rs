//! Publishing: a staged volume at the path of one pod.

use std::path::{Path, PathBuf};

use tonic::Status;

use super::device::{block_file, number};
use super::stage::mounts;
use super::{Node, system};
use crate::ids::VolumeId;
use crate::status::OrStatus;

/// A request to publish a volume.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The volume.
    pub id: VolumeId,
    /// Where it is staged.
    pub staging: PathBuf,
    /// Where the pod sees it.
    pub target: PathBuf,
    /// As a block device.
    pub block: bool,
    /// The pod cannot write.
    pub read_only: bool,
}

impl Node {
    /// Publishes a staged volume. A volume that is already published stays as it is.
    pub fn publish(&self, request: &Publish) -> Result<(), Status> {
        let staged = if request.block { block_file(&request.staging) } else { request.staging.clone() };
        if mounts(&staged)?.is_empty() {
            return Err(Status::failed_precondition(format!(
                "volume '{}' is not staged at '{}'; stage it first",
                request.id,
                request.staging.display()
            )));
        }
        if let Some(there) = mounts(&request.target)?.last() {
            let same = if request.block {
                number(&staged)? == number(&request.target)?
            } else {
                mounts(&staged)?.last().is_some_and(|staged| staged.device == there.device)
            };
            if same && there.read_only == request.read_only {
                return Ok(());
            }
            return Err(Status::already_exists(format!(
                "'{}' shows {} already; unpublish it first",
                request.target.display(),
                if same { "the volume with another access mode" } else { "something else" }
            )));
        }
        rbd_volume::publish(staged, &request.target, request.read_only).or_status()
    }

    /// Unpublishes a volume, and removes its path.
    pub fn unpublish(&self, target: &Path) -> Result<(), Status> {
        while !mounts(target)?.is_empty() {
            rbd_volume::unmount(target).or_status()?;
        }
        let removed = match std::fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => std::fs::remove_dir(target),
            Ok(_) => std::fs::remove_file(target),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(system(format!("cannot remove '{}'", target.display()), &error))
            }
            _ => Ok(()),
        }
    }
}
