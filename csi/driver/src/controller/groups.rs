//! Snapshots of several volumes at one point in time, by a group of images.
//!
//! The group lives as long as its snapshot. An image can be in one group only, so it leaves the
//! group as soon as the snapshot is taken.

use std::collections::BTreeSet;

use rbd::IoCtx;
use rbd::group::Group;
use rbd::snapshot::SnapshotOrigin;
use tonic::{Code, Status};

use super::snapshots::Snapshot;
use super::{Controller, found, open};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::ids::{self, GroupSnapshotId, Place, SnapshotId, VolumeId};
use crate::status::OrStatus;

/// A snapshot of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its id.
    pub id: GroupSnapshotId,
    /// Its snapshots, one for each volume, in the order of the request.
    pub snapshots: Vec<Snapshot>,
}

impl Controller {
    /// Takes a snapshot of all volumes at one point in time, or returns the one that an earlier
    /// request of this name took.
    pub fn create_group_snapshot(
        &self,
        name: &str,
        volumes: &[VolumeId],
        class: &Class,
        secrets: &Secrets,
    ) -> Result<GroupSnapshot, Status> {
        // The same volumes in another order are the same request.
        let Some(first) = volumes.iter().min() else {
            return Err(Status::invalid_argument("source_volume_ids is missing"));
        };
        let alike = |place: &Place| {
            (&place.cluster, &place.namespace) == (&first.place.cluster, &first.place.namespace)
        };
        if let Some(other) = volumes.iter().find(|volume| !alike(&volume.place)) {
            return Err(Status::invalid_argument(format!(
                "the volumes '{first}' and '{other}' do not lie in one cluster and one namespace, as the \
                 volumes of a group snapshot must; take one snapshot for each cluster and namespace"
            )));
        }
        let pool = self.clusters.place(&first.place, secrets)?;
        let group = ids::object_name(class.group_prefix(), name);
        let id = GroupSnapshotId { place: first.place.clone(), name: group.clone() };
        // Checked before anything is made: all volumes must exist.
        let pools = self.images(volumes, secrets)?;
        if !pool.groups().list().or_status()?.contains(&group) {
            match pool.groups().create(&group) {
                Err(error) if error.is_already_exists() => {}
                made => drop(made.or_status()?),
            }
        }
        let handle = pool.group(&group);
        let taken = handle.snapshots().list().or_status()?;
        if !taken.iter().any(|snapshot| snapshot.name == group && snapshot.complete) {
            for snapshot in &taken {
                handle.snapshots().remove(&snapshot.name).or_status()?;
            }
            for ((pool, _), volume) in pools.iter().zip(volumes) {
                self.check_room(pool, volume, &open(pool, volume, true)?)?;
            }
            fill(&handle, volumes, &pools)?;
            handle.snapshots().create(&group).run().or_status()?;
        }
        empty(&handle, &pools)?;
        let snapshot = self.group_snapshot(&id, volumes, secrets)?;
        if snapshot.snapshots.len() != volumes.len() || members(&id, &pools)? != volumes.len() {
            return Err(Status::already_exists(format!(
                "group snapshot '{name}' exists, but of other volumes; choose another name"
            )));
        }
        Ok(snapshot)
    }

    /// The pool and the name of each volume's image.
    fn images(&self, volumes: &[VolumeId], secrets: &Secrets) -> Result<Vec<(IoCtx, String)>, Status> {
        let one = |volume: &VolumeId| {
            let pool = self.clusters.place(&volume.place, secrets)?;
            let name = open(&pool, volume, true)?.name().or_status()?;
            Ok((pool, name))
        };
        volumes.iter().map(one).collect()
    }

    /// Returns a group snapshot. `parts` are all its snapshots.
    pub fn parts_of_group_snapshot(
        &self,
        id: &GroupSnapshotId,
        parts: &[SnapshotId],
        secrets: &Secrets,
    ) -> Result<GroupSnapshot, Status> {
        let volumes: Vec<VolumeId> = parts.iter().map(|part| part.volume.clone()).collect();
        let found = self.group_snapshot(id, &volumes, secrets)?;
        match parts.iter().find(|part| found.snapshots.iter().all(|snapshot| snapshot.id != **part)) {
            None => Ok(found),
            Some(other) => Err(no_part(id, other)),
        }
    }

