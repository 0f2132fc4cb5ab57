//! Opening images.

use std::sync::Arc;

use super::Image;
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
    snapshot: Option<&'a str>,
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

    /// Opens it as it was at a snapshot; such an image is read-only.
    pub fn snapshot(mut self, snapshot: &'a str) -> Self {
        self.snapshot = Some(snapshot);
        self
    }

    /// Opens it. Blocks.
    pub fn run(self) -> Result<Image> {
        let (ioctx, object) = (self.ioctx, || self.object());
        let name = c_string("open", object, self.name)?;
        let snapshot = self.snapshot.map(|snapshot| c_string("open", object, snapshot)).transpose()?;
        if self.name.is_empty() || self.snapshot == Some("") {
            return Err(Error::invalid("open", object(), "the name is empty"));
        }
        let open = |snapshot, read_only| {
            raw::image::Image::open(Arc::clone(ioctx.raw()), self.by, &name, snapshot, read_only)
        };
        let raw =
            ioctx.call("open", object, || open(snapshot.as_deref(), self.read_only)).map_err(|error| {
                // librbd gives ENOENT for a missing image and a missing snapshot alike.
                let image_is_missing = snapshot.is_some()
                    && error.errno() == Some(Errno::ENOENT)
                    && open(None, true).is_err_and(|errno| errno == Errno::ENOENT);
                if image_is_missing {
                    error.with_kind(ErrorKind::NotFound { what: ObjectKind::Image })
                } else {
                    error
                }
            })?;
        Ok(Image {
            raw,
            ioctx: ioctx.clone(),
            spec: object().name,
            snapshot: self.snapshot.map(str::to_owned),
            read_only: self.read_only,
        })
    }

    fn object(&self) -> Object {
        let spec = self.ioctx.spec(self.name);
        match self.snapshot {
            Some(snapshot) => Object::new(ObjectKind::Snapshot, format!("{spec}@{snapshot}")),
            None => Object::new(ObjectKind::Image, spec),
        }
    }
}
