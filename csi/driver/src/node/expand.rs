//! Growing a volume that is in use.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rbd::krbd::{self, Device};
use tonic::Status;

use super::Node;
use super::device::number;
use super::stage::mounts;
use crate::ids::VolumeId;
use crate::status::OrStatus;

/// How long to wait until the kernel knows the image's new size.
const PATIENCE: Duration = Duration::from_secs(20);

impl Node {
    /// Grows the file system or block device at this path to at least `required` bytes, to which
    /// the controller has grown the image. Returns its size in bytes. A pod that only reads has the
    /// volume at a read-only path: then the file system grows at `staging`.
    pub fn expand(
        &self,
        id: &VolumeId,
        path: &Path,
        staging: Option<&Path>,
        required: u64,
    ) -> Result<u64, Status> {
        let mounted = mounts(path)?;
        let Some(mount) = mounted.last() else {
            return Err(Status::not_found(format!("volume '{id}' is not mounted at '{}'", path.display())));
        };
        let block = number(path)?;
        let mut device = device(block.unwrap_or(mount.device))?
            .ok_or_else(|| Status::not_found(format!("no mapped image is at '{}'", path.display())))?;
        let end = Instant::now() + PATIENCE;
        while device.size() < required {
            if Instant::now() >= end {
                return Err(Status::unavailable(format!(
                    "{} still has {} bytes, not {required}; the kernel has not heard of the image's new \
                     size yet; ask again",
                    device.path().display(),
                    device.size()
                )));
            }
            thread::sleep(Duration::from_millis(200));
            device.refresh().or_status()?;
        }
        if block.is_none() {
            for place in [Some(path), staging].into_iter().flatten() {
                let writable = |there: &rbd_volume::Mount| there.device == mount.device && !there.read_only;
                if mounts(place)?.last().is_some_and(writable) {
                    rbd_volume::grow(place).or_status()?;
                    break;
                }
            }
        }
        Ok(device.size())
    }
}

fn device(number: (u32, u32)) -> Result<Option<Device>, Status> {
    Ok(krbd::devices().or_status()?.into_iter().find(|device| device.number() == number))
}
