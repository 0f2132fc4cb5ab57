//! The timeouts of a connection.

use std::time::Duration;

use super::builder::{ClusterBuilder, get, set};
use crate::error::{Error, Object, ObjectKind, Result};
use crate::raw::cluster::Cluster as RawCluster;
use crate::raw::image::early_ack::{CACHE, CACHES, FORGETFUL, POLICY};

/// The options that hold a timeout in seconds, Ceph's own default of each, and ours.
///
/// Ceph waits 300 s for a dead monitor and for ever for a dead OSD. The latter stays: see
/// [`OSD_TIMEOUT`].
const TIMEOUTS: [(&str, f64, Option<Duration>); 3] = [
    ("client_mount_timeout", 300.0, Some(Duration::from_secs(30))),
    ("rados_mon_op_timeout", 0.0, Some(Duration::from_secs(60))),
    (OSD_TIMEOUT, 0.0, None),
];

/// librbd's cache acknowledges a write before an OSD does. With this timeout the write behind it
/// can fail later, and neither a flush nor closing tells.
pub(super) const OSD_TIMEOUT: &str = "rados_osd_op_timeout";

/// How long a blocking call may take by default.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(120);

impl ClusterBuilder {
    /// How long connecting may take, `None` for ever. Whole seconds, rounded up. Default 30 s.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[0] = Some(timeout.into());
        self
    }

    /// How long a command to the monitors may take, `None` for ever. Whole seconds, rounded up.
    /// Default 60 s.
    pub fn mon_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[1] = Some(timeout.into());
        self
    }

    /// Sets how long an OSD may take for one object operation, `None` for ever. Whole seconds,
    /// rounded up. Default `None`, as in Ceph: an operation waits until the OSD is back, and
    /// nothing is lost.
    ///
    /// Most programs need no such timeout: [`call_timeout`](Self::call_timeout) bounds what blocks,
    /// and [timeouts](crate::aio::Timeout) bound asynchronous operations. With one, an operation
    /// ends with an error while the OSD is away:
    ///
    /// - A write that timed out may still take effect later, also after a newer write to the same
    ///   place.
    /// - The connection turns librbd's cache off, so that each acknowledgement comes from the OSDs.
    ///   An image is not opened for writing if its configuration, or that of its pool, turns the
    ///   cache on again (`conf_rbd_cache`).
    /// - An image with the feature journaling may not answer any more after an operation of its
    ///   journal has timed out, until it is opened on another connection.
    /// - librados keeps a timer for each operation, which costs 3 to 4 % of the processor time of
    ///   small reads.
    ///
    /// The same holds where the configuration file, CEPH_ARGS or the monitors set
    /// `rados_osd_op_timeout`.
    pub fn osd_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts[2] = Some(timeout.into());
        self
    }

    /// Sets how long one blocking call may take before it is given up, `None` for ever. Default 120
    /// s.
    ///
    /// This bounds everything that blocks: opening, closing, managing and the blocking reads and
    /// writes. A call that is given up fails with [`TimedOut`](crate::ErrorKind::TimedOut). Ceph
    /// cannot cancel it, so it goes on in the background and may still take effect: a write may
    /// reach the disk later. An operation that reports progress is given up after this time without
    /// a step.
    ///
    /// Each call runs on a thread of this crate then, which the caller waits for. With `None` it
    /// runs on the thread that makes it.
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
            // 0 is Ceph's word for no timeout; a deadline of zero would mean the opposite of what
            // was asked.
            let seconds = wanted.map_or(0, |wanted| wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0));
            if wanted.is_some() && seconds == 0 {
                let object = Object::new(ObjectKind::ConfigOption, *option);
                return Err(Error::invalid(
                    "set",
                    object,
                    "a timeout of zero can never be met; None means no timeout",
                ));
            }
            set(raw, option, &seconds.to_string())?;
        }
        Ok(())
    }
}

/// Decides for good whether OSDs have a timeout: librados would take one from the monitors'
/// configuration at any time. With one, librbd's cache is off. True if there is one.
pub(super) fn fix_osd_timeout(raw: &RawCluster) -> Result<bool> {
    let has_timeout = is_set(raw, OSD_TIMEOUT, 0.0);
    if let Some(seconds) = get(raw, OSD_TIMEOUT) {
        set(raw, OSD_TIMEOUT, &seconds)?;
    }
    if has_timeout {
        for (option, off) in CACHES.iter().filter(|(option, _)| get(raw, option).is_some()) {
            set(raw, option, off)?;
        }
    }
    Ok(has_timeout)
}

/// Turns librbd's cache off where it would forget failed writes: see
/// [`early_ack`](crate::raw::image::early_ack).
pub(super) fn refuse_forgetful_cache(raw: &RawCluster) -> Result<()> {
    match get(raw, POLICY) {
        Some(policy) if policy == FORGETFUL => set(raw, CACHE, "false"),
        _ => Ok(()),
    }
}

/// Whether the configuration gives an option another value than Ceph's default.
fn is_set(raw: &RawCluster, option: &str, default: f64) -> bool {
    let value = get(raw, option).and_then(|value| value.trim_end_matches('s').parse::<f64>().ok());
    value.is_some_and(|value| (value - default).abs() > f64::EPSILON)
}
