//! The snapshots of an image: what they are, how they are named and found.

use std::time::SystemTime;

use super::Image;
use super::info::system_time;
use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::c_string;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::image::snapshot::RawSnapshot;

/// Names a snapshot of an image: by its name, or by its id, which a rename does not change.
///
/// Made from a `&str` or a `u64`, so both can be given where one is taken:
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let yesterday = image.at_snapshot("yesterday")?;
/// let same = image.at_snapshot(image.snapshots().id("yesterday")?)?;
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotRef<'a> {
    /// A snapshot made by a user, by its name.
    Name(&'a str),
    /// Any snapshot, by its id; those of groups, of the trash and of mirroring can be named so
    /// only.
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
    /// `rbd/foo@snap`; with an id `rbd/foo@id 12`.
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
    /// Its id, unique in the pool; a rename does not change it.
    pub id: u64,
    /// Its name. Those that are not a user's have names made up by Ceph.
    pub name: String,
    /// The size of the image at that time, in bytes; without the header, for a handle with
    /// encryption loaded.
    pub size: u64,
    /// When it was taken.
    pub created: SystemTime,
    /// Whether it is protected from removal, as clones of format 1 need it.
    pub protected: bool,
    /// What it belongs to.
    pub namespace: SnapshotNamespace,
}

/// The kinds of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotKind {
    /// Made by a user.
    User,
    /// Part of a snapshot of a group.
    Group,
    /// Removed, but kept while clones need it.
    Trash,
    /// Made by mirroring.
    Mirror,
    /// Of a kind that this crate does not know.
    Unknown(u32),
}

/// What a snapshot belongs to, with what Ceph keeps about that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotNamespace {
    /// A user made it; it has a name of the user's.
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
        /// Its name before.
        original_name: String,
        /// Its kind before; `None` where the loaded library cannot tell (older than Ceph 20.2).
        original_kind: Option<SnapshotKind>,
    },
    /// Made by mirroring.
    Mirror(MirrorSnapshot),
    /// Of a kind that this crate does not know.
    Unknown(u32),
}

/// What mirroring keeps with a snapshot of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorSnapshot {
    /// On which side it was made, and whether that side was demoted by it.
    pub state: MirrorSnapshotState,
    /// On the primary side: the peers that have not fetched it yet. On the other: empty.
    pub peers: Vec<String>,
    /// On the side that is not primary: whether it is copied whole.
    pub complete: bool,
    /// On the side that is not primary: the UUID of the primary cluster's mirroring.
    pub primary_mirror_uuid: String,
    /// On the side that is not primary: the id of the snapshot there.
    pub primary_snapshot_id: u64,
    /// On the side that is not primary: how many objects are copied.
    pub copied_objects: u64,
}

/// On which side a mirror snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum MirrorSnapshotState {
    Primary,
    PrimaryDemoted,
    NonPrimary,
    NonPrimaryDemoted,
    Unknown(u32),
}

impl SnapshotNamespace {
    /// The kind alone.
    pub fn kind(&self) -> SnapshotKind {
        match self {
            SnapshotNamespace::User => SnapshotKind::User,
            SnapshotNamespace::Group { .. } => SnapshotKind::Group,
            SnapshotNamespace::Trash { .. } => SnapshotKind::Trash,
            SnapshotNamespace::Mirror(_) => SnapshotKind::Mirror,
            SnapshotNamespace::Unknown(kind) => SnapshotKind::Unknown(*kind),
        }
    }
}

/// The snapshots of an image: see [`Image::snapshots`].
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a>(pub(super) &'a Image);

impl Image {
    /// Creates, lists and removes the snapshots of this image, and rolls back to them.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots(self)
    }
}

impl Snapshots<'_> {
    /// Lists the snapshots, oldest first, of every kind: see [`Snapshot::namespace`].
    ///
    /// Opens the image once more for it. A read-only handle lists the snapshots that existed when
    /// it was opened.
    ///
    /// Implements: `rbd_snap_list`.
    #[doc(alias = "rbd_snap_list")]
    pub fn list(&self) -> Result<Vec<Snapshot>> {
        let settled = self.0.settled()?;
        let image = settled.as_ref().unwrap_or(self.0);
        let header = self.0.header_size()?;
        let mut snapshots = Vec::new();
        for raw in image.bounded("list the snapshots of", move |raw| raw.snapshots())? {
            let id = raw.id;
            match image.snapshots().details(raw) {
                Ok(mut snapshot) => {
                    snapshot.size = snapshot.size.saturating_sub(header);
                    snapshots.push(snapshot);
                }
                // Removed meanwhile? Only then it may be left out.
                Err(error) if error.is_not_found() && self.0.is_gone(id) => {}
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_unstable_by_key(|snapshot| snapshot.id);
        Ok(snapshots)
    }

    fn details(self, raw: RawSnapshot) -> Result<Snapshot> {
        let namespace = self.namespace(raw.id)?;
        let user = namespace == SnapshotNamespace::User;
        Ok(Snapshot {
            protected: user && self.is_protected(&raw.name)?,
            created: self.created(raw.id)?,
            namespace,
            id: raw.id,
            name: raw.name,
            size: raw.size,
        })
    }

    /// Returns whether a snapshot of that name exists. Looks at the snapshots of users only.
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

    /// Returns when a snapshot was taken. Opens the image once more for it, unless the handle is
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
            Error::invalid("read the time of", object, "the time does not exist in this system")
        })
    }
}

impl Image {
    fn is_gone(&self, id: u64) -> bool {
        let kind = self.by_snapshot_id("look up", id, move |raw| raw.snapshot_namespace_type(id));
        kind.is_err_and(|error| error.errno() == Some(Errno::ENOENT))
    }

    /// Another handle whose list of snapshots does not change, unless this one is such a handle:
    /// those that are read-only are, as nobody tells them of changes.
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
        E: Into<crate::raw::ffi::weak::Failure> + Send + 'static,
    {
        self.bounded_on(operation, || SnapshotRef::Id(id).object(self.spec()), call)
    }

    /// Makes a call about a user's snapshot that tells how far it is.
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
