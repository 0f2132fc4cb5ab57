//! Opening of images.

use std::borrow::Cow;
use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::SnapshotRef;
use super::{Image, Label};
use crate::cluster::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::names::existing_name;
use crate::raw;
use crate::raw::image::open::By;
use crate::raw::image::safeguards::{CACHED, FORGETS, SCHEDULED};
use crate::spec::ImageSpec;

/// Opens an image: see [`IoCtx::open`] and [`Cluster::open`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`, `start` or `await`"]
pub struct OpenImage<'a> {
    ioctx: Cow<'a, IoCtx>,
    by: By,
    name: &'a str,
    snapshot: Option<SnapshotRef<'a>>,
    read_only: bool,
    free_when_full: bool,
}

/// Explains an error of opening without asking the cluster.
pub(crate) fn explain_open(error: Error) -> Error {
    let why = match error.errno() {
        Some(FORGETS) => {
            "turns librbd's cache on with the policy writearound, which forgets a write that \
             fails after its acknowledgement; set rbd_cache_policy to writeback or writethrough \
             there, or remove the override of rbd_cache"
        }
        Some(CACHED) => {
            "turns librbd's cache on, and this connection has an OSD timeout, so a write could be \
             acknowledged and lost; remove the overrides of rbd_cache and \
             rbd_persistent_cache_mode, or connect without the timeout"
        }
        Some(SCHEDULED) => {
            "turns librbd's scheduler of writes on, which can crash this process when the image \
             is closed; remove the override of rbd_io_scheduler"
        }
        _ => return error,
    };
    let detail = format!("the configuration of the image or its pool {why}");
    error.with_kind(ErrorKind::InvalidInput).with_detail(detail)
}

/// A checked request to open an image.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) ioctx: IoCtx,
    pub(crate) by: By,
    pub(crate) name: CString,
    pub(crate) snapshot: Option<CString>,
    pub(crate) read_only: bool,
    label: Label,
}

impl Parts {
    pub(crate) fn image(self, raw: raw::image::Image) -> Image {
        Image::new(raw, self.ioctx, self.label, self.read_only)
    }

    fn open(&self, snapshot: Option<CString>, read_only: bool) -> Result<raw::image::Image> {
        let (ioctx, by, name) = (Arc::clone(self.ioctx.raw()), self.by, self.name.clone());
        let open = move || raw::image::Image::open(ioctx, by, &name, snapshot.as_deref(), read_only);
        self.ioctx.cluster().bounded_call("open", || self.label.object(), open)
    }

    /// Says what is missing after a failed opening. Blocks.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = self.ioctx.explain_pool(error);
        // librbd gives ENOENT for a missing image and a missing snapshot alike.
        let image_is_missing = self.snapshot.is_some()
            && error.errno() == Some(Errno::ENOENT)
            && self.open(None, true).is_err_and(|error| error.errno() == Some(Errno::ENOENT));
        let error = if image_is_missing {
            error.with_kind(ErrorKind::NotFound { what: ObjectKind::Image })
        } else {
            error
        };
        self.ioctx.explain_missing("open an image in", self.by, &self.name.to_string_lossy(), error)
    }
}

impl Cluster {
    /// Opens the pool and namespace of a specification, and returns a builder that opens its image
    /// or snapshot. Fails if the pool does not exist.
    ///
    /// ```no_run
    /// # let cluster = rbd::Cluster::connect()?;
    /// let spec = "volumes/team/foo@monday".parse()?;
    /// let image = cluster.open(&spec)?.read_only(true).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn open<'a>(&self, spec: &'a ImageSpec) -> Result<OpenImage<'a>> {
        let ioctx = self.ioctx(&spec.pool)?;
        let ioctx = if spec.namespace.is_empty() { ioctx } else { ioctx.with_namespace(&spec.namespace)? };
        let snapshot = spec.snapshot.as_deref().map(SnapshotRef::Name);
        Ok(OpenImage { snapshot, ..OpenImage::new(Cow::Owned(ioctx), &spec.image) })
    }
}

