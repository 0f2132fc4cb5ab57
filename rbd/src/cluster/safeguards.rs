//! Options of librbd that a connection never has: they lose writes or end the process.

use super::builder::{get, set};
use crate::error::Result;
use crate::raw::cluster::Cluster as RawCluster;
use crate::raw::image::safeguards::{CACHE, FORGETFUL, NO_SCHEDULER, POLICY, SCHEDULER};

/// Turns librbd's cache off where it would forget failed writes: see
/// [`safeguards`](crate::raw::image::safeguards).
pub(super) fn refuse_forgetful_cache(raw: &RawCluster) -> Result<()> {
    match get(raw, POLICY) {
        Some(policy) if policy == FORGETFUL => set(raw, CACHE, "false"),
        _ => Ok(()),
    }
}

/// Turns librbd's scheduler of writes off. librados accepts that only before it connects.
///
/// The scheduler `simple`, Ceph's default, merges writes that wait for an earlier write of the same
/// object. When a write completes, librbd tells the caller first and uses the scheduler afterwards.
/// If the caller closes the image at once, the scheduler is freed meanwhile, and the process
/// crashes. This happens most often when a fenced client closes (seen with 16.2; the code of newer
/// releases is the same).
pub(super) fn turn_scheduler_off(raw: &RawCluster) -> Result<()> {
    match get(raw, SCHEDULER) {
        Some(scheduler) if scheduler != NO_SCHEDULER => set(raw, SCHEDULER, NO_SCHEDULER),
        _ => Ok(()),
    }
}
