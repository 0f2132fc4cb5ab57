//! The snapshots of an image, and how to name and find them.

pub(crate) mod changes;
mod origin;

use std::time::SystemTime;

use super::Image;
use super::info::{STRANGE_TIME, system_time};
use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::c_string;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::image::snapshot::RawSnapshot;

/// The name or the id of a snapshot. A rename does not change the id.
///
/// Arguments of this type accept a `&str` or a `u64`:
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let yesterday = image.at_snapshot("yesterday")?;
/// let same = image.at_snapshot(image.snapshots().id("yesterday")?)?;
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotRef<'a> {
    /// The name of a user's snapshot.
    Name(&'a str),
    /// The id of any snapshot. Snapshots of groups, of the trash and of mirroring have only ids.
    Id(u64),
}

impl<'a> From<&'a str> for SnapshotRef<'a> {
    fn from(name: &'a str) -> SnapshotRef<'a> {
        SnapshotRef::Name(name)
    }
}

impl<'a> From<&'a String> for SnapshotRef<'a> {
    fn from(name: &'a String) -> SnapshotRef<'a> {
        SnapshotRef::Name(name)
    }
}

impl From<u64> for SnapshotRef<'_> {
    fn from(id: u64) -> Self {
        SnapshotRef::Id(id)
    }
}

impl SnapshotRef<'_> {
    /// Returns `rbd/foo@snap`, or `rbd/foo@id 12` for an id.
    pub(crate) fn object(self, image: &str) -> Object {
        Object::new(
            ObjectKind::Snapshot,
            match self {
                SnapshotRef::Name(name) => format!("{image}@{name}"),
                SnapshotRef::Id(id) => format!("{image}@id {id}"),
            },
        )
    }
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The id, which is unique in the pool. A rename does not change it.
    pub id: u64,
    /// The name. Ceph generates the names of snapshots that are not a user's.
    pub name: String,
    /// The image's size in bytes at that time, without the header if the handle has encryption
    /// loaded.
    pub size: u64,
    /// When the snapshot was taken.
    pub created: SystemTime,
    /// Whether the snapshot is protected from removal, which clones of format 1 need.
    pub protected: bool,
    /// What the snapshot belongs to, which Ceph calls its namespace.
    pub origin: SnapshotOrigin,
}

/// The kind of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotKind {
    /// Created by a user.
    User,
    /// Part of a snapshot of a group.
    Group,
    /// Removed, but kept while clones need it.
    Trash,
    /// Created by mirroring.
    Mirror,
    /// A kind that this crate does not know.
    Unknown(u32),
}

/// What a snapshot belongs to, with Ceph's data about it. Ceph calls this the snapshot's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotOrigin {
    /// A user's snapshot.
    User,
    /// Part of a snapshot of a group.
    Group {
        /// The pool of the group.
        pool_id: i64,
        /// The name of the group.
        group: String,
        /// The name of the group's snapshot.
        snapshot: String,
    },
    /// Removed, but kept while clones need it.
    Trash {
        /// The name before the removal.
        original_name: String,
        /// The kind before the removal; `None` if the loaded library is older than Ceph 20.2.
        original_kind: Option<SnapshotKind>,
    },
    /// Created by mirroring.
    Mirror(MirrorSnapshot),
    /// A kind that this crate does not know.
    Unknown(u32),
}

/// The data of a mirror snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorSnapshot {
    /// The side that the snapshot was taken on, and whether it demoted that side.
    pub state: MirrorSnapshotState,
    /// On the primary side: the peers that have not fetched it yet. On the other side: empty.
    pub peers: Vec<String>,
    /// On the non-primary side: whether it is copied completely.
    pub complete: bool,
    /// On the non-primary side: the mirroring uuid of the primary cluster.
    pub primary_mirror_uuid: String,
    /// On the non-primary side: the snapshot's id on the primary side.
    pub primary_snapshot_id: u64,
    /// On the non-primary side: how many objects are copied.
    pub copied_objects: u64,
}

/// The side that a mirror snapshot was taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MirrorSnapshotState {
    /// Taken on the primary side.
    Primary,
    /// Taken on the primary side by its demotion.
    PrimaryDemoted,
    /// A copy of a primary snapshot, on the other side.
    NonPrimary,
    /// A copy of the snapshot that a demotion took, on the other side.
    NonPrimaryDemoted,
    /// A state that this crate does not know.
    Unknown(u32),
}

impl SnapshotOrigin {
    /// Returns the kind without its data.
    pub fn kind(&self) -> SnapshotKind {
        match self {
            SnapshotOrigin::User => SnapshotKind::User,
            SnapshotOrigin::Group { .. } => SnapshotKind::Group,
            SnapshotOrigin::Trash { .. } => SnapshotKind::Trash,
            SnapshotOrigin::Mirror(_) => SnapshotKind::Mirror,
            SnapshotOrigin::Unknown(kind) => SnapshotKind::Unknown(*kind),
        }
    }
}

/// The snapshots of an image: see [`Image::snapshots`].
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a>(pub(super) &'a Image);

impl Image {
    /// Returns the group of calls that create, list and remove the image's snapshots, and roll back
    /// to them.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(self)
    }
}

