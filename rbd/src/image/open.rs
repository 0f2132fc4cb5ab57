//! Opening images.

use std::sync::Arc;

use super::Image;
use super::snapshot::SnapshotRef;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::names::c_string;
use crate::raw;
use crate::raw::image::By;

/// Opens an image: see [`IoCtx::open`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct OpenImage<'a> {
    ioctx: &'a IoCtx,
    by: By,
    name: &'a str,
    snapshot: Option<SnapshotRef<'a>>,
    read_only: bool,
}

impl IoCtx {
    /// Opens an image by its name.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// let image = ioctx.open("foo").read_only().run()?;
    /// println!("{} bytes", image.size()?);
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_open`, `rbd_open_read_only`.
    #[doc(alias = "rbd_open")]
    #[doc(alias = "rbd_open_read_only")]
    pub fn open<'a>(&'a self, name: &'a str) -> OpenImage<'a> {
        OpenImage { ioctx: self, by: By::Name, name, snapshot: None, read_only: false }
    }

    /// Opens an image by its id, which stays when it is renamed.
    ///
    /// Implements: `rbd_open_by_id`, `rbd_open_by_id_read_only`.
    #[doc(alias = "rbd_open_by_id")]
    #[doc(alias = "rbd_open_by_id_read_only")]
    pub fn open_by_id<'a>(&'a self, id: &'a str) -> OpenImage<'a> {
        OpenImage { by: By::Id, ..self.open(id) }
    }
}

impl<'a> OpenImage<'a> {
    /// Opens it for reading only: no watch is registered, so nobody is kept from removing it, and a user with read
    /// capabilities suffices. For inspection this is the right way.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Opens it as it was at a snapshot, given by its name or its id; such an image is read-only.
    ///
    /// Implements: `rbd_snap_set_by_id`.
    #[doc(alias = "rbd_snap_set")]
    #[doc(alias = "rbd_snap_set_by_id")]
    pub fn snapshot(mut self, snapshot: impl Into<SnapshotRef<'a>>) -> Self {
        self.snapshot = Some(snapshot.into());
        self
    }

    /// Opens it. Blocks.
    pub fn run(self) -> Result<Image> {
        let (ioctx, object) = (self.ioctx, || self.object());
        let name = c_string("open", object, self.name)?;
        if self.name.is_empty() || self.snapshot == Some(SnapshotRef::Name("")) {
            return Err(Error::invalid("open", object(), "the name is empty"));
        }
        let open = |snapshot, read_only| {
            raw::image::Image::open(Arc::clone(ioctx.raw()), self.by, &name, snapshot, read_only)
        };
        let (raw, snapshot) = match self.snapshot {
            None => (ioctx.call("open", object, || open(None, self.read_only))?, None),
            Some(SnapshotRef::Name(snapshot)) => {
                let c_snapshot = c_string("open", object, snapshot)?;
                let opened = ioctx.call("open", object, || open(Some(&c_snapshot), self.read_only));
                let opened = opened.map_err(|error| {
                    // librbd gives ENOENT for a missing image and a missing snapshot alike.
                    let image_is_missing = error.errno() == Some(Errno::ENOENT)
                        && open(None, true).is_err_and(|errno| errno == Errno::ENOENT);
                    if image_is_missing {
                        error.with_kind(ErrorKind::NotFound { what: ObjectKind::Image })
                    } else {
                        error
                    }
                })?;
                (opened, Some(snapshot.to_owned()))
            }
            Some(SnapshotRef::Id(id)) => {
                return OpenImage { snapshot: None, ..self }.run()?.turn_to(id);
            }
        };
        let spec = ioctx.spec(self.name);
        Ok(Image { raw, ioctx: ioctx.clone(), spec, snapshot, read_only: self.read_only })
    }

    fn object(&self) -> Object {
        let spec = self.ioctx.spec(self.name);
        match self.snapshot {
            Some(snapshot) => snapshot.object(&spec),
            None => Object::new(ObjectKind::Image, spec),
        }
    }
}

impl Image {
    /// Opens the same image once more, for reading, at a snapshot given by its name or its id.
    ///
    /// A handle never changes what it shows: who reads from this one meanwhile is not disturbed, and both can be used.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let mut now = [0; 4096];
    /// let mut then = [0; 4096];
    /// image.read_exact_at(&mut now, 0)?;
    /// image.at_snapshot("yesterday")?.read_exact_at(&mut then, 0)?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    #[doc(alias = "rbd_snap_set")]
    #[doc(alias = "rbd_snap_set_by_id")]
    pub fn at_snapshot<'a>(&self, snapshot: impl Into<SnapshotRef<'a>>) -> Result<Image> {
        let snapshot = snapshot.into();
        let image = self.open_again()?;
        let id = match snapshot {
            SnapshotRef::Name(name) => image.snapshot_id(name)?,
            SnapshotRef::Id(id) => id,
        };
        image.turn_to(id)
    }

    /// The same image, opened for reading.
    pub(crate) fn open_again(&self) -> Result<Image> {
        let id = self.id()?;
        let name;
        let open = if id.is_empty() {
            name = self.name()?;
            self.ioctx.open(&name)
        } else {
            self.ioctx.open_by_id(&id)
        };
        let mut image = open.read_only().run()?;
        image.spec.clone_from(&self.spec);
        Ok(image)
    }

    /// This handle, which nobody else has yet, at a snapshot. Later it never changes what it shows.
    pub(crate) fn turn_to(mut self, snapshot: u64) -> Result<Image> {
        let object = || SnapshotRef::Id(snapshot).object(&self.spec);
        let raw = &mut self.raw;
        self.ioctx.call("open", object, || raw.set_snapshot_id(snapshot))?;
        self.snapshot = Some(self.snapshot_name(snapshot)?);
        Ok(self)
    }
}