    /// Refuses existing snapshots that are no parts of the group snapshot, before it is deleted.
    fn check_parts(
        &self,
        id: &GroupSnapshotId,
        parts: &[SnapshotId],
        secrets: &Secrets,
    ) -> Result<(), Status> {
        for part in parts {
            match self.snapshot(part, secrets) {
                // An interrupted deletion has removed it, completely or in part.
                Err(status) if status.code() == Code::NotFound => self.delete_snapshot(part, secrets)?,
                Ok(snapshot) if snapshot.group.as_deref() == Some(&*id.to_string()) => {}
                Ok(_) => return Err(no_part(id, part)),
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }

    /// Returns the parts of a group snapshot that these volumes have.
    pub fn group_snapshot(
        &self,
        id: &GroupSnapshotId,
        volumes: &[VolumeId],
        secrets: &Secrets,
    ) -> Result<GroupSnapshot, Status> {
        let pool = self.clusters.place(&id.place, secrets)?;
        if !pool.groups().list().or_status()?.contains(&id.name) {
            return Err(Status::not_found(format!("group snapshot '{id}' does not exist")));
        }
        let taken = pool.group(&id.name).snapshots().list().or_status()?;
        if !taken.iter().any(|snapshot| snapshot.name == id.name && snapshot.complete) {
            return Err(Status::not_found(format!(
                "group snapshot '{id}' was not taken: its creation was interrupted; ask for it again"
            )));
        }
        let mut snapshots = Vec::new();
        for volume in volumes {
            let image = self.open(volume, secrets, true)?;
            for snapshot in image.snapshots().list().or_status()? {
                if is_part(id, &snapshot) {
                    snapshots.push(Snapshot::new(volume, &snapshot));
                }
            }
        }
        Ok(GroupSnapshot { id: id.clone(), snapshots })
    }

    /// Deletes a group snapshot with all its snapshots. Succeeds if it is already gone. `parts` are
    /// its snapshots; empty if the caller does not name them.
    pub fn delete_group_snapshot(
        &self,
        id: &GroupSnapshotId,
        parts: &[SnapshotId],
        secrets: &Secrets,
    ) -> Result<(), Status> {
        let pool = match self.clusters.place(&id.place, secrets) {
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
            pool => pool?,
        };
        if !pool.groups().list().or_status()?.contains(&id.name) {
            return Ok(());
        }
        self.check_parts(id, parts, secrets)?;
        let group = pool.group(&id.name);
        for snapshot in group.snapshots().list().or_status()? {
            group.snapshots().remove(&snapshot.name).or_status()?;
        }
        pool.groups().remove(&id.name).or_status()
    }
}

fn no_part(id: &GroupSnapshotId, other: &SnapshotId) -> Status {
    Status::invalid_argument(format!("snapshot '{other}' is no part of group snapshot '{id}'"))
}

/// Lets all images leave the group.
fn empty(group: &Group, images: &[(IoCtx, String)]) -> Result<(), Status> {
    for member in group.list().or_status()? {
        if let Some((pool, _)) = images.iter().find(|(pool, _)| pool.pool_id() == member.pool_id) {
            found(group.remove(pool, &member.name))?;
        }
    }
    Ok(())
}

fn fill(group: &Group, volumes: &[VolumeId], images: &[(IoCtx, String)]) -> Result<(), Status> {
    for ((pool, name), volume) in images.iter().zip(volumes) {
        let member = open(pool, volume, true)?.group().or_status()?;
        match member {
            None => group.add(pool, name).or_status()?,
            Some(other) if other.name == group.name() => {}
            Some(other) => {
                // Two requests that each keep an image that the other one needs would never end.
                empty(group, images)?;
                return Err(Status::aborted(format!(
                    "volume '{volume}' is in group '{}', and an image can be in one group only; \
                     ask again when that group snapshot is taken",
                    other.name
                )));
            }
        }
    }
    Ok(())
}

/// Returns how many images of these pools have a part of the group snapshot.
fn members(id: &GroupSnapshotId, pools: &[(IoCtx, String)]) -> Result<usize, Status> {
    let mut parts = BTreeSet::new();
    let mut name = None;
    for (pool, image) in pools {
        let image = pool.open(image).read_only(true).run().or_status()?;
        let all = image.snapshots().list().or_status()?;
        name = name.or_else(|| all.into_iter().find(|part| is_part(id, part)).map(|part| part.name));
    }
    for (pool, _) in pools {
        // An image that cannot be read has no usable part.
        for image in pool.survey().snapshots(true).run().or_status()?.flatten() {
            if image.snapshots.iter().any(|part| Some(&part.name) == name.as_ref()) {
                parts.insert((pool.pool_id(), image.id));
            }
        }
    }
    Ok(parts.len())
}

/// Returns whether a snapshot of an image is a part of the group snapshot.
fn is_part(id: &GroupSnapshotId, snapshot: &rbd::snapshot::Snapshot) -> bool {
    matches!(
        &snapshot.origin,
        SnapshotOrigin::Group { pool_id, snapshot, .. }
            if *pool_id == id.place.pool && *snapshot == id.name
    )
}
