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
    /// The volume may be published once (access mode SINGLE_NODE_SINGLE_WRITER).
    pub once: bool,
}

impl Node {
    /// Publishes a staged volume. A volume that is already published stays as it is.
    pub fn publish(&self, request: &Publish) -> Result<(), Status> {
        let staged = if request.block { block_file(&request.staging) } else { request.staging.clone() };
        let mounted = mounts(&staged)?.pop().ok_or_else(|| {
            Status::failed_precondition(format!(
                "volume '{}' is not staged at '{}'; stage it first",
                request.id,
                request.staging.display()
            ))
        })?;
        let mark = mark(&request.target);
        if mark.exists() {
            unmount_all(&request.target)?;
            remove(&mark)?;
        }
        if let Some(there) = mounts(&request.target)?.last() {
            let same = if request.block {
                number(&staged)? == number(&request.target)?
            } else {
                mounted.device == there.device
            };
            // A bind of a read-only mount is read-only.
            if same && there.read_only == (request.read_only || mounted.read_only) {
                return Ok(());
            }
            return Err(Status::already_exists(format!(
                "'{}' shows {} already; unpublish it first",
                request.target.display(),
                if same { "the volume with another access mode" } else { "something else" }
            )));
        }
        if request.once
            && let Some(other) = elsewhere(request, &staged, &mounted)?
        {
            return Err(Status::failed_precondition(format!(
                "volume '{}' may have one pod only, and is published at '{}'; unpublish it there first",
                request.id,
                other.display()
            )));
        }
        if !request.read_only {
            return rbd_volume::publish(staged, &request.target, false).or_status();
        }
        std::fs::create_dir_all(mark.parent().unwrap_or(&mark))
            .and_then(|()| std::fs::write(&mark, ""))
            .map_err(|error| system(format!("cannot write '{}'", mark.display()), &error))?;
        rbd_volume::publish(staged, &request.target, true).or_status()?;
        remove(&mark)
    }

    /// Unpublishes a volume, and removes its path.
    pub fn unpublish(&self, target: &Path) -> Result<(), Status> {
        unmount_all(target)?;
        remove(&mark(target))?;
        remove(target)
    }
}

/// The file that is there while a volume is published read-only. The kernel makes a mount read-only
/// in a second step, so if the process is killed, a writable mount stays.
fn mark(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".read-only");
    name.into()
}

/// Returns another path at which the volume is published. Paths in the volume, which pods can mount
/// alone, do not count.
fn elsewhere(
    request: &Publish,
    staged: &Path,
    mounted: &rbd_volume::Mount,
) -> Result<Option<PathBuf>, Status> {
    let all = rbd_volume::mounts().map_err(|error| system("cannot read the list of mounts", &error))?;
    let here = [staged, &request.target];
    let other = all.into_iter().find(|mount| {
        (mount.device, &mount.root) == (mounted.device, &mounted.root) && !here.contains(&&*mount.target)
    });
    Ok(other.map(|mount| mount.target))
}

/// Removes a file or an empty folder, if it is there.
fn remove(path: &Path) -> Result<(), Status> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(system(format!("cannot remove '{}'", path.display()), &error))
        }
        _ => Ok(()),
    }
}

fn unmount_all(target: &Path) -> Result<(), Status> {
    while !mounts(target)?.is_empty() {
        rbd_volume::unmount(target).or_status()?;
    }
    Ok(())
}
