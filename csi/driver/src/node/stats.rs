//! Statistics of a volume on this node.

use std::path::Path;

use rbd::krbd;
use tonic::Status;

use super::Node;
use super::device::number;
use super::stage::mounts;
use crate::ids::VolumeId;
use crate::status::OrStatus;

/// How much of a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stats {
    /// A block volume: its size in bytes. How much of it is used is unknown.
    Block(u64),
    /// A file system.
    FileSystem(rbd_volume::Usage),
}

impl Node {
    /// Returns how much of the volume at this path is used.
    pub fn stats(&self, id: &VolumeId, path: &Path) -> Result<Stats, Status> {
        let missing = || Status::not_found(format!("volume '{id}' is not mounted at '{}'", path.display()));
        if mounts(path)?.is_empty() {
            return Err(missing());
        }
        if let Some(number) = number(path)? {
            let devices = krbd::devices().or_status()?;
            let device = devices.iter().find(|device| device.number() == number).ok_or_else(missing)?;
            return Ok(Stats::Block(device.size()));
        }
        Ok(Stats::FileSystem(rbd_volume::usage(path).or_status()?))
    }
}
