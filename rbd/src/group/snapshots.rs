//! Snapshots of a group, taken of all its images at the same time.

use std::ops::ControlFlow;

use super::Group;
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, new_name};
use crate::progress::Progress;
use crate::raw::group::RawGroupSnapshotInfo;
use crate::raw::image::snapshot::RawQuiesce;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// A snapshot of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSnapshot {
    /// Its name.
    pub name: String,
    /// Whether it is complete: `false` if its creation was interrupted.
    pub complete: bool,
}

/// A snapshot of a group with the snapshots of its images.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSnapshotInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name that the snapshot has in each image.
    pub image_snapshot: String,
    /// Whether it is complete: `false` if its creation was interrupted.
    pub complete: bool,
    /// The images that were in the group at that time.
    pub images: Vec<GroupSnapshotImage>,
}

/// The snapshot of one image in a group snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSnapshotImage {
    /// The id of the image's pool.
    pub pool_id: i64,
    /// The image's name.
    pub name: String,
    /// The id of the image's snapshot.
    pub snapshot_id: u64,
}

/// Creates a snapshot of a group: see [`GroupSnapshots::create`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct CreateGroupSnapshot<'a> {
    group: &'a Group,
    name: &'a str,
    quiesce: RawQuiesce,
}

/// Rolls a group back to a snapshot: see [`GroupSnapshots::rollback`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct RollbackGroup<'a> {
    group: &'a Group,
    name: &'a str,
    progress: Progress<'a>,
}

impl Group {
    fn snapshot_object(&self, name: &str) -> Object {
        Object::new(ObjectKind::GroupSnapshot, format!("{}@{name}", self.ioctx.spec(&self.name)))
    }

    /// Returns the group of calls that create, list and remove snapshots of this group, and roll
    /// back to them.
    pub fn snapshots(&self) -> GroupSnapshots<'_> {
        GroupSnapshots(self)
    }
}

/// The snapshots of a group: see [`Group::snapshots`].
#[derive(Debug, Clone, Copy)]
pub struct GroupSnapshots<'a>(&'a Group);

impl<'a> GroupSnapshots<'a> {
    /// Creates a snapshot of all images at the same time: no image is written between the first and
    /// the last of their snapshots. That holds for images with the feature exclusive-lock, whose
    /// locks librbd takes meanwhile. Writers of an image without this feature do not wait.
    ///
    /// Implements: `rbd_group_snap_create2`.
    #[doc(alias = "rbd_group_snap_create")]
    #[doc(alias = "rbd_group_snap_create2")]
    pub fn create(&self, name: &'a str) -> CreateGroupSnapshot<'a> {
        CreateGroupSnapshot { group: self.0, name, quiesce: RawQuiesce::default() }
    }

    /// Removes a snapshot of the group.
    ///
    /// If another client owns the exclusive lock of an image, that client removes the image's
    /// snapshot. If the image has left the group since, librbd can lose the owner's answer on a
    /// busy machine, and the call times out. Call it again then.
    ///
    /// Implements: `rbd_group_snap_remove`.
    #[doc(alias = "rbd_group_snap_remove")]
    pub fn remove(&self, name: &str) -> Result<()> {
        let object = || self.0.snapshot_object(name);
        let (group, c_name) = (c_string("remove", object, &self.0.name)?, c_string("remove", object, name)?);
        self.0.ioctx.bounded("remove", object, move |raw| raw.group_snapshot_remove(&group, &c_name))
    }

    /// Renames a snapshot of the group.
    ///
    /// Implements: `rbd_group_snap_rename`.
    #[doc(alias = "rbd_group_snap_rename")]
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let object = || self.0.snapshot_object(from);
        let group = c_string("rename", object, &self.0.name)?;
        let (c_from, c_to) = (c_string("rename", object, from)?, new_name("rename", object, to)?);
        let rename = move |raw: &RawIoCtx| raw.group_snapshot_rename(&group, &c_from, &c_to);
        self.0.ioctx.bounded("rename", object, rename).map_err(|error| {
            if !error.is_already_exists() {
                return error;
            }
            error.with_detail(format!("a snapshot '{to}' of the group already exists; choose another name"))
        })
    }

    /// Lists the snapshots of the group.
    ///
    /// Implements: `rbd_group_snap_list`.
    #[doc(alias = "rbd_group_snap_list")]
    pub fn list(&self) -> Result<Vec<GroupSnapshot>> {
        let operation = "list the snapshots of";
        let group = c_string(operation, || self.0.object(), &self.0.name)?;
        let list = move |raw: &RawIoCtx| raw.group_snapshots(&group);
        let snapshots = self.0.ioctx.bounded(operation, || self.0.object(), list)?;
        if snapshots.is_empty() {
            self.0.check_exists(operation)?;
        }
        Ok(snapshots
            .into_iter()
            .map(|raw| GroupSnapshot { name: raw.name, complete: raw.complete })
            .collect())
    }

