//! Deleting volumes.

use std::time::Duration;

use rbd::IoCtx;
use rbd::group::ImageGroup;
use rbd::snapshot::SnapshotKind;
use rbd::trash::TrashSource;
use tonic::Status;

use super::clone::is_temporary;
use super::{Controller, found, open, open_to_free};
use crate::calls;
use crate::clusters::Secrets;
use crate::ids::VolumeId;
use crate::notes::Note;
use crate::status::OrStatus;

impl Controller {
    /// Deletes a volume. Succeeds if the volume is already gone.
    pub fn delete(&self, id: &VolumeId, secrets: &Secrets) -> Result<(), Status> {
        let missing = |status: &Status| status.code() == tonic::Code::NotFound;
        let pool = match self.clusters.place(&id.place, secrets) {
            Err(status) if missing(&status) => return Ok(()),
            pool => pool?,
        };
        let image = match open(&pool, id, true) {
            Err(status) if missing(&status) => {
                end_removal(&pool, &id.image)?;
                self.background.empty_trash(&pool);
                return Ok(());
            }
            image => image?,
        };
        let name = image.name().or_status()?;
        let watchers = image.other_watchers().or_status()?;
        let snapshots = image.snapshots().list().or_status()?;
        let group = image.group().or_status()?;
        drop(image);
        let theirs = snapshots
            .iter()
            .filter(|snapshot| snapshot.origin.kind() != SnapshotKind::Trash && !is_temporary(&snapshot.name))
            .count();
        if theirs > 0 {
            return Err(Status::failed_precondition(format!(
                "volume '{id}' (image '{name}') has {theirs} snapshots; delete them first"
            )));
        }
        if !watchers.is_empty() {
            let users: Vec<String> = watchers.iter().map(|watcher| watcher.address.to_string()).collect();
            return Err(Status::failed_precondition(format!(
                "volume '{id}' (image '{name}') is in use by {}; unstage it there; a client that has died \
                 counts as a user for 30 s, in rare cases until its OSD is marked down (Ceph before 18.2.5 \
                 and 19.2.1)",
                users.join(", ")
            )));
        }
        if let Some(group) = group {
            leave(&pool, &name, &group)?;
        }
        if snapshots.is_empty() {
            pool.remove(&name).run().or_status()?;
        } else {
            // Ceph keeps deleted snapshots while clones need them, and with them the image.
            let image = open_to_free(&pool, id)?;
            for snapshot in snapshots.iter().filter(|snapshot| is_temporary(&snapshot.name)) {
                image.snapshots().remove(&snapshot.name).run().or_status()?;
            }
            Note::Deleted.set(&image, "yes").or_status()?;
            image.close().or_status()?;
            pool.trash().add(&name).delay(Duration::ZERO).run().or_status()?;
        }
        self.background.empty_trash(&pool);
        Ok(())
    }
}

/// Completes an interrupted removal: the image is in the trash, but its name or its data may still
/// exist.
fn end_removal(pool: &IoCtx, id: &str) -> Result<(), Status> {
    let Some(entry) = found(pool.trash().get(id))? else { return Ok(()) };
    // The steps of a move to the trash: the entry, the names, the end.
    calls::forget_name(pool, &entry.name, id)?;
    calls::end_move_to_trash(pool, id);
    match entry.source {
        TrashSource::Removing => found(pool.trash().remove(id).run()).map(drop),
        // Deleted: the image stays in the trash until its clones are gone.
        _ => Ok(()),
    }
}

/// Removes the image from its group. The image has no snapshots, so either a group snapshot was
/// interrupted before it was taken, or a user made the group.
fn leave(pool: &IoCtx, name: &str, group: &ImageGroup) -> Result<(), Status> {
    let home = pool.cluster().ioctx_by_id(group.pool_id).or_status()?;
    let home = home.with_namespace(pool.namespace()).or_status()?;
    found(home.group(&*group.name).remove(pool, name)).map(drop)
}
