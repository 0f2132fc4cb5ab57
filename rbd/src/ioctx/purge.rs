//! Removing the images in a trash whose delay has expired.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::IoCtx;
use super::trash::{MOVING, Trash, TrashEntry, TrashSource, explain_kept};
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::raw::ioctx::IoCtx as RawIoCtx;

const PURGE: &str = "empty the trash of";

/// Removes the images in the trash whose delay has expired: see
/// [`Trash::purge`](super::trash::Trash::purge).
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct PurgeTrash<'a> {
    ioctx: &'a IoCtx,
    expired_before: Option<SystemTime>,
    until: Option<f32>,
    progress: Progress<'a>,
}

impl<'a> Trash<'a> {
    /// Removes all images in the trash whose delay has expired.
    ///
    /// An image that cannot be removed, because it has snapshots or is in use, does not stop the
    /// removal of the others. The call then fails at its end, and names the first such image.
    ///
    /// Implements: `rbd_trash_purge_with_progress`.
    #[doc(alias = "rbd_trash_purge")]
    #[doc(alias = "rbd_trash_purge_with_progress")]
    pub fn purge(&self) -> PurgeTrash<'a> {
        PurgeTrash { ioctx: self.0, expired_before: None, until: None, progress: Progress::default() }
    }
}

impl<'a> PurgeTrash<'a> {
    /// Sets the time by which the delays of the removed images end. **With a time in the future,
    /// images are removed whose delay has not expired.** Default: now.
    pub fn expired_before(mut self, time: SystemTime) -> Self {
        self.expired_before = Some(time);
        self
    }

    /// Ends the removal when the pool that holds the data of an image uses less than this part of
    /// its capacity (0 to 1). Images are removed in the order in which their delays end. Default:
    /// no such limit.
    ///
    /// The usage is what the manager reports at the beginning, minus an estimate of what the
    /// removed images used. Needs the capability to send the command `df` to the monitors.
    ///
    /// The threshold of the `rbd` command is different: it also removes images whose delay has not
    /// expired, and all images whose delay has.
    pub fn until_usage_below(mut self, part: f32) -> Self {
        self.until = Some(part);
        self
    }

    /// Calls back with the images removed so far and their total. A break stops the removal with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped).
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Removes the images. Blocks.
    pub fn run(self) -> Result<()> {
        let PurgeTrash { ioctx, expired_before, until, progress } = self;
        ioctx.check_namespace(PURGE)?;
        let time = expired_before.unwrap_or_else(SystemTime::now);
        if let Some(part) = until {
            if !(0.0..=1.0).contains(&part) {
                let why = "the target usage must lie between 0 and 1";
                return Err(Error::invalid(PURGE, ioctx.pool_object(), why));
            }
            return purge_until(ioctx, time, part.into(), progress);
        }
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // For librbd, 0 means now, and a threshold of -1 none.
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
        let purge = move |raw: &RawIoCtx, progress: Progress<'_>| raw.trash_purge(seconds, -1.0, progress);
        let purged = ioctx.freeing(PURGE)?.bounded_long(PURGE, || ioctx.pool_object(), progress, purge);
        purged.map_err(|error| explain_purge(ioctx, time, error))
    }
}

/// Adds the first image that cannot be removed.
fn explain_purge(ioctx: &IoCtx, time: SystemTime, error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBUSY | Errno::ENOTEMPTY | Errno::EMLINK) => {}
        Some(MOVING) => {
            let why = "the move of an image to the trash was interrupted; finish it with `Trash::add`";
            return error.with_detail(why);
        }
        _ => return error,
    }
    for entry in ioctx.trash().list().unwrap_or_default() {
        let Ok(image) = ioctx.open_by_id(&entry.id).read_only(true).run() else { continue };
        let kept = match error.errno() {
            Some(Errno::EBUSY) => image.watchers().is_ok_and(|watchers| !watchers.is_empty()),
            Some(Errno::EMLINK) => image.group().is_ok_and(|group| group.is_some()),
            _ => image.snapshots().list().is_ok_and(|snapshots| !snapshots.is_empty()),
        };
        if kept && entry.deferred_until <= time {
            let stopped = cannot_remove(ioctx, &entry);
            return explain_kept(ioctx, &entry.id, error).of_part(&stopped);
        }
    }
    error
}

fn cannot_remove(ioctx: &IoCtx, entry: &TrashEntry) -> String {
    format!("image '{}' (id {}) cannot be removed", ioctx.spec(&entry.name), entry.id)
}

/// What has to be freed in a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Excess {
    /// In bytes, with all copies.
    bytes: f64,
    /// How many bytes a byte of an image takes.
    copies: f64,
}

