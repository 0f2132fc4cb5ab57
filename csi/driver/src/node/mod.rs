//! Volumes on this node, in blocking calls.
//!
//! There is no state of its own: what is mapped is what the kernel says (sysfs), and what is
//! mounted is its list of mounts. So a driver that was killed goes on where it stopped.

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
    /// How long a map may take.
    pub map_timeout: Duration,
}

/// Maps, mounts and binds.
#[derive(Debug, Clone)]
pub struct Node {
    clusters: Arc<Clusters>,
    options: Options,
}

impl Node {
    /// Works on this node.
    pub fn new(clusters: Arc<Clusters>, options: Options) -> Node {
        Node { clusters, options }
    }

    /// Returns the node's name.
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// Writes to the log what is mapped already: it is this driver's to use and to unmap.
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

/// Returns the status of the system's own errors.
fn system(what: impl std::fmt::Display, error: &std::io::Error) -> Status {
    Status::internal(format!("{what}: {error}"))
}
