//! Snapshots of volumes.

use std::time::SystemTime;

use rbd::snapshot::{SnapshotKind, SnapshotOrigin};
use rbd::{Image, IoCtx};
use tonic::Status;

use super::capacity::or_full;
use super::clone::is_temporary;
use super::{Controller, found, open, open_to_free};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::ids::{self, GroupSnapshotId, Place, SnapshotId, VolumeId};
use crate::status::OrStatus;

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The size of the volume at that time, in bytes.
    pub size: u64,
    /// When it was taken.
    pub created: SystemTime,
    /// The group snapshot that it is a part of.
    pub group: Option<String>,
}

impl Snapshot {
    pub(super) fn new(volume: &VolumeId, snapshot: &rbd::snapshot::Snapshot) -> Snapshot {
        let group = match &snapshot.origin {
            // A group of this driver has one snapshot, with the name of the group.
            SnapshotOrigin::Group { pool_id, group, snapshot } if group == snapshot => {
                let place = Place { pool: *pool_id, ..volume.place.clone() };
                Some(GroupSnapshotId { place, name: group.clone() }.to_string())
            }
            _ => None,
        };
        Snapshot {
            id: SnapshotId { volume: volume.clone(), snapshot: snapshot.id },
            size: snapshot.size,
            created: snapshot.created,
            group,
        }
    }
}

/// How many snapshots are freed of their clones at the same time.
const FREED: usize = 8;

/// Returns the snapshots of an image that users have taken, alone or in a group.
pub(super) fn of_users(volume: &VolumeId, image: &Image) -> Result<Vec<Snapshot>, Status> {
    let all = image.snapshots().list().or_status()?;
    let listed = all.iter().filter(|snapshot| is_users(snapshot.origin.kind(), &snapshot.name));
    Ok(listed.map(|snapshot| Snapshot::new(volume, snapshot)).collect())
}

/// Returns whether the list has this snapshot, and not only in the image's trash.
pub(super) fn is_in(all: &[rbd::snapshot::Snapshot], id: &SnapshotId) -> bool {
    all.iter().any(|snapshot| snapshot.id == id.snapshot && snapshot.origin.kind() != SnapshotKind::Trash)
}

pub(super) fn is_users(kind: SnapshotKind, name: &str) -> bool {
    kind == SnapshotKind::Group || kind == SnapshotKind::User && !is_temporary(name)
}

impl Controller {
    /// Refuses one more snapshot of an image that has too many. Snapshots that only clones need
    /// count, too: such clones are flattened in the background.
    pub(super) fn check_room(&self, pool: &IoCtx, volume: &VolumeId, image: &Image) -> Result<(), Status> {
        let all = image.snapshots().list().or_status()?;
        if all.len() < self.options.most_snapshots {
            return Ok(());
        }
        let kept = all.iter().filter(|snapshot| snapshot.origin.kind() == SnapshotKind::Trash);
        for snapshot in kept.take(FREED) {
            // It goes with its last clone.
            let Some(then) = found(image.at_snapshot(snapshot.id))? else { continue };
            for clone in found(then.children())?.unwrap_or_default() {
                let home = pool.cluster().ioctx_by_id(clone.pool_id).or_status()?;
                self.background.flatten(&home.with_namespace(&clone.namespace).or_status()?, &clone.id);
            }
        }
        Err(Status::resource_exhausted(format!(
            "volume '{volume}' has {} snapshots, with those that only clones need, which are being flattened \
             now; nodes cannot map an image with more than 510; delete snapshots, or ask again later",
            all.len()
        )))
    }

