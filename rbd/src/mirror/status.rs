//! The status of mirrored images.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::raw::image::mirrored::RawMirrorInfo;
use crate::raw::mirror::image::{RawMirrorStatus, RawSiteStatus};

/// The mirroring mode of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageMode {
    /// A journal of all writes, which the peer replays. Enabling this mode also enables the feature
    /// journaling.
    Journal,
    /// Mirror snapshots, whose differences are copied.
    Snapshot,
    /// A mode that this crate does not know.
    Unknown(u32),
}

/// The mirroring state of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageState {
    /// Mirroring is being disabled.
    Disabling,
    /// The image is mirrored.
    Enabled,
    /// The image is not mirrored.
    Disabled,
    /// Mirroring is being enabled, or a daemon is creating the image. Reported by Ceph 17 or later.
    Creating,
    /// A state that this crate does not know.
    Unknown(u32),
}

/// The mirroring state and role of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The id that all its copies share. Empty if the image is not mirrored.
    pub global_id: String,
    /// Whether it is mirrored.
    pub state: ImageState,
    /// Whether the local copy is primary and can be written.
    pub primary: bool,
}

/// The replication state of an image, as a daemon reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReplicationState {
    /// No daemon has reported a state.
    NotReported,
    /// Replication failed; the description says why.
    Error,
    /// The image is being copied completely.
    Syncing,
    /// Replication is starting.
    StartingReplay,
    /// Replication is running.
    Replaying,
    /// Replication is stopping.
    StoppingReplay,
    /// The site does not receive the image: its copy is primary or orphaned.
    Stopped,
    /// A state that this crate does not know.
    Unknown(u32),
}

/// The status of an image on all sites.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageStatus {
    /// The image's name.
    pub name: String,
    /// The id that all its copies share. Empty if the image is not mirrored.
    pub global_id: String,
    /// Whether it is mirrored.
    pub state: ImageState,
    /// Whether the local copy is primary. `None` in a [list](super::PoolMirroring::statuses), which
    /// lacks it.
    pub primary: Option<bool>,
    /// The status that the daemon of each site reports, including this site.
    pub sites: Vec<SiteStatus>,
}

/// The status of an image that one site's daemon reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteStatus {
    /// The [uuid](super::Peer::mirror_uuid) of the site's pool; empty for this site.
    pub mirror_uuid: String,
    /// The replication state.
    pub state: ReplicationState,
    /// The daemon's description. While the daemon replays, JSON follows the text.
    pub description: String,
    /// When the daemon reported this; `None` if it never did.
    pub last_update: Option<SystemTime>,
    /// Whether the daemon is running.
    pub up: bool,
}

impl ImageStatus {
    /// Returns the status that this site's daemon reports.
    pub fn local(&self) -> SiteStatus {
        let local = self.sites.iter().find(|site| site.mirror_uuid.is_empty());
        local.cloned().unwrap_or(SiteStatus {
            mirror_uuid: String::new(),
            state: ReplicationState::NotReported,
            description: String::new(),
            last_update: None,
            up: false,
        })
    }

    /// Returns the status that the other sites' daemons report.
    pub fn remote(&self) -> impl Iterator<Item = &SiteStatus> {
        self.sites.iter().filter(|site| !site.mirror_uuid.is_empty())
    }
}

/// Converts seconds since 1970; 0 means no time.
pub(super) fn time(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl From<RawMirrorInfo> for ImageInfo {
    fn from(raw: RawMirrorInfo) -> ImageInfo {
        ImageInfo { global_id: raw.global_id, state: ImageState::from_raw(raw.state), primary: raw.primary }
    }
}

impl ImageState {
    fn from_raw(state: u32) -> ImageState {
        match state {
            0 => ImageState::Disabling,
            1 => ImageState::Enabled,
            2 => ImageState::Disabled,
            3 => ImageState::Creating,
            other => ImageState::Unknown(other),
        }
    }
}

impl From<RawMirrorStatus> for ImageStatus {
    fn from(raw: RawMirrorStatus) -> ImageStatus {
        let site = |raw: RawSiteStatus| SiteStatus {
            mirror_uuid: raw.mirror_uuid,
            state: ReplicationState::from_raw(raw.state),
            description: raw.description,
            last_update: time(raw.last_update),
            up: raw.up,
        };
        ImageStatus {
            name: raw.name,
            global_id: raw.info.global_id,
            state: ImageState::from_raw(raw.info.state),
            primary: Some(raw.info.primary),
            sites: raw.sites.into_iter().map(site).collect(),
        }
    }
}

impl ImageMode {
    pub(super) fn from_raw(mode: u32) -> ImageMode {
        match mode {
            0 => ImageMode::Journal,
            1 => ImageMode::Snapshot,
            other => ImageMode::Unknown(other),
        }
    }

    pub(super) fn raw(self) -> u32 {
        match self {
            ImageMode::Journal => 0,
            ImageMode::Snapshot => 1,
            ImageMode::Unknown(mode) => mode,
        }
    }
}

impl ReplicationState {
    pub(super) fn from_raw(state: u32) -> ReplicationState {
        match state {
            0 => ReplicationState::NotReported,
            1 => ReplicationState::Error,
            2 => ReplicationState::Syncing,
            3 => ReplicationState::StartingReplay,
            4 => ReplicationState::Replaying,
            5 => ReplicationState::StoppingReplay,
            6 => ReplicationState::Stopped,
            other => ReplicationState::Unknown(other),
        }
    }
}

/// Prints the words of the `rbd` command: `journal`, `snapshot`.
impl fmt::Display for ImageMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageMode::Journal => f.write_str("journal"),
            ImageMode::Snapshot => f.write_str("snapshot"),
            ImageMode::Unknown(mode) => write!(f, "unknown ({mode})"),
        }
    }
}

/// Prints the words of the `rbd` command: `enabled`, `disabled` …
impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageState::Disabling => f.write_str("disabling"),
            ImageState::Enabled => f.write_str("enabled"),
            ImageState::Disabled => f.write_str("disabled"),
            ImageState::Creating => f.write_str("creating"),
            ImageState::Unknown(state) => write!(f, "unknown ({state})"),
        }
    }
}

/// Prints the words of the `rbd` command: `replaying`, `stopped` …; `unknown` if no daemon has
/// reported a state.
impl fmt::Display for ReplicationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicationState::NotReported => f.write_str("unknown"),
            ReplicationState::Error => f.write_str("error"),
            ReplicationState::Syncing => f.write_str("syncing"),
            ReplicationState::StartingReplay => f.write_str("starting_replay"),
            ReplicationState::Replaying => f.write_str("replaying"),
            ReplicationState::StoppingReplay => f.write_str("stopping_replay"),
            ReplicationState::Stopped => f.write_str("stopped"),
            ReplicationState::Unknown(state) => write!(f, "unknown ({state})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_no_time() {
        assert_eq!((time(0), time(-1)), (None, None));
        assert_eq!(time(5), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5)));
        // It must not panic, even if this system cannot represent the time.
        let _ = time(i64::MAX);
    }
}
