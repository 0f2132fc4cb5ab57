//! How mirrored images stand.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::raw::image::mirrored::RawMirrorInfo;
use crate::raw::mirror::image::{RawMirrorStatus, RawSiteStatus};

/// By what an image is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageMode {
    /// A journal of all writes, which the peer replays. Needs the feature journaling; enabling it
    /// adds that.
    Journal,
    /// Snapshots for mirroring, whose differences are copied.
    Snapshot,
    /// One that this crate does not know.
    Unknown(u32),
}

/// Whether an image is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageState {
    /// Not any more: mirroring is being disabled.
    Disabling,
    /// Yes.
    Enabled,
    /// No.
    Disabled,
    /// Not yet: mirroring is being enabled, or the image is being created by a daemon. Told by Ceph
    /// 17 and newer.
    Creating,
    /// One that this crate does not know.
    Unknown(u32),
}

/// What mirroring knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The id that all its copies share. Empty where it is not mirrored.
    pub global_id: String,
    /// Whether it is mirrored.
    pub state: ImageState,
    /// Whether the copy here is the primary one, which can be written.
    pub primary: bool,
}

/// How a daemon stands to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// No daemon has told.
    NotReported,
    /// Replication failed; the description says why.
    Error,
    /// The first copy is being made, or a new one.
    Syncing,
    /// Replication is about to begin.
    StartingReplay,
    /// Replication goes on.
    Replaying,
    /// Replication is about to end.
    StoppingReplay,
    /// Nothing is replicated to there: it is primary, or orphaned.
    Stopped,
    /// One that this crate does not know.
    Unknown(u32),
}

/// How an image stands on all sites.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The image's name.
    pub name: String,
    /// The id that all its copies share. Empty where it is not mirrored.
    pub global_id: String,
    /// Whether it is mirrored.
    pub state: ImageState,
    /// Whether the copy here is the primary one. `None` in a
    /// [list](super::PoolMirroring::statuses), where librbd does not tell.
    pub primary: Option<bool>,
    /// What the daemons of each site tell of it, this site included.
    pub sites: Vec<SiteStatus>,
}

/// What the daemon of one site tells of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteStatus {
    /// The [uuid](super::Peer::mirror_uuid) of the site's pool; empty for this site.
    pub mirror_uuid: String,
    /// How far it is.
    pub state: State,
    /// Words of the daemon's, with JSON behind them while it replays.
    pub description: String,
    /// When it told this; `None` where it never did.
    pub last_update: Option<SystemTime>,
    /// Whether that daemon is there.
    pub up: bool,
}

impl Status {
    /// What the daemon of this site tells.
    pub fn local(&self) -> SiteStatus {
        let local = self.sites.iter().find(|site| site.mirror_uuid.is_empty());
        local.cloned().unwrap_or(SiteStatus {
            mirror_uuid: String::new(),
            state: State::NotReported,
            description: String::new(),
            last_update: None,
            up: false,
        })
    }

    /// What the daemons of other sites tell.
    pub fn remote(&self) -> impl Iterator<Item = &SiteStatus> {
        self.sites.iter().filter(|site| !site.mirror_uuid.is_empty())
    }
}

/// A time in seconds since 1970, none of which is 0.
pub(super) fn time(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

impl From<RawMirrorInfo> for Info {
    fn from(raw: RawMirrorInfo) -> Info {
        Info { global_id: raw.global_id, state: ImageState::from_raw(raw.state), primary: raw.primary }
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

impl From<RawMirrorStatus> for Status {
    fn from(raw: RawMirrorStatus) -> Status {
        let site = |raw: RawSiteStatus| SiteStatus {
            mirror_uuid: raw.mirror_uuid,
            state: State::from_raw(raw.state),
            description: raw.description,
            last_update: time(raw.last_update),
            up: raw.up,
        };
        Status {
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

impl State {
    pub(super) fn from_raw(state: u32) -> State {
        match state {
            0 => State::NotReported,
            1 => State::Error,
            2 => State::Syncing,
            3 => State::StartingReplay,
            4 => State::Replaying,
            5 => State::StoppingReplay,
            6 => State::Stopped,
            other => State::Unknown(other),
        }
    }
}

/// In the words of the `rbd` command: `journal`, `snapshot`.
impl fmt::Display for ImageMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageMode::Journal => f.write_str("journal"),
            ImageMode::Snapshot => f.write_str("snapshot"),
            ImageMode::Unknown(mode) => write!(f, "unknown ({mode})"),
        }
    }
}

/// In the words of the `rbd` command: `enabled`, `disabled` …
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

/// In the words of the `rbd` command: `replaying`, `stopped` …; `unknown` for what no daemon has
/// told.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::NotReported => f.write_str("unknown"),
            State::Error => f.write_str("error"),
            State::Syncing => f.write_str("syncing"),
            State::StartingReplay => f.write_str("starting_replay"),
            State::Replaying => f.write_str("replaying"),
            State::StoppingReplay => f.write_str("stopping_replay"),
            State::Stopped => f.write_str("stopped"),
            State::Unknown(state) => write!(f, "unknown ({state})"),
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
        // No panic, whatever this system makes of it.
        let _ = time(i64::MAX);
    }
}