    /// Takes a snapshot, or returns the one that an earlier request of this name took.
    pub fn create_snapshot(
        &self,
        name: &str,
        volume: &VolumeId,
        class: &Class,
        secrets: &Secrets,
    ) -> Result<Snapshot, Status> {
        let pool = self.clusters.place(&volume.place, secrets)?;
        let image = open(&pool, volume, false)?;
        let snapshot = ids::object_name(class.snapshot_prefix(), name);
        if let Some(taken) = find(&image, &snapshot)? {
            return Ok(Snapshot::new(volume, &taken));
        }
        // The name belongs to one request: no other volume may have a snapshot with it.
        for other in pool.survey().snapshots(true).run().or_status()? {
            let other = match other {
                Ok(other) => other,
                // An image that cannot be read must not prevent snapshots of all others.
                Err(error) => {
                    tracing::warn!(%error, "its snapshots were not compared");
                    continue;
                }
            };
            if other.id != volume.image && other.snapshots.iter().any(|taken| taken.name == snapshot) {
                return Err(Status::already_exists(format!(
                    "snapshot '{name}' exists, of image '{}' and not of volume '{volume}'; \
                     choose another name",
                    other.name
                )));
            }
        }
        self.check_room(&pool, volume, &image)?;
        match image.snapshots().create(&snapshot).run() {
            Err(error) if error.is_already_exists() => {}
            taken => or_full(&pool, taken.or_status())?,
        }
        let taken = find(&image, &snapshot)?
            .ok_or_else(|| Status::aborted(format!("snapshot '{name}' was removed meanwhile; ask again")))?;
        image.close().or_status()?;
        Ok(Snapshot::new(volume, &taken))
    }

    /// Deletes a snapshot. Succeeds if the snapshot is already gone.
    pub fn delete_snapshot(&self, id: &SnapshotId, secrets: &Secrets) -> Result<(), Status> {
        let opened =
            self.clusters.place(&id.volume.place, secrets).and_then(|pool| open_to_free(&pool, &id.volume));
        let image = match opened {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
            image => image?,
        };
        let all = image.snapshots().list().or_status()?;
        let Some(snapshot) = all.iter().find(|snapshot| snapshot.id == id.snapshot) else { return Ok(()) };
        match snapshot.origin.kind() {
            SnapshotKind::Trash => {
                // Deleted, but a clone needs its data. Without a clone, its deletion was
                // interrupted.
                if image.at_snapshot(id.snapshot).or_status()?.children().or_status()?.is_empty() {
                    image.snapshots().remove_by_id(id.snapshot).or_status()?;
                }
                return image.close().or_status();
            }
            SnapshotKind::User => {}
            _ => {
                return Err(Status::failed_precondition(format!(
                    "snapshot '{id}' is a part of a group snapshot; delete that one"
                )));
            }
        }
        image.snapshots().remove(&snapshot.name).unprotect(true).run().or_status()?;
        image.close().or_status()
    }

    /// Checks that snapshots of one volume, whose data was read, are still there. A handle without
    /// a watch does not notice the removal, and reads zeros from then on. A new handle knows it.
    /// librbd puts a snapshot into the image's trash before its data goes.
    pub(super) fn check_kept(
        &self,
        ids: &[&SnapshotId],
        secrets: &Secrets,
        removed: impl FnOnce(&SnapshotId) -> String,
    ) -> Result<(), Status> {
        let Some(first) = ids.first() else { return Ok(()) };
        let all = match self.open(&first.volume, secrets, true) {
            Err(status) if status.code() == tonic::Code::NotFound => Vec::new(),
            opened => opened?.snapshots().list().or_status()?,
        };
        match ids.iter().find(|id| !is_in(&all, id)) {
            Some(id) => Err(Status::not_found(removed(id))),
            None => Ok(()),
        }
    }

    /// Returns a snapshot.
    pub fn snapshot(&self, id: &SnapshotId, secrets: &Secrets) -> Result<Snapshot, Status> {
        let image = self.open(&id.volume, secrets, true)?;
        let all = image.snapshots().list().or_status()?;
        all.iter()
            .find(|snapshot| snapshot.id == id.snapshot && snapshot.origin.kind() != SnapshotKind::Trash)
            .map(|snapshot| Snapshot::new(&id.volume, snapshot))
            .ok_or_else(|| Status::not_found(format!("snapshot '{id}' does not exist")))
    }
}

fn find(image: &Image, name: &str) -> Result<Option<rbd::snapshot::Snapshot>, Status> {
    let all = image.snapshots().list().or_status()?;
    Ok(all.into_iter().find(|snapshot| snapshot.name == name && snapshot.origin.kind() == SnapshotKind::User))
}
