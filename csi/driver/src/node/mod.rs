//! Volumes on this node, in blocking calls.
//!
//! The node side keeps no state. It asks the kernel what is mapped (sysfs) and what is mounted. So
//! a driver continues where it was killed.

mod blank;
mod device;
mod expand;
mod publish;
mod stage;
mod stats;
mod users;

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::clusters::Clusters;

pub use publish::Publish;
pub use stage::{Access, Stage};
pub use stats::Stats;

/// How the node works.
#[derive(Debug, Clone)]
pub struct Options {
    /// The node's name.
    pub id: String,
    /// How long staging waits for other users of an image to go. A node that has died counts as a
    /// user for 30 s.
    pub wait_for_users: Duration,
    /// The timeout of mapping an image.
    pub map_timeout: Duration,
}

/// The node side: maps images, mounts and binds volumes.
#[derive(Debug, Clone)]
pub struct Node {
    clusters: Arc<Clusters>,
    options: Options,
}

impl Node {
    /// Creates the node side for this node.
    pub fn new(clusters: Arc<Clusters>, options: Options) -> Node {
        Node { clusters, options }
    }

    /// Returns the node's name.
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// Logs the images that are already mapped. The driver uses and unmaps them as its own.
    pub fn look(&self) {
        match rbd::krbd::devices() {
            Ok(devices) => {
                for device in devices {
                    tracing::info!(device = %device.path().display(), image = %device.spec(), "is mapped");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot see what is mapped"),
        }
    }
}

/// Returns the status of an error of the operating system.
fn system(what: impl std::fmt::Display, error: &std::io::Error) -> Status {
    Status::internal(format!("{what}: {error}"))
}
