//! The trash of a pool, which holds images that can still be restored.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, existing_name, new_name};
use crate::progress::Progress;
use crate::raw::image::open::By;
use crate::raw::ioctx::IoCtx as RawIoCtx;
use crate::raw::ioctx::trash::{self as raw, RawTrashed};
use crate::time::storable_seconds;

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrashEntry {
    /// The image's id, which [`Trash::restore`] and [`Trash::remove`] take.
    pub id: String,
    /// The name that the image had.
    pub name: String,
    /// Who moved the image to the trash.
    pub source: TrashSource,
    /// When the image was moved to the trash.
    pub trashed: SystemTime,
    /// When the image's delay ends. From then on it can be removed without force.
    pub deferred_until: SystemTime,
}

/// Who moved an image to the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrashSource {
    /// A user.
    User,
    /// The mirroring daemon.
    Mirroring,
    /// A migration.
    Migration,
    /// A removal that is in progress or was interrupted.
    Removing,
    /// A user, while the image still had clones.
    UserParent,
    /// A source that this crate does not know.
    Unknown(u32),
}

/// Removes an image from the trash: see [`Trash::remove`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct RemoveTrashed<'a> {
    ioctx: &'a IoCtx,
    id: &'a str,
    force: bool,
    progress: Progress<'a>,
}

/// librbd's error for an image whose move to the trash was interrupted.
pub(super) const MOVING: Errno = Errno::new(libc::EUCLEAN);

const MIGRATING: &str = "it is being migrated; commit or abort the migration first";

/// The trash of a pool or namespace: see [`IoCtx::trash`].
#[derive(Debug, Clone, Copy)]
pub struct Trash<'a>(pub(super) &'a IoCtx);

/// Moves an image to the trash: see [`Trash::add`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct AddToTrash<'a> {
    ioctx: &'a IoCtx,
    name: &'a str,
    delay: Duration,
}

/// Restores an image from the trash: see [`Trash::restore`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct RestoreTrashed<'a> {
    ioctx: &'a IoCtx,
    id: &'a str,
    name: Option<&'a str>,
}

impl IoCtx {
    /// Returns the group of calls that move images to the trash, list and restore them, and remove
    /// them for good.
    pub fn trash(&self) -> Trash<'_> {
        Trash(self)
    }

    fn trashed(&self, id: &str) -> Object {
        Object::new(ObjectKind::TrashedImage, self.spec(id))
    }
}

