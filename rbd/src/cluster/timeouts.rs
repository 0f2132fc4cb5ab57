//! The timeouts of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::builder::{ClusterBuilder, get, set};
use crate::error::{Error, Object, ObjectKind, Result};
use crate::raw::RawResult;
use crate::raw::cluster::Cluster as RawCluster;
use crate::raw::image::safeguards::CACHES;
use crate::raw::thread::worker::start;

/// The options that hold a timeout in seconds, with Ceph's default and the default of this crate.
///
/// Ceph waits 300 s for a dead monitor, and without limit for a dead OSD. This crate keeps the
/// latter: see [`OSD_TIMEOUT`].
const TIMEOUTS: [(&str, f64, Option<Duration>); 3] = [
    ("client_mount_timeout", 300.0, Some(Duration::from_secs(30))),
    ("rados_mon_op_timeout", 0.0, Some(Duration::from_secs(60))),
    (OSD_TIMEOUT, 0.0, None),
];

/// librbd's cache acknowledges a write before an OSD does. With this timeout, the write to the OSD
/// can fail later, and neither a flush nor closing the image reports it.
pub(super) const OSD_TIMEOUT: &str = "rados_osd_op_timeout";

/// The default limit of a blocking call.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(120);

impl ClusterBuilder {
    /// Sets how long connecting may take. `None` means no limit. Rounded up to whole seconds.
    /// Default: 30 s. librados may need more time to end what it has begun. Twice the limit and
    /// 10 s after the start (70 s by default), [`connect`](Self::connect) fails with
    /// [`TimedOut`](crate::ErrorKind::TimedOut), and the attempt continues in the background.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[0] = Some(timeout.into());
        self
    }

    /// Sets how long a command to the monitors may take. `None` means no limit. Rounded up to whole
    /// seconds. Default: 60 s.
    pub fn mon_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[1] = Some(timeout.into());
        self
    }

    /// Sets how long an OSD may take for one object operation. `None` means no limit. Rounded up to
    /// whole seconds. Default: `None`, as in Ceph: an operation waits until the OSD is back, and
    /// nothing is lost.
    ///
    /// Most programs need no such timeout: [`call_timeout`](Self::call_timeout) bounds blocking
    /// calls, and [`aio::Timeout`](crate::aio::Timeout) bounds asynchronous operations. With an OSD
    /// timeout, operations fail while the OSD is away:
    ///
    /// - A write that timed out may still take effect later, also after a newer write to the same
    ///   place.
    /// - The connection turns librbd's cache off, so that the OSDs acknowledge each write. Opening
    ///   an image for writing fails if the configuration of the image or its pool turns the cache
    ///   on again (`conf_rbd_cache`).
    /// - An image with the feature journaling can hang after a journal operation timed out, until
    ///   it is opened on another connection.
    /// - librados keeps a timer for each operation, which costs 3 to 4 % of the processor time of
    ///   small reads.
    ///
    /// The same applies if the configuration file, CEPH_ARGS or the monitors set
    /// `rados_osd_op_timeout`.
    pub fn osd_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[2] = Some(timeout.into());
        self
    }

    /// Sets how long one blocking call may take. `None` means no limit. Default: 120 s.
    ///
    /// The limit applies to all blocking calls: opening, closing, management, and blocking reads
    /// and writes. A call that exceeds it fails with [`TimedOut`](crate::ErrorKind::TimedOut). Ceph
    /// cannot cancel the call, so it continues in the background and may still take effect: a write
    /// may reach the disk later. For an operation that reports progress, the limit restarts with
    /// each step. Before a call on an image fails, it may look for the owner of the exclusive lock
    /// for at most one more second, to name it in the error.
    ///
    /// With a limit, most calls run on a thread of this crate, and the caller waits for it: see
    /// [`guide::threads`](crate::guide::threads). With `None`, they run on the calling thread.
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.call_timeout = Some(timeout.into());
        self
    }

    pub(super) fn set_timeouts(&self, raw: &RawCluster) -> Result<()> {
        for ((option, ceph_default, ours), wanted) in TIMEOUTS.iter().zip(self.timeouts) {
            let wanted = match wanted {
                Some(wanted) => wanted,
                None if self.options.iter().any(|(name, _)| name == option) => continue,
                None if is_set(raw, option, *ceph_default) => continue,
                None => *ours,
            };
            // For Ceph, 0 means no timeout: the opposite of what the caller asked for.
            let seconds = wanted.map_or(0, seconds);
            if wanted.is_some() && seconds == 0 {
                let object = Object::new(ObjectKind::ConfigOption, *option);
                return Err(Error::invalid(
                    "set",
                    object,
                    "a timeout of zero would fail every call; use None for no timeout",
                ));
            }
            set(raw, option, &seconds.to_string())?;
        }
        Ok(())
    }
}

/// Connects. The timeout of librados applies to its steps, but not to the ends of its threads, for
/// which it waits as well. So it runs on a separate thread, and is given up after some more time.
/// Returns that time if it was given up.
pub(super) fn connect(raw: &Arc<RawCluster>) -> RawResult<Option<Duration>> {
    const MORE: Duration = Duration::from_secs(10);
    let [(option, ..), ..] = TIMEOUTS;
    let timeout = number(raw, option).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) else {
        return raw.connect().map(|()| None);
    };
    let connecting = Arc::clone(raw);
    let limit = timeout.saturating_mul(2).saturating_add(MORE);
    match start(move || connecting.connect())?.wait(Some(limit)) {
        Some(connected) => connected.map(|()| None),
        None => Ok(Some(limit)),
    }
}

/// Returns the timeout in whole seconds. Ceph adds it to a time in nanoseconds, so a longer one
/// ends after a hundred years.
fn seconds(timeout: Duration) -> u64 {
    const LONGEST: u64 = 100 * 365 * 24 * 3600;
    timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0)).min(LONGEST)
}

/// Fixes the OSD timeout for the life of the connection: otherwise librados would accept one from
/// the monitors' configuration at any time. Turns librbd's cache off if there is a timeout. Returns
/// the timeout.
pub(super) fn fix_osd_timeout(raw: &RawCluster) -> Result<Option<Duration>> {
    let timeout = number(raw, OSD_TIMEOUT).filter(|seconds| seconds.abs() > f64::EPSILON);
    if let Some(seconds) = get(raw, OSD_TIMEOUT) {
        set(raw, OSD_TIMEOUT, &seconds)?;
    }
    if timeout.is_some() {
        for (option, off) in CACHES.iter().filter(|(option, _)| get(raw, option).is_some()) {
            set(raw, option, off)?;
        }
    }
    Ok(timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

/// Returns whether the configuration changes an option from Ceph's default.
fn is_set(raw: &RawCluster, option: &str, default: f64) -> bool {
    number(raw, option).is_some_and(|value| (value - default).abs() > f64::EPSILON)
}

/// Returns the number of seconds in the configuration.
fn number(raw: &RawCluster, option: &str) -> Option<f64> {
    get(raw, option)?.trim_end_matches('s').parse().ok()
}
