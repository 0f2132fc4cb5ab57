//! Options of librbd that a connection never uses: they lose or tear writes, or abort the process.

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

/// Lets librbd split writes in the journal of an image between blocks of 4096 bytes only.
///
/// An entry of the journal has at most `rbd_journal_max_payload_bytes`, including the description
/// of the write. By default this leaves 16340 bytes of data, which end within a block. If the
/// client dies before the second entry is written, the next owner of the lock replays the first one
/// alone, and the block has the new data in one part and the old data in the other.
pub(super) fn split_journal_between_blocks(raw: &RawCluster) -> Result<()> {
    let Some(payload) = get(raw, PAYLOAD).and_then(|value| value.parse::<u64>().ok()) else { return Ok(()) };
    match whole_blocks(payload) {
        whole if whole != payload => set(raw, PAYLOAD, &whole.to_string()),
        _ => Ok(()),
    }
}

/// Rounds a payload up, so that its data is a multiple of a block. 0 means no limit.
fn whole_blocks(payload: u64) -> u64 {
    match payload {
        0 => 0,
        _ => payload.saturating_sub(DESCRIPTION).max(1).div_ceil(BLOCK) * BLOCK + DESCRIPTION,
    }
}

const PAYLOAD: &str = "rbd_journal_max_payload_bytes";
const BLOCK: u64 = 4096;

/// The size of a write's description in an entry of the journal, in bytes. It is a part of the
/// format, and equal in all releases.
const DESCRIPTION: u64 = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_hold_whole_blocks() {
        let given = [0, 1, 4096, 4140, 4141, 16384, 16428, 1 << 20];
        let whole = given.map(whole_blocks);
        assert_eq!(whole, [0, 4140, 4140, 4140, 8236, 16428, 16428, (1 << 20) + 44]);
    }
}
