//! Creating, removing, renaming, protecting and rolling back snapshots.

use std::ffi::CStr;
use std::ops::ControlFlow;

use super::{Snapshot, SnapshotKind, SnapshotRef, Snapshots};
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::features::Features;
use crate::image::Image;
use crate::names::new_name;
use crate::progress::{LongOperation, Progress};
use crate::raw::image::Image as RawImage;
use crate::raw::image::snapshot::RawQuiesce;

/// Creates a snapshot: see [`Snapshots::create`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct CreateSnapshot<'a> {
    image: &'a Image,
    name: &'a str,
    quiesce: RawQuiesce,
    progress: Progress<'a>,
}

/// Removes a snapshot: see [`Snapshots::remove`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct RemoveSnapshot<'a> {
    image: &'a Image,
    name: &'a str,
    flatten: bool,
    unprotect: bool,
    progress: Progress<'a>,
}

impl<'a> Snapshots<'a> {
    /// Creates a snapshot of the image. It contains all writes that completed before.
    ///
    /// Fails with [`ErrorKind::QuotaExceeded`] if the [limit](Self::limit) is reached.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// image.snapshots().create("before-upgrade").run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_snap_create2`.
    #[doc(alias = "rbd_snap_create")]
    #[doc(alias = "rbd_snap_create2")]
    pub fn create(&self, name: &'a str) -> CreateSnapshot<'a> {
        CreateSnapshot { image: self.0, name, quiesce: RawQuiesce::default(), progress: Progress::default() }
    }

    /// Removes a user's snapshot. A snapshot that clones of format 2 still need moves to the
    /// image's trash, and is removed with the last of these clones. A protected snapshot is refused
    /// with [`ErrorKind::Busy`].
    ///
    /// Implements: `rbd_snap_remove2`.
    #[doc(alias = "rbd_snap_remove")]
    #[doc(alias = "rbd_snap_remove2")]
    pub fn remove(&self, name: &'a str) -> RemoveSnapshot<'a> {
        RemoveSnapshot {
            image: self.0,
            name,
            flatten: false,
            unprotect: false,
            progress: Progress::default(),
        }
    }

    /// Removes a snapshot of any kind.
    ///
    /// Implements: `rbd_snap_remove_by_id`.
    #[doc(alias = "rbd_snap_remove_by_id")]
    pub fn remove_by_id(&self, id: u64) -> Result<()> {
        self.0.by_snapshot_id("remove", id, move |raw| raw.snapshot_remove_by_id(id))
    }

    /// Renames a user's snapshot.
    ///
    /// Implements: `rbd_snap_rename`.
    #[doc(alias = "rbd_snap_rename")]
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let c_to = new_name("rename", || SnapshotRef::Name(from).object(self.0.spec()), to)?;
        self.0.snapshot_call("rename", from, move |raw, from| raw.snapshot_rename(from, &c_to)).map_err(
            |error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    error.with_detail(format!("a snapshot '{to}' of it already exists; choose another name"))
                }
                _ => error,
            },
        )
    }

    /// Protects a user's snapshot from removal. Clones of format 1 need this; clones of format 2 do
    /// not.
    ///
    /// Implements: `rbd_snap_protect`.
    #[doc(alias = "rbd_snap_protect")]
    pub fn protect(&self, name: &str) -> Result<()> {
        self.0.snapshot_call("protect", name, move |raw, name| raw.snapshot_protect(name)).map_err(|error| {
            match error.errno() {
                Some(Errno::EBUSY) if matches!(self.is_protected(name), Ok(true)) => {
                    error.with_detail("it is already protected")
                }
                _ => error,
            }
        })
    }

    /// Removes the protection. Fails with [`ErrorKind::HasClones`] while the snapshot has clones,
    /// and names them.
    ///
    /// Implements: `rbd_snap_unprotect`.
    #[doc(alias = "rbd_snap_unprotect")]
    pub fn unprotect(&self, name: &str) -> Result<()> {
        self.0.snapshot_call("unprotect", name, move |raw, name| raw.snapshot_unprotect(name)).map_err(
            |error| match error.errno() {
                Some(Errno::EBUSY) => self.0.with_clones(error, Some(name)),
                Some(Errno::EINVAL) if matches!(self.is_protected(name), Ok(false)) => {
                    error.with_detail("it is not protected")
                }
                _ => error,
            },
        )
    }

    /// Returns whether a user's snapshot is protected.
    ///
    /// Implements: `rbd_snap_is_protected`.
    #[doc(alias = "rbd_snap_is_protected")]
    pub fn is_protected(&self, name: &str) -> Result<bool> {
        self.0.snapshot_call("look up", name, move |raw, name| raw.snapshot_is_protected(name))
    }

    /// Returns how many snapshots the image may have; `None` means no limit. Asks the cluster.
    ///
    /// Implements: `rbd_snap_get_limit`.
    #[doc(alias = "rbd_snap_get_limit")]
    pub fn limit(&self) -> Result<Option<u64>> {
        let limit = self.0.bounded("read the snapshot limit of", move |raw| raw.snapshot_limit())?;
        Ok((limit != u64::MAX).then_some(limit))
    }

    /// Limits the number of snapshots; `None` removes the limit. Fails if the image has more
    /// snapshots.
    ///
    /// Implements: `rbd_snap_set_limit`.
    #[doc(alias = "rbd_snap_set_limit")]
    pub fn set_limit(&self, limit: impl Into<Option<u64>>) -> Result<()> {
        let limit = limit.into();
        let set = move |raw: &crate::raw::image::Image| raw.snapshot_set_limit(limit.unwrap_or(u64::MAX));
        self.0.bounded("limit the snapshots of", set).map_err(|error| {
            if error.errno() != Some(Errno::ERANGE) {
                return error;
            }
            let Ok(snapshots) = self.list() else { return error };
            let why =
                format!("it has {} snapshots; remove some first, or set a higher limit", snapshots.len());
            error.with_kind(ErrorKind::InvalidInput).with_detail(why)
        })
    }

    /// Rolls the image back to a user's snapshot, including its size. Data written since is lost.
    ///
    /// The call then rebuilds the object map, because the snapshot's map lacks the changes of the
    /// rollback. Refused with encryption loaded if the snapshot has another encryption header.
    ///
    /// A rollback takes long, because it visits every object; a clone of the snapshot is usable at
    /// once. A rollback that fails or is stopped by its progress callback leaves a mixture of both
    /// versions: roll back again.
    ///
    /// Implements: `rbd_snap_rollback_with_progress`.
    #[doc(alias = "rbd_snap_rollback")]
    #[doc(alias = "rbd_snap_rollback_with_progress")]
    pub fn rollback(&self, name: &'a str) -> LongOperation<'a> {
        let image = self.0;
        LongOperation::new(move |progress| {
            let operation = "roll back to";
            if image.is_encrypted() && !image.is_read_only() {
                let object = || SnapshotRef::Name(name).object(image.spec());
                let then = image.stored_at(SnapshotRef::Name(name))?.stored_header()?;
                if then != image.as_stored()?.stored_header()? {
                    let why = "the snapshot has another encryption header than this handle; roll back \
                               on a handle without encryption";
                    return Err(Error::invalid(operation, object(), why).with_kind(ErrorKind::NotSupported));
                }
            }
            image.snapshot_long(operation, name, progress, |raw, name, progress| {
                raw.snapshot_rollback(name, progress)
            })?;
            image.settle_object_map()
        })
    }
}

