//! The device of a volume on this node.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbd::krbd::{self, Device};
use tonic::Status;

use super::system;
use crate::ids::VolumeId;
use crate::status::OrStatus;

/// How long an unmap waits while another program, such as a scanner, has the device open.
const BUSY: Duration = Duration::from_secs(10);

/// Returns the devices of the volume. `fsid`, if known, distinguishes clusters.
pub(super) fn devices(id: &VolumeId, fsid: Option<&str>) -> Result<Vec<Device>, Status> {
    let mut devices = krbd::devices().or_status()?;
    devices.retain(|device| {
        device.pool_id() == u64::try_from(id.place.pool).ok()
            && device.namespace() == id.place.namespace
            && device.image_id() == Some(&id.image)
            && device.snapshot().is_none()
            && (fsid.is_none() || device.cluster_fsid().is_none() || device.cluster_fsid() == fsid)
    });
    Ok(devices)
}

/// Returns the place of a block volume in its staging directory.
pub(super) fn block_file(staging: &Path) -> PathBuf {
    staging.join("device")
}

/// Returns the numbers of a block device; `None` if the path is none.
pub(super) fn number(path: &Path) -> Result<Option<(u32, u32)>, Status> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => {
            let rdev = found.rdev();
            Ok(Some((rustix::fs::major(rdev), rustix::fs::minor(rdev))))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(system(format!("cannot look at '{}'", path.display()), &error)),
    }
}

/// Unmaps a device.
pub(super) fn unmap(device: &Device) -> Result<(), Status> {
    match device.unmap().busy_timeout(BUSY).run() {
        // Another request has unmapped it.
        Err(error) if error.is_not_found() => Ok(()),
        unmapped => unmapped.or_status(),
    }
}
