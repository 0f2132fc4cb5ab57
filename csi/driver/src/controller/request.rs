//! What is asked for when a volume is created, and the answer.

use crate::class::Class;
use crate::clusters::Secrets;
use crate::ids::{SnapshotId, VolumeId};
use crate::size::Sizes;

/// A request for a volume.
#[derive(Debug, Clone)]
pub struct CreateVolume {
    /// The name of the request.
    pub name: String,
    /// The sizes that are accepted.
    pub sizes: Sizes,
    /// The parameters of the class.
    pub class: Class,
    /// What the volume starts with; nothing for a blank one.
    pub source: Option<Source>,
    /// Who asks.
    pub secrets: Secrets,
}

impl CreateVolume {
    /// Returns the note about what the volume starts with; empty for a blank volume.
    pub(super) fn start(&self) -> String {
        self.source.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// What a volume starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// The present content of another volume.
    Volume(VolumeId),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Snapshot(id) => write!(f, "snapshot {id}"),
            Source::Volume(id) => write!(f, "volume {id}"),
        }
    }
}

impl Source {
    pub(super) fn volume(&self) -> &VolumeId {
        match self {
            Source::Snapshot(id) => &id.volume,
            Source::Volume(id) => id,
        }
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// The name of its image.
    pub image: String,
    /// Its size in bytes.
    pub size: u64,
}