impl Image {
    /// Rebuilds the object map after a rollback.
    ///
    /// librbd copies the snapshot's map, which marks objects as unchanged that the rollback
    /// changed. A fast diff from a later snapshot would miss them.
    pub(crate) fn settle_object_map(&self) -> Result<()> {
        if !self.features()?.contains(Features::FAST_DIFF) {
            return Ok(());
        }
        self.object_map()
            .rebuild()
            .run()
            .map_err(|error| error.and("it is rolled back; rebuild its object map before you use fast-diff"))
    }
}

impl<'a> CreateSnapshot<'a> {
    /// Sets whether to skip the [quiesce watches](Image::watch_quiesce) of the image. Default: off.
    pub fn skip_quiesce(mut self, skip_quiesce: bool) -> Self {
        self.quiesce.skip = skip_quiesce;
        self
    }

    /// Sets whether to create the snapshot even if a quiesce watch fails. Default: off.
    pub fn ignore_quiesce_error(mut self, ignore_quiesce_error: bool) -> Self {
        self.quiesce.ignore_error = ignore_quiesce_error;
        self
    }

    /// Calls back while clients pause their writes, with the attempts so far and the largest number
    /// of attempts.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Creates the snapshot. Blocks until it exists; before that, the image's quiesce watches have
    /// answered.
    pub fn run(self) -> Result<()> {
        let CreateSnapshot { image, name, quiesce, progress } = self;
        new_name("create", || SnapshotRef::Name(name).object(image.spec()), name)?;
        let create = move |raw: &RawImage, name: &CStr, progress: Progress<'_>| {
            raw.snapshot_create(name, quiesce, progress)
        };
        image.snapshot_long("create", name, progress, create).map_err(|error| {
            // Other errors are not asked about: after a timeout, this would wait again.
            if error.errno() != Some(Errno::EDQUOT) {
                return error;
            }
            match image.bounded("read the snapshot limit of", move |raw| raw.snapshot_limit()) {
                Ok(limit) => error.with_detail(format!(
                    "the image has reached its limit of {limit} snapshots; remove some or raise the limit"
                )),
                Err(_) => error,
            }
        })
    }
}