    /// Returns a snapshot of the group with the snapshots of its images.
    ///
    /// Implements: `rbd_group_snap_get_info`. Needs Ceph 20.2.
    #[doc(alias = "rbd_group_snap_get_info")]
    pub fn info(&self, name: &str) -> Result<GroupSnapshotInfo> {
        let object = || self.0.snapshot_object(name);
        let (group, c_name) =
            (c_string("look up", object, &self.0.name)?, c_string("look up", object, name)?);
        let look_up = move |raw: &RawIoCtx| raw.group_snapshot_info(&group, &c_name);
        Ok(info(self.0.ioctx.bounded("look up", object, look_up)?))
    }

    /// Lists the snapshots of the group with the snapshots of its images.
    ///
    /// Implements: `rbd_group_snap_list2`. Needs Ceph 20.2.
    #[doc(alias = "rbd_group_snap_list2")]
    pub fn infos(&self) -> Result<Vec<GroupSnapshotInfo>> {
        let operation = "list the snapshots of";
        let group = c_string(operation, || self.0.object(), &self.0.name)?;
        let list = move |raw: &RawIoCtx| raw.group_snapshot_infos(&group);
        Ok(self.0.ioctx.bounded(operation, || self.0.object(), list)?.into_iter().map(info).collect())
    }

    /// Rolls all images of a snapshot of the group back to it, also those that have left the group
    /// since. Data written since is lost. The object maps of images that have left are not rebuilt:
    /// [rebuild](crate::image::ObjectMap::rebuild) them before you use fast-diff.
    ///
    /// Implements: `rbd_group_snap_rollback_with_progress`.
    #[doc(alias = "rbd_group_snap_rollback")]
    #[doc(alias = "rbd_group_snap_rollback_with_progress")]
    pub fn rollback(&self, name: &'a str) -> RollbackGroup<'a> {
        RollbackGroup { group: self.0, name, progress: Progress::default() }
    }
}

impl CreateGroupSnapshot<'_> {
    /// Sets whether to skip the [quiesce watches](crate::Image::watch_quiesce) of the images.
    /// Default: off.
    pub fn skip_quiesce(mut self, skip_quiesce: bool) -> Self {
        self.quiesce.skip = skip_quiesce;
        self
    }

    /// Sets whether to create the snapshot even if a quiesce watch fails. Default: off.
    pub fn ignore_quiesce_error(mut self, ignore_quiesce_error: bool) -> Self {
        self.quiesce.ignore_error = ignore_quiesce_error;
        self
    }

    /// Creates the snapshot. Blocks.
    pub fn run(self) -> Result<()> {
        let CreateGroupSnapshot { group, name, quiesce } = self;
        let object = || group.snapshot_object(name);
        let (c_group, c_name) = (c_string("create", object, &group.name)?, new_name("create", object, name)?);
        let create = move |raw: &RawIoCtx| raw.group_snapshot_create(&c_group, &c_name, quiesce);
        group.ioctx.bounded("create", object, create)
    }
}

impl<'a> RollbackGroup<'a> {
    /// Calls back with the objects done so far and their total. A break stops the rollback with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped). Some images may then have changed; run
    /// the rollback again to restore all of them.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Rolls the images back, and rebuilds their object maps, which would lack the changes of the
    /// rollback. Blocks.
    pub fn run(self) -> Result<()> {
        let RollbackGroup { group, name, progress } = self;
        let object = || group.snapshot_object(name);
        let (c_group, c_name) =
            (c_string("roll back to", object, &group.name)?, c_string("roll back to", object, name)?);
        let roll_back =
            move |raw: &RawIoCtx, progress: Progress<'_>| raw.group_rollback(&c_group, &c_name, progress);
        group.ioctx.bounded_long("roll back to", object, progress, roll_back)?;
        for member in group.list()? {
            let pool = group.ioctx.cluster().ioctx_by_id(member.pool_id)?;
            let pool = pool.with_namespace(group.ioctx.namespace())?;
            pool.open(&member.name).run()?.settle_object_map()?;
        }
        Ok(())
    }
}

fn info(raw: RawGroupSnapshotInfo) -> GroupSnapshotInfo {
    let image = |(pool_id, name, snapshot_id)| GroupSnapshotImage { pool_id, name, snapshot_id };
    GroupSnapshotInfo {
        id: raw.id,
        name: raw.name,
        image_snapshot: raw.image_snapshot,
        complete: raw.complete,
        images: raw.images.into_iter().map(image).collect(),
    }
}