impl IoCtx {
    /// Opens an image by its name. `name` is only the image's name: [`ImageSpec`] parses
    /// `pool/namespace/image@snapshot`. In asynchronous code, `await` the builder instead of
    /// calling `run`: see [`OpenImage::start`].
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// let image = ioctx.open("foo").read_only(true).run()?;
    /// println!("{} bytes", image.size()?);
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_open`, `rbd_open_read_only`.
    #[doc(alias = "rbd_open")]
    #[doc(alias = "rbd_open_read_only")]
    pub fn open<'a>(&'a self, name: &'a str) -> OpenImage<'a> {
        OpenImage::new(Cow::Borrowed(self), name)
    }

    /// Opens an image by its id, which a rename does not change.
    ///
    /// Implements: `rbd_open_by_id`, `rbd_open_by_id_read_only`.
    #[doc(alias = "rbd_open_by_id")]
    #[doc(alias = "rbd_open_by_id_read_only")]
    pub fn open_by_id<'a>(&'a self, id: &'a str) -> OpenImage<'a> {
        OpenImage { by: By::Id, ..self.open(id) }
    }
}

impl<'a> OpenImage<'a> {
    fn new(ioctx: Cow<'a, IoCtx>, name: &'a str) -> Self {
        OpenImage { ioctx, by: By::Name, name, snapshot: None, read_only: false, free_when_full: false }
    }

    /// Sets whether to open the image for reading only. Default: off.
    ///
    /// A read-only handle registers no watch, so it does not prevent others from removing the
    /// image, and it keeps the size and the list of snapshots that it read when it was opened. It
    /// reads the data that others write. A user with read capabilities suffices.
    ///
    /// **It does not notice that others remove or shrink the image:** what is gone then reads as
    /// zeros, without an error. [`Image::name`], copies and diffs ask the cluster, and fail if the
    /// image was removed. To learn the current size, open the image again.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether calls that free space work while the pool is over its quota or the cluster is
    /// full: discards, removing snapshots, shrinking. Other changes of the image then fail at once
    /// with [`QuotaExceeded`](crate::ErrorKind::QuotaExceeded) if they need more space; if not,
    /// they can work, for example overwriting data of the image. If off, every change waits
    /// until there is space again. Default: off.
    pub fn free_when_full(mut self, free_when_full: bool) -> Self {
        self.free_when_full = free_when_full;
        self
    }

    /// Opens the image at a snapshot, given by its name or its id. Such an image is read-only. Only
    /// [`run`](Self::run) accepts an id: [`start`](Self::start) and `await` refuse it.
    ///
    /// The handle registers a watch, which needs the capability to write, unless
    /// [`read_only`](Self::read_only) is set, too. With the watch, reads fail with
    /// [`ErrorKind::NotFound`] after the snapshot was removed. Without it, they return zeros: see
    /// [`Image::at_snapshot`].
    pub fn snapshot(mut self, snapshot: impl Into<SnapshotRef<'a>>) -> Self {
        self.snapshot = Some(snapshot.into());
        self
    }

    /// Opens the image. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout). Fails with [`ErrorKind::NotFound`] of an
    /// image, snapshot or namespace if that does not exist.
    pub fn run(mut self) -> Result<Image> {
        let id = match self.snapshot {
            Some(SnapshotRef::Id(id)) => Some(id),
            _ => None,
        };
        if id.is_some() {
            self.snapshot = None;
        }
        let parts = self.check()?;
        let raw = parts
            .open(parts.snapshot.clone(), parts.read_only)
            .map_err(|error| parts.explain(explain_open(error)))?;
        let image = parts.image(raw);
        if let Some(id) = id { image.turn_to(id) } else { Ok(image) }
    }

    /// Returns the arguments for C. Refuses invalid names, and a snapshot's id: librbd opens by
    /// name.
    pub(crate) fn check(&self) -> Result<Parts> {
        let object = || self.object();
        let name = existing_name("open", object, self.name)?;
        let snapshot = match self.snapshot {
            None => None,
            Some(SnapshotRef::Name(name)) => Some(name),
            Some(SnapshotRef::Id(_)) => {
                let why =
                    "only `run`, which blocks, opens a snapshot by its id; use it, or name the snapshot";
                return Err(Error::invalid("open", object(), why));
            }
        };
        let snapshot = snapshot.map(|snapshot| existing_name("open", object, snapshot)).transpose()?;
        let ioctx = if self.free_when_full { self.ioctx.freeing("open")? } else { IoCtx::clone(&self.ioctx) };
        let (by, read_only) = (self.by, self.read_only);
        Ok(Parts { ioctx, by, name, snapshot, read_only, label: self.label() })
    }

    /// Returns the image's name for errors, valid or not.
    pub(crate) fn label(&self) -> Label {
        let snapshot = match self.snapshot {
            None => None,
            Some(SnapshotRef::Name(name)) => Some(name.to_owned()),
            Some(SnapshotRef::Id(id)) => Some(format!("id {id}")),
        };
        let osd_timeout = self.ioctx.cluster().raw().osd_timeout();
        Label { spec: self.ioctx.spec(self.name), pool: self.ioctx.pool().to_owned(), snapshot, osd_timeout }
    }

    fn object(&self) -> Object {
        self.label().object()
    }

    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.ioctx.cluster().raw().call_timeout()
    }
}

impl Image {
    /// Opens the same image again, for reading, at a snapshot given by its name or its id.
    ///
    /// This handle does not change, and both handles can be used. Refused for a handle with
    /// encryption loaded, because the passphrase is not stored.
    ///
    /// **The new handle does not notice that the snapshot is removed:** then its reads return
    /// zeros, without an error. Only copies and diffs fail. If others may remove the snapshot,
    /// [protect](crate::snapshot::Snapshots::protect) it while you read, or open the image with
    /// [`OpenImage::snapshot`], whose reads fail in that case.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let mut now = [0; 4096];
    /// let mut then = [0; 4096];
    /// image.read_exact_at(&mut now, 0)?;
    /// image.at_snapshot("yesterday")?.read_exact_at(&mut then, 0)?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_snap_set_by_id`.
    #[doc(alias = "rbd_snap_set")]
    #[doc(alias = "rbd_snap_set_by_id")]
    pub fn at_snapshot<'a>(&self, snapshot: impl Into<SnapshotRef<'a>>) -> Result<Image> {
        self.refuse_encrypted(
            "open a snapshot of",
            "open the image at the snapshot with `IoCtx::open` and `OpenImage::snapshot`, and \
             load the encryption there",
        )?;
        self.stored_at(snapshot.into())
    }

    /// Opens the same image at a snapshot, without encryption.
    pub(super) fn stored_at(&self, snapshot: SnapshotRef<'_>) -> Result<Image> {
        let image = self.open_again()?;
        let id = match snapshot {
            SnapshotRef::Name(name) => image.snapshots().id(name)?,
            SnapshotRef::Id(id) => id,
        };
        image.turn_to(id)
    }

    /// Opens the same image for reading.
    pub(crate) fn open_again(&self) -> Result<Image> {
        let id = self.id()?;
        let name;
        let open = if id.is_empty() {
            name = self.name()?;
            self.ioctx.open(&name)
        } else {
            self.ioctx.open_by_id(&id)
        };
        let mut image = open.read_only(true).run()?;
        image.set_spec(self.spec());
        Ok(image)
    }

    /// Switches this handle, which no user has yet, to a snapshot.
    pub(crate) fn turn_to(mut self, snapshot: u64) -> Result<Image> {
        let object = || SnapshotRef::Id(snapshot).object(&self.label.spec);
        self.bounded_on("open", object, move |raw| raw.set_snapshot_id(snapshot))?;
        Arc::make_mut(&mut self.label).snapshot = Some(self.snapshots().name(snapshot)?);
        Ok(self)
    }
}
