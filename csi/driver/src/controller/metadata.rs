//! The blocks that a snapshot holds, and those that changed between two snapshots.

use std::ops::ControlFlow;

use rbd::snapshot::SnapshotKind;
use tonic::{Code, Status};

use super::Controller;
use super::snapshots::is_in;
use crate::clusters::Secrets;
use crate::ids::SnapshotId;
use crate::status::OrStatus;

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The blocks that a request asks for.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// The blocks of this snapshot.
    pub target: SnapshotId,
    /// Only those that changed since this one.
    pub base: Option<SnapshotId>,
    /// Only blocks from this offset on, in bytes.
    pub from: u64,
    /// The number of blocks in a part.
    pub max: usize,
}

impl Controller {
    /// Calls `give` with the blocks in parts, and with the size of the volume in bytes. Ends when
    /// `give` returns that the receiver is gone.
    pub fn blocks(
        &self,
        asked: &Blocks,
        secrets: &Secrets,
        mut give: impl FnMut(u64, Vec<Block>) -> bool + Send,
    ) -> Result<(), Status> {
        if let Some(base) = &asked.base
            && base.volume != asked.target.volume
        {
            return Err(Status::invalid_argument(format!(
                "the snapshots '{base}' and '{}' are not of one volume; name two snapshots of one volume",
                asked.target
            )));
        }
        let image = self.open(&asked.target.volume, secrets, true)?;
        let all = image.snapshots().list().or_status()?;
        let ids: Vec<&SnapshotId> =
            [Some(&asked.target), asked.base.as_ref()].into_iter().flatten().collect();
        if let Some(id) = ids.iter().find(|id| !is_in(&all, id)) {
            return Err(Status::not_found(format!("snapshot '{id}' does not exist")));
        }
        let then = image.at_snapshot(asked.target.snapshot).or_status()?;
        let size = then.size().or_status()?;
        if asked.from >= size && size > 0 {
            return Err(Status::out_of_range(format!(
                "starting_offset is {}, but the volume has {size} bytes",
                asked.from
            )));
        }
        let max = if asked.max == 0 { 1024 } else { asked.max };
        let mut part = Vec::new();
        let mut given = false;
        let mut diff = then.diff().range(asked.from, size - asked.from);
        let base = asked.base.as_ref().map(|base| base.snapshot);
        if let Some(base) = base.and_then(|base| all.iter().find(|snapshot| snapshot.id == base)) {
            // Only librbd of Ceph 18.2 or later finds a part of a group snapshot, by its id.
            diff = match base.origin.kind() {
                SnapshotKind::User => diff.from_snapshot(&*base.name),
                _ => diff.from_snapshot(base.id),
            };
        }
        let since = asked.base.is_some();
        let mut stopped = false;
        let read = diff.for_each(|extent| {
            // What became a hole has changed, too.
            if extent.exists || since {
                part.push(Block { offset: extent.offset, len: extent.len });
            }
            if part.len() == max {
                given = true;
                if !give(size, std::mem::take(&mut part)) {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        if stopped {
            return Ok(());
        }
        let read = read.or_status();
        // A diff may notice the removal itself, but only of the snapshot that it reads.
        if read.as_ref().is_err_and(|status| status.code() != Code::NotFound) {
            return read;
        }
        self.check_kept(&ids, secrets, |id| {
            format!(
                "snapshot '{id}' was removed while its blocks were listed; discard all blocks of this \
                 answer, because some are missing or wrong, and ask again with a snapshot that exists"
            )
        })?;
        read?;
        if !part.is_empty() || !given {
            give(size, part);
        }
        Ok(())
    }
}
