//! What a snapshot belongs to.

use super::{MirrorSnapshot, MirrorSnapshotState, SnapshotKind, SnapshotOrigin, Snapshots};
use crate::error::Result;
use crate::raw::ffi::late::Failure;

impl Snapshots<'_> {
    /// Returns what a snapshot belongs to. Asks the cluster, except for users' snapshots.
    ///
    /// Implements: `rbd_snap_get_namespace_type`, `rbd_snap_get_group_namespace`,
    /// `rbd_snap_get_trash_namespace`, `rbd_snap_get_trash_namespace2` (Ceph 20.2),
    /// `rbd_snap_get_mirror_namespace`.
    #[doc(alias = "rbd_snap_get_namespace_type")]
    #[doc(alias = "rbd_snap_get_group_namespace")]
    #[doc(alias = "rbd_snap_get_trash_namespace")]
    #[doc(alias = "rbd_snap_get_trash_namespace2")]
    #[doc(alias = "rbd_snap_get_mirror_namespace")]
    pub fn origin(&self, id: u64) -> Result<SnapshotOrigin> {
        let operation = "look up the origin of";
        let kind = self.0.by_snapshot_id(operation, id, move |raw| raw.snapshot_namespace_type(id))?;
        Ok(match SnapshotKind::from_raw(kind.0) {
            SnapshotKind::User => SnapshotOrigin::User,
            SnapshotKind::Group => {
                let group = self.0.by_snapshot_id(operation, id, move |raw| raw.snapshot_group(id))?;
                SnapshotOrigin::Group { pool_id: group.pool_id, group: group.group, snapshot: group.snapshot }
            }
            SnapshotKind::Trash => SnapshotOrigin::Trash {
                original_name: self
                    .0
                    .by_snapshot_id(operation, id, move |raw| raw.snapshot_trash_name(id))?,
                original_kind: self.0.by_snapshot_id(operation, id, move |raw| {
                    match raw.snapshot_trash_type(id) {
                        Ok(kind) => Ok(Some(SnapshotKind::from_raw(kind.0))),
                        Err(Failure::Missing { .. }) => Ok(None),
                        Err(failure) => Err(failure),
                    }
                })?,
            },
            SnapshotKind::Mirror => {
                let mirror = self.0.by_snapshot_id(operation, id, move |raw| raw.snapshot_mirror(id))?;
                SnapshotOrigin::Mirror(MirrorSnapshot {
                    state: MirrorSnapshotState::from_raw(mirror.state.0),
                    peers: mirror.peers,
                    complete: mirror.complete,
                    primary_mirror_uuid: mirror.primary,
                    primary_snapshot_id: mirror.primary_snapshot,
                    copied_objects: mirror.copied_objects,
                })
            }
            SnapshotKind::Unknown(kind) => SnapshotOrigin::Unknown(kind),
        })
    }
}

impl SnapshotKind {
    pub(crate) fn from_raw(kind: u32) -> SnapshotKind {
        match kind {
            0 => SnapshotKind::User,
            1 => SnapshotKind::Group,
            2 => SnapshotKind::Trash,
            3 => SnapshotKind::Mirror,
            other => SnapshotKind::Unknown(other),
        }
    }
}

impl MirrorSnapshotState {
    fn from_raw(state: u32) -> MirrorSnapshotState {
        match state {
            0 => MirrorSnapshotState::Primary,
            1 => MirrorSnapshotState::PrimaryDemoted,
            2 => MirrorSnapshotState::NonPrimary,
            3 => MirrorSnapshotState::NonPrimaryDemoted,
            other => MirrorSnapshotState::Unknown(other),
        }
    }
}