impl<'a> RemoveSnapshot<'a> {
    /// Sets whether to flatten the clones first, so that the snapshot does not stay in the trash.
    /// Default: off.
    ///
    /// If another client owns the exclusive lock of a clone, that client flattens the clone. librbd
    /// can lose its answer on a busy machine, and the removal times out. Call it again then.
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.flatten = flatten;
        self
    }

    /// Sets whether to remove the snapshot's protection first. Default: off.
    pub fn unprotect(mut self, unprotect: bool) -> Self {
        self.unprotect = unprotect;
        self
    }

    /// Calls back with the objects flattened so far and their total. A break stops the removal with
    /// [`ErrorKind::Stopped`].
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Removes the snapshot. Blocks. The OSDs free the space later.
    pub fn run(self) -> Result<()> {
        let RemoveSnapshot { image, name, flatten, unprotect, progress } = self;
        let call = move |raw: &RawImage, name: &CStr, progress: Progress<'_>| {
            raw.snapshot_remove(name, flatten, unprotect, progress)
        };
        image.snapshot_long("remove", name, progress, call).map_err(|error| image.explain_remove(error, name))
    }
}

impl Image {
    fn explain_remove(&self, error: Error, snapshot: &str) -> Error {
        if error.errno() != Some(Errno::EBUSY) {
            return error;
        }
        match self.snapshots().is_protected(snapshot) {
            Ok(true) => error
                .with_detail("it is protected; unprotect it first, or set `unprotect(true)` on the removal"),
            _ => self.with_clones(error, Some(snapshot)),
        }
    }

    /// Adds the names of the snapshots that prevent a removal, or of the clones that keep them.
    /// `advice` says how to remove the snapshots.
    pub(crate) fn with_snapshots(&self, error: Error, advice: &str) -> Error {
        let Ok(snapshots) = self.snapshots().list() else { return error };
        let kept = |snapshot: &&Snapshot| snapshot.origin.kind() != SnapshotKind::Trash;
        let name = |snapshot: &Snapshot| {
            let note = if snapshot.protected { " (protected)" } else { "" };
            format!("{}{note}", snapshot.name)
        };
        let names: Vec<String> = snapshots.iter().filter(kept).map(name).collect();
        if names.is_empty() {
            // The snapshots are removed, but clones still need them.
            return self.with_clones(error, None);
        }
        let shown = names[..names.len().min(5)].join(", ");
        let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        error.with_detail(format!("it has snapshots: {shown}{more}; {advice}"))
    }
}
