//! The wait until the OSDs have trimmed removed snapshots, before calls that could lose data.
//!
//! An OSD keeps the old data of an object as clones. Each clone belongs to one snapshot or to
//! several in a row. librbd's deep copy and migration read a clone at the newest snapshot that it
//! lists. If that snapshot was removed and the OSD has not trimmed it yet, the OSD still lists it,
//! but answers that nothing exists there. librbd then copies nothing, and reports success: the
//! copy reads as zeros at the older snapshots. This holds for all releases from 16.2 to 20.2.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, Object, Result};
use crate::ioctx::IoCtx;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// How long a call waits. An idle cluster needs a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(250);

/// What the call needs to know of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pool_id: i64,
    /// The ids of the snapshots that exist, in the trash too.
    snapshots: BTreeSet<u64>,
    /// The id of the last snapshot that the image ever had.
    last: u64,
}

impl Source {
    /// Reads the header of an image by its id.
    pub(crate) fn by_id(ioctx: &IoCtx, operation: &'static str, object: &Object, id: &str) -> Result<Source> {
        let header = CString::new(format!("rbd_header.{id}"))
            .map_err(|_| Error::new(operation, object.clone(), Errno::EINVAL))?;
        let pairs = ioctx.bounded(operation, || object.clone(), move |raw: &RawIoCtx| raw.omap(&header))?;
        Ok(Source::parse(&pairs, ioctx.pool_id()))
    }

    fn parse(pairs: &[(Vec<u8>, Vec<u8>)], pool_id: i64) -> Source {
        let mut source = Source { pool_id, snapshots: BTreeSet::new(), last: u64::MAX };
        for (key, value) in pairs {
            match (&key[..], value.first_chunk()) {
                (b"snap_seq", Some(last)) => source.last = u64::from_le_bytes(*last),
                (b"data_pool_id", Some(id)) => source.pool_id = i64::from_le_bytes(*id),
                (key, _) => source.snapshots.extend(snapshot_id(key)),
            }
        }
        source
    }

    /// Fails if one of these snapshots no longer exists.
    pub(crate) fn check_unchanged(&self, now: &Source) -> Result<(), String> {
        let removed: Vec<_> = self.snapshots.difference(&now.snapshots).collect();
        if removed.is_empty() {
            return Ok(());
        }
        Err(format!(
            "snapshots were removed from it meanwhile (ids {removed:?}), so the copy may lack data of \
             other snapshots; remove the copy, and copy again"
        ))
    }

    /// Waits until the OSDs have trimmed all snapshots that were removed from the image.
    pub(crate) fn wait_until_trimmed(
        &self,
        ioctx: &IoCtx,
        operation: &'static str,
        object: &Object,
    ) -> Result<()> {
        // Without snapshots only the current data is copied, which no removal affects.
        let Some(oldest) = self.snapshots.first() else { return Ok(()) };
        let end = Instant::now() + PATIENCE;
        loop {
            let command = json!({ "prefix": "osd dump", "format": "json" });
            let map = ioctx.cluster().command_on(operation, || object.clone(), &command)?;
            let map: Value = serde_json::from_slice(&map).map_err(|error| {
                let why = format!("the answer to `osd dump` is not JSON: {error}");
                Error::bad_answer(operation, object.clone(), &why)
            })?;
            let Some(id) = untrimmed(&map, self.pool_id, *oldest, self.last) else { return Ok(()) };
            let paused =
                map["flags"].as_str().is_some_and(|flags| flags.split(',').any(|f| f == "nosnaptrim"));
            if !paused && Instant::now() < end {
                thread::sleep(PAUSE);
                continue;
            }
            let next = if paused {
                "clear the flag of the cluster that forbids it: `ceph osd unset nosnaptrim`"
            } else {
                "try again later; `ceph osd dump` lists what is left as removed_snaps_queue"
            };
            let why = format!(
                "the OSDs have not trimmed a removed snapshot yet (id {id}), and librbd would leave out \
                 data of older snapshots; {next}"
            );
            return Err(Error::new(operation, object.clone(), Errno::EBUSY).with_detail(why));
        }
    }
}

impl Image {
    /// Returns what [`Source::wait_until_trimmed`] needs to know of this image.
    pub(crate) fn trimming_source(&self, operation: &'static str) -> Result<Source> {
        let id = self.id()?;
        if id.is_empty() {
            // The old format keeps no id of the last snapshot where it can be read.
            let snapshots = self.snapshots().list()?.into_iter().map(|snapshot| snapshot.id).collect();
            return Ok(Source { pool_id: self.ioctx.pool_id(), snapshots, last: u64::MAX });
        }
        Source::by_id(&self.ioctx, operation, &self.object(), &id)
    }
}

/// Reads the id in a key of an image's header: `snapshot_` and 16 hexadecimal digits.
fn snapshot_id(key: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(key.strip_prefix(b"snapshot_")?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Returns a snapshot of the pool that was removed, but not trimmed yet, with an id above `oldest`
/// and up to `last`. The ids of a pool belong to all its images.
fn untrimmed(map: &Value, pool_id: i64, oldest: u64, last: u64) -> Option<u64> {
    let pools = map["removed_snaps_queue"].as_array()?;
    let queues = pools.iter().filter(|queue| queue["pool"].as_i64() == Some(pool_id));
    queues.filter_map(|queue| queue["snaps"].as_array()).flatten().find_map(|range| {
        let begin = range["begin"].as_u64()?;
        let end = begin.saturating_add(range["length"].as_u64()?);
        let first = begin.max(oldest.saturating_add(1));
        (first < end && first <= last).then_some(first)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_snapshots_and_pool() {
        let pair = |key: &str, value: u64| (key.as_bytes().to_vec(), value.to_le_bytes().to_vec());
        let pairs = [pair("snapshot_00000000000000ff", 0), pair("snap_seq", 300), pair("size", 7)];
        let source = Source { pool_id: 2, snapshots: BTreeSet::from([255]), last: 300 };
        assert_eq!(Source::parse(&pairs, 2), source);
        let with_data_pool = [&pairs[..], &[pair("data_pool_id", 9)]].concat();
        assert_eq!(Source::parse(&with_data_pool, 2), Source { pool_id: 9, ..source });
    }

    #[test]
    fn only_removed_snapshots_of_the_pool_in_the_range_count() {
        let map = json!({ "removed_snaps_queue": [
            { "pool": 1, "snaps": [{ "begin": 4, "length": 2 }, { "begin": 20, "length": 3 }] },
            { "pool": 2, "snaps": [{ "begin": 9, "length": 1 }] },
        ]});
        assert_eq!(untrimmed(&map, 1, 5, 19), None);
        assert_eq!(untrimmed(&map, 1, 4, 19), Some(5));
        assert_eq!(untrimmed(&map, 1, 5, 20), Some(20));
        assert_eq!(untrimmed(&map, 1, 21, 30), Some(22));
        assert_eq!(untrimmed(&map, 1, 22, u64::MAX), None);
        assert_eq!(untrimmed(&map, 2, 1, u64::MAX), Some(9));
        assert_eq!(untrimmed(&map, 3, 0, u64::MAX), None);
        assert_eq!(untrimmed(&json!({}), 1, 0, u64::MAX), None);
    }
}