impl<'a> Trash<'a> {
    /// Moves an image to the trash. The image may be open. Its snapshots and clones stay.
    ///
    /// **If the image is mirrored, its mirroring ends, and the mirroring daemon removes the copy in
    /// the other cluster.** Restoring the image enables mirroring again only in pool mode: then the
    /// other cluster gets a new copy.
    ///
    /// Fails with [`ErrorKind::Busy`] if another handle keeps the exclusive lock
    /// ([`ExclusiveLock::acquire`](crate::lock::ExclusiveLock::acquire)). The error names that
    /// client. With newer releases of Ceph, such as 20.2, fails with the same kind if the image is
    /// in a group. Fails, too, while the image is being migrated, or if it has the old format 1.
    ///
    /// Implements: `rbd_trash_move`.
    #[doc(alias = "rbd_trash_move")]
    pub fn add(&self, name: &'a str) -> AddToTrash<'a> {
        AddToTrash { ioctx: self.0, name, delay: Duration::ZERO }
    }

    /// Lists the images in the trash, sorted by name.
    ///
    /// Implements: `rbd_trash_list`.
    #[doc(alias = "rbd_trash_list")]
    pub fn list(&self) -> Result<Vec<TrashEntry>> {
        let entries =
            self.0.bounded("list the trash of", || self.0.pool_object(), move |raw| raw.trash_list())?;
        if entries.is_empty() {
            self.0.check_namespace("list the trash of")?;
        }
        let mut entries: Vec<TrashEntry> = entries.into_iter().map(entry).collect();
        entries.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(entries)
    }

    /// Returns one image in the trash, by its id.
    ///
    /// Implements: `rbd_trash_get`.
    #[doc(alias = "rbd_trash_get")]
    pub fn get(&self, id: &str) -> Result<TrashEntry> {
        let c_id = c_string("look up", || self.0.trashed(id), id)?;
        self.0.bounded("look up", || self.0.trashed(id), move |raw| raw.trash_get(&c_id)).map(entry)
    }

    /// Restores an image from the trash, under its old name unless a [new
    /// name](RestoreTrashed::name) is given.
    ///
    /// Implements: `rbd_trash_restore`.
    #[doc(alias = "rbd_trash_restore")]
    pub fn restore(&self, id: &'a str) -> RestoreTrashed<'a> {
        RestoreTrashed { ioctx: self.0, id, name: None }
    }

    /// Removes an image from the trash for good, by its id. Fails with [`ErrorKind::Busy`] until
    /// the delay of the image has expired, unless [forced](RemoveTrashed::force).
    ///
    /// Implements: `rbd_trash_remove_with_progress`.
    #[doc(alias = "rbd_trash_remove")]
    #[doc(alias = "rbd_trash_remove_with_progress")]
    pub fn remove(&self, id: &'a str) -> RemoveTrashed<'a> {
        RemoveTrashed { ioctx: self.0, id, force: false, progress: Progress::default() }
    }
}

impl AddToTrash<'_> {
    /// Sets how long the image cannot be removed without force, in whole seconds. Default: 0. Ceph
    /// stores times up to the year 2106: a longer delay ends in that year.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Moves the image. Blocks.
    pub fn run(self) -> Result<()> {
        let AddToTrash { ioctx, name, delay } = self;
        let object = || ioctx.image_object(name);
        let c_name = existing_name("trash", object, name)?;
        // librbd allows it when the migration is executed: then a purge could remove the only image
        // with a name.
        if ioctx.is_migrating(name) {
            return Err(Error::new("trash", object(), Errno::EBUSY).with_detail(MIGRATING));
        }
        ioctx
            .freeing("trash an image in")?
            .bounded("trash", object, move |raw| raw.trash_move(&c_name, storable_seconds(delay).into()))
            .map_err(|error| match error.errno() {
                Some(Errno::EBUSY) => ioctx.with_lock_owner(name, error),
                Some(Errno::EMLINK) => ioctx.with_group(name, error),
                _ => ioctx.explain_missing("trash an image in", By::Name, name, error),
            })
    }
}

impl<'a> RestoreTrashed<'a> {
    /// Sets a new name for the image. Default: its old name.
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = Some(name);
        self
    }

    /// Restores the image. Blocks.
    pub fn run(self) -> Result<()> {
        let RestoreTrashed { ioctx, id, name } = self;
        let object = || ioctx.trashed(id);
        let c_id = c_string("restore", object, id)?;
        let c_name = match name {
            Some(name) => new_name("restore", object, name)?,
            None => c"".into(),
        };
        ioctx.bounded("restore", object, move |raw| raw.trash_restore(&c_id, &c_name)).map_err(|error| {
            if !error.is_already_exists() {
                return error;
            }
            let taken =
                name.map_or_else(|| "of its old name".into(), |name| format!("'{}'", ioctx.spec(name)));
            error.with_detail(format!(
                "an image {taken} already exists; restore it under another name with `RestoreTrashed::name`"
            ))
        })
    }
}

impl<'a> RemoveTrashed<'a> {
    /// Sets whether to remove the image before its delay has expired. Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Calls back with the objects removed so far and their total. A break stops the removal with
    /// [`ErrorKind::Stopped`].
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Removes the image. Blocks.
    pub fn run(self) -> Result<()> {
        let RemoveTrashed { ioctx, id, force, progress } = self;
        let object = || ioctx.trashed(id);
        let c_id = c_string("remove", object, id)?;
        let remove = move |raw: &RawIoCtx, progress: Progress<'_>| raw.trash_remove(&c_id, force, progress);
        let freeing = ioctx.freeing("remove a trashed image in")?;
        freeing.bounded_long("remove", object, progress, remove).map_err(|error| {
            let Some(errno @ (Errno::EPERM | MOVING)) = error.errno() else {
                return explain_kept(ioctx, id, error);
            };
            let Ok(entry) = ioctx.trash().get(id) else { return error };
            if errno == MOVING {
                return error.with_detail(format!(
                    "its move to the trash was interrupted; finish the move with `trash().add(\"{}\")`, and \
                     then remove it",
                    entry.name
                ));
            }
            // librbd returns EPERM for an image whose delay has not expired.
            if force || entry.deferred_until <= SystemTime::now() {
                return error;
            }
            error
                .with_kind(ErrorKind::Busy { holders: Vec::new() })
                .with_detail("its delay in the trash has not expired; wait, or remove it with force")
        })
    }
}

/// Adds what keeps an image in the trash: the clients that watch it, its snapshots, its clones,
/// or its group. Other errors stay unchanged.
pub(super) fn explain_kept(ioctx: &IoCtx, id: &str, error: Error) -> Error {
    if !matches!(error.errno(), Some(Errno::EBUSY | Errno::ENOTEMPTY | Errno::EMLINK)) {
        return error;
    }
    // A handle opened for writing would itself be among the watchers.
    let Ok(image) = ioctx.open_by_id(id).read_only(true).run() else { return error };
    match error.errno() {
        Some(Errno::EBUSY) => image.with_watchers(error),
        Some(Errno::EMLINK) => image.with_group(error),
        _ => image.with_snapshots(error, "open it with `IoCtx::open_by_id` and remove them first"),
    }
}

fn entry(raw: RawTrashed) -> TrashEntry {
    TrashEntry {
        id: raw.id,
        name: raw.name,
        source: match raw.source {
            raw::RBD_TRASH_IMAGE_SOURCE_USER => TrashSource::User,
            raw::RBD_TRASH_IMAGE_SOURCE_MIRRORING => TrashSource::Mirroring,
            raw::RBD_TRASH_IMAGE_SOURCE_MIGRATION => TrashSource::Migration,
            raw::RBD_TRASH_IMAGE_SOURCE_REMOVING => TrashSource::Removing,
            raw::RBD_TRASH_IMAGE_SOURCE_USER_PARENT => TrashSource::UserParent,
            other => TrashSource::Unknown(other.0),
        },
        trashed: time(raw.deleted),
        deferred_until: time(raw.deferred_until),
    }
}

/// Returns a time in seconds since 1970. A time that this system cannot represent becomes the year
/// 9999.
fn time(seconds: i64) -> SystemTime {
    const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);
    let since = Duration::from_secs(seconds.max(0).unsigned_abs()).min(YEAR_9999);
    SystemTime::UNIX_EPOCH + since
}