impl Snapshots<'_> {
    /// Lists the snapshots of every kind, oldest first: see [`Snapshot::origin`].
    ///
    /// Opens the image again for this, unless the handle is read-only: such a handle lists the
    /// snapshots that existed when it was opened.
    ///
    /// Implements: `rbd_snap_list`.
    #[doc(alias = "rbd_snap_list")]
    pub fn list(&self) -> Result<Vec<Snapshot>> {
        let settled = self.0.settled()?;
        let image = settled.as_ref().unwrap_or(self.0);
        let header = self.0.header_size();
        let mut snapshots = Vec::new();
        for raw in image.bounded("list the snapshots of", move |raw| raw.snapshots())? {
            let id = raw.id;
            match image.snapshots().details(raw) {
                Ok(mut snapshot) => {
                    snapshot.size = snapshot.size.saturating_sub(header);
                    snapshots.push(snapshot);
                }
                // Only a snapshot that was removed meanwhile may be left out.
                Err(error) if error.is_not_found() && self.0.is_gone(id) => {}
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_unstable_by_key(|snapshot| snapshot.id);
        Ok(snapshots)
    }

    fn details(self, raw: RawSnapshot) -> Result<Snapshot> {
        let origin = self.origin(raw.id)?;
        let user = origin == SnapshotOrigin::User;
        Ok(Snapshot {
            protected: user && self.is_protected(&raw.name)?,
            created: self.created(raw.id)?,
            origin,
            id: raw.id,
            name: raw.name,
            size: raw.size,
        })
    }

    /// Returns whether a user's snapshot of that name exists.
    ///
    /// Implements: `rbd_snap_exists`.
    #[doc(alias = "rbd_snap_exists")]
    pub fn exists(&self, name: &str) -> Result<bool> {
        self.0.snapshot_call("look up", name, move |raw, name| raw.snapshot_exists(name))
    }

    /// Returns the id of a user's snapshot.
    ///
    /// Implements: `rbd_snap_get_id`.
    #[doc(alias = "rbd_snap_get_id")]
    pub fn id(&self, name: &str) -> Result<u64> {
        self.0.snapshot_call("look up", name, move |raw, name| raw.snapshot_id(name))
    }

    /// Returns the name of a snapshot of any kind.
    ///
    /// Implements: `rbd_snap_get_name`.
    #[doc(alias = "rbd_snap_get_name")]
    pub fn name(&self, id: u64) -> Result<String> {
        self.0.by_snapshot_id("look up", id, move |raw| raw.snapshot_name(id))
    }

    /// Returns when a snapshot was taken. Opens the image again for this, unless the handle is
    /// read-only.
    ///
    /// Implements: `rbd_snap_get_timestamp`.
    #[doc(alias = "rbd_snap_get_timestamp")]
    pub fn created(&self, id: u64) -> Result<SystemTime> {
        let settled = self.0.settled()?;
        let image = settled.as_ref().unwrap_or(self.0);
        let time = image.by_snapshot_id("read the time of", id, move |raw| raw.snapshot_time(id))?;
        system_time(time).ok_or_else(|| {
            let object = SnapshotRef::Id(id).object(self.0.spec());
            Error::bad_answer("read the time of", object, STRANGE_TIME)
        })
    }
}

impl Image {
    fn is_gone(&self, id: u64) -> bool {
        let kind = self.by_snapshot_id("look up", id, move |raw| raw.snapshot_namespace_type(id));
        kind.is_err_and(|error| error.errno() == Some(Errno::ENOENT))
    }

    /// Returns another handle whose list of snapshots does not change. Returns `None` for a
    /// read-only handle, whose list never changes.
    fn settled(&self) -> Result<Option<Image>> {
        if self.read_only { Ok(None) } else { self.open_again().map(Some) }
    }

    /// Makes a call about a user's snapshot.
    pub(crate) fn snapshot_call<T>(
        &self,
        operation: &'static str,
        name: &str,
        call: impl FnOnce(&crate::raw::image::Image, &std::ffi::CStr) -> RawResult<T> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
    {
        let object = || SnapshotRef::Name(name).object(self.spec());
        let c_name = c_string(operation, object, name)?;
        self.bounded_on(operation, object, move |raw| call(raw, &c_name))
    }

    /// Makes a call about a snapshot of any kind.
    pub(crate) fn by_snapshot_id<T, E>(
        &self,
        operation: &'static str,
        id: u64,
        call: impl FnOnce(&crate::raw::image::Image) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<crate::raw::ffi::late::Failure> + Send + 'static,
    {
        self.bounded_on(operation, || SnapshotRef::Id(id).object(self.spec()), call)
    }

    /// Makes a call about a user's snapshot that reports progress.
    pub(crate) fn snapshot_long(
        &self,
        operation: &'static str,
        name: &str,
        progress: Progress<'_>,
        call: impl FnOnce(&crate::raw::image::Image, &std::ffi::CStr, Progress<'_>) -> RawResult<()>
        + Send
        + 'static,
    ) -> Result<()> {
        let object = || SnapshotRef::Name(name).object(self.spec());
        let c_name = c_string(operation, object, name)?;
        self.bounded_long(operation, object, progress, move |raw, progress| call(raw, &c_name, progress))
    }
}
