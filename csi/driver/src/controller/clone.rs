//! Volumes that start with the content of a snapshot or of another volume.

use rbd::image::CloneFormat;
use rbd::snapshot::{Snapshot, SnapshotKind};
use rbd::{Image, IoCtx, SnapshotRef};
use tonic::Status;

use super::create::as_the_class_says;
use super::request::{CreateVolume, Source};
use super::unfinished::{self, PART};
use super::{Controller, found, open};
use crate::clusters::Secrets;
use crate::ids::{SnapshotId, VolumeId};
use crate::notes::Note;
use crate::status::OrStatus;

/// The first part of the names of snapshots that exist only while a volume is cloned.
const TEMPORARY: &str = "csi-clone-";

/// Returns whether the driver itself, and no user, made the snapshot with this name.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

impl Controller {
    pub(super) fn clone_source(
        &self,
        request: &CreateVolume,
        source: &Source,
        pool: &IoCtx,
        name: &str,
    ) -> Result<(), Status> {
        let from = self.clusters.place(&source.volume().place, &request.secrets)?;
        let read_only = matches!(source, Source::Snapshot(_));
        let image = open(&from, source.volume(), read_only)?;
        let deep = 2 * self.options.flatten_depth;
        if image.ancestors().or_status()?.len() >= deep {
            self.background.flatten(&from, &source.volume().image);
            return Err(Status::aborted(format!(
                "the {source} is a clone with {deep} ancestors, and is being flattened now; ask again"
            )));
        }
        let snapshot = match source {
            Source::Snapshot(id) => image
                .snapshots()
                .list()
                .or_status()?
                .into_iter()
                .find(|snapshot| snapshot.id == id.snapshot)
                .filter(|snapshot| snapshot.origin.kind() != SnapshotKind::Trash)
                .ok_or_else(|| Status::not_found(format!("snapshot '{id}' does not exist")))?,
            Source::Volume(id) => self.temporary(&from, id, &image, name)?,
        };
        // Checked before anything is made: the source must fit into the volume.
        request.sizes.choose(snapshot.size)?;
        let parent = image.name().or_status()?;
        if snapshot.origin.kind() == SnapshotKind::Group {
            return self.copy_group_snapshot(request, source, &image, &snapshot, pool, name);
        }
        let clone = from.clone_image(&parent, SnapshotRef::Name(&snapshot.name), name);
        let clone = clone.into_ioctx(pool).format(CloneFormat::V2);
        as_the_class_says!(clone, request.class).run().or_status()
    }

    /// Returns the snapshot from which a clone with this name is made. An interrupted request may
    /// have made it.
    fn temporary(
        &self,
        from: &IoCtx,
        volume: &VolumeId,
        image: &Image,
        name: &str,
    ) -> Result<Snapshot, Status> {
        let snapshot = format!("{TEMPORARY}{name}");
        if !image.snapshots().exists(&snapshot).or_status()? {
            self.check_room(from, volume, image)?;
            match image.snapshots().create(&snapshot).run() {
                Err(error) if error.is_already_exists() => {}
                made => made.or_status()?,
            }
        }
        let all = image.snapshots().list().or_status()?;
        all.into_iter()
            .find(|other| other.name == snapshot)
            .ok_or_else(|| Status::aborted(format!("snapshot '{snapshot}' was removed meanwhile; ask again")))
    }

    /// Removes the snapshot from which a clone was made. While clones need it, Ceph keeps it in the
    /// image's trash.
    pub(super) fn end_clone(&self, source: &Source, name: &str, secrets: &Secrets) -> Result<(), Status> {
        let image = match self.open(source.volume(), secrets, false) {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
            opened => opened?,
        };
        found(image.snapshots().remove(&format!("{TEMPORARY}{name}")).run())?;
        image.close().or_status()
    }

    /// Copies a snapshot of a group, because cloning it would need Ceph 20.2 (`rbd_clone4`) on all
    /// clients.
    fn copy_group_snapshot(
        &self,
        request: &CreateVolume,
        source: &Source,
        image: &Image,
        snapshot: &Snapshot,
        pool: &IoCtx,
        name: &str,
    ) -> Result<(), Status> {
        let part = format!("{name}{PART}");
        // Left by an interrupted request.
        found(pool.remove(&part).run())?;
        unfinished::free_name(pool, &part)?;
        let then = image.at_snapshot(snapshot.id).or_status()?;
        let copy = then.copy_to(pool, &part);
        let copied = as_the_class_says!(copy, request.class).run().or_status();
        let missing = |status: &Status| status.code() == tonic::Code::NotFound;
        if let Source::Snapshot(id) = source
            && copied.as_ref().err().is_none_or(missing)
        {
            self.check_kept(&[id], &request.secrets, |id| removed_meanwhile(id, request, pool, &part))?;
        }
        copied?;
        let copied = pool.open(&part).run().or_status()?;
        // The note and the name come last, so an image with this name and without a parent is a
        // complete copy.
        Note::Source.set(&copied, &source.to_string()).or_status()?;
        copied.close().or_status()?;
        pool.rename(&part, name).or_status()
    }
}

/// Removes the copy of a snapshot that is gone. Returns the text of the error.
fn removed_meanwhile(id: &SnapshotId, request: &CreateVolume, pool: &IoCtx, part: &str) -> String {
    let undone = match found(pool.remove(part).run()) {
        Ok(_) => "the incomplete copy was removed".to_owned(),
        Err(status) => format!(
            "the incomplete copy '{part}' in pool '{}' is still there, remove it (rbd rm): {}",
            pool.pool(),
            status.message()
        ),
    };
    let volume = &request.name;
    format!(
        "snapshot '{id}' was removed while volume '{volume}' was copied from it; {undone}; create the \
         volume from a snapshot that exists"
    )
}