/// Removes expired images, oldest first, until their pools use less than this part.
///
/// librbd is not asked for that: its threshold does not look at the delay of an image, and all
/// expired images are removed in addition.
fn purge_until(ioctx: &IoCtx, time: SystemTime, part: f64, mut progress: Progress<'_>) -> Result<()> {
    let mut entries = ioctx.trash().list()?;
    entries.retain(|entry| {
        matches!(entry.source, TrashSource::User | TrashSource::UserParent) && entry.deferred_until <= time
    });
    entries.sort_by_key(|entry| entry.deferred_until);
    let (mut excess, mut removed, total) = (excess(ioctx, part)?, 0, entries.len() as u64);
    // The removal of a clone can make the removal of its parent possible.
    loop {
        let (before, mut kept, mut left) = (removed, None, Vec::new());
        for entry in entries {
            match remove_if_needed(ioctx, &entry, &mut excess) {
                Ok(true) => {
                    removed += 1;
                    if progress.step(removed, total).is_break() && removed < total {
                        return Err(Error::new(PURGE, ioctx.pool_object(), Errno::ECANCELED));
                    }
                }
                Ok(false) => {}
                Err(error) if error.is_timed_out() => return Err(error),
                Err(error) => {
                    kept.get_or_insert_with(|| error.and(&cannot_remove(ioctx, &entry)));
                    left.push(entry);
                }
            }
        }
        match kept {
            None => return Ok(()),
            Some(error) if removed == before => return Err(error),
            Some(_) => entries = left,
        }
    }
}

/// Removes an image if its pool uses too much. Returns whether it was removed.
fn remove_if_needed(ioctx: &IoCtx, entry: &TrashEntry, excess: &mut HashMap<i64, Excess>) -> Result<bool> {
    let image = match ioctx.open_by_id(&entry.id).read_only(true).run() {
        Ok(image) => image,
        // It was removed or restored meanwhile.
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(pool) = excess.get_mut(&image.data_pool_id()?).filter(|pool| pool.bytes > 0.0) else {
        return Ok(false);
    };
    let used = || -> Result<u64> {
        let mut used = 0;
        for extent in image.diff().whole_objects(true).include_parent(false).extents()? {
            let extent = extent?;
            used += if extent.exists { extent.len } else { 0 };
        }
        Ok(used)
    };
    let used = match used() {
        Ok(used) => used,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    };
    image.close()?;
    match ioctx.trash().remove(&entry.id).force(true).run() {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error),
    }
    #[allow(clippy::cast_precision_loss)] // it is an estimate
    let freed = used as f64 * pool.copies;
    pool.bytes -= freed;
    Ok(true)
}

/// Asks how much each pool uses beyond this part of its capacity.
fn excess(ioctx: &IoCtx, part: f64) -> Result<HashMap<i64, Excess>> {
    let command = json!({ "prefix": "df", "format": "json" });
    let usage = ioctx.cluster().command_on(PURGE, || ioctx.pool_object(), &command)?;
    let usage: Value = serde_json::from_slice(&usage).map_err(|error| {
        Error::bad_answer(PURGE, ioctx.pool_object(), &format!("the answer to `df` is not JSON: {error}"))
    })?;
    Ok(excess_in(&usage, part))
}

fn excess_in(usage: &Value, part: f64) -> HashMap<i64, Excess> {
    let pools = usage["pools"].as_array().into_iter().flatten();
    let excess = |pool: &Value| {
        let number = |name: &str| pool["stats"][name].as_f64();
        let (used, stored, now) = (number("bytes_used")?, number("stored")?, number("percent_used")?);
        // Capacity and use are `used / now` and `used`.
        let excess = Excess { bytes: used * (1.0 - part / now), copies: used / stored };
        (now > part && stored > 0.0).then_some((pool["id"].as_i64()?, excess))
    };
    pools.filter_map(excess).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_pools_that_use_too_much_have_an_excess() {
        let pool = |id, used: u64, stored: u64, part: f64| {
            let stats = json!({ "bytes_used": used, "stored": stored, "percent_used": part });
            json!({ "id": id, "stats": stats })
        };
        let usage = json!({ "pools": [pool(1, 300, 100, 0.5), pool(2, 300, 100, 0.2), pool(3, 0, 0, 0.0)] });
        // A capacity of 600, of which 150 may be used.
        assert_eq!(excess_in(&usage, 0.25), HashMap::from([(1, Excess { bytes: 150.0, copies: 3.0 })]));
        let all = excess_in(&usage, 0.0);
        assert_eq!((all.len(), all[&2].bytes), (2, 300.0));
        assert_eq!(excess_in(&usage, 1.0), HashMap::new());
        assert_eq!(excess_in(&json!({}), 0.0), HashMap::new());
    }
}
