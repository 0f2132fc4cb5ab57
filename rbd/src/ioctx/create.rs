//! Creation of images.

use super::IoCtx;
use super::new_image::{NewImage, check_size, new_image_setters};
use crate::error::{Error, Result};
use crate::names::new_name;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// Creates an image: see [`IoCtx::create`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct CreateImage<'a> {
    ioctx: &'a IoCtx,
    name: &'a str,
    size: u64,
    new: NewImage<'a>,
}

impl IoCtx {
    /// Creates an image of a size in bytes. Options that are not set follow the configuration
    /// (`rbd_default_…`).
    ///
    /// Blocks. In asynchronous code, use `ioctx.unblock(|ioctx| ioctx.create("foo", 1 <<
    /// 30).run()).await`.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// ioctx.create("foo", 1 << 30).features(rbd::Features::LAYERING).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_create4`.
    #[doc(alias = "rbd_create")]
    #[doc(alias = "rbd_create2")]
    #[doc(alias = "rbd_create3")]
    #[doc(alias = "rbd_create4")]
    pub fn create<'a>(&'a self, name: &'a str, size: u64) -> CreateImage<'a> {
        CreateImage { ioctx: self, name, size, new: NewImage::default() }
    }
}

impl<'a> CreateImage<'a> {
    new_image_setters!();

    /// Creates the image. Blocks.
    pub fn run(self) -> Result<()> {
        let object = || self.ioctx.image_object(self.name);
        let name = new_name("create", object, self.name)?;
        check_size("create", object, self.size)?;
        self.new.check_parameters().map_err(|why| Error::invalid("create", object(), why))?;
        self.new.check_striping(self.ioctx).map_err(|why| Error::invalid("create", object(), why))?;
        let options = self.new.options("create", object)?;
        let size = self.size;
        let create = move |raw: &RawIoCtx| raw.create(&name, size, &options);
        self.ioctx.bounded("create", object, create).map_err(|error| self.new.explain(self.ioctx, error))
    }
}
