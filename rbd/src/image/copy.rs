//! Copies of images.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Image;
use super::clone::CloneFormat;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::features::{Features, OpFeatures};
use crate::ioctx::IoCtx;
use crate::ioctx::new_image::{NewImage, new_image_setters};
use crate::names::new_name;
use crate::progress::{LongOperation, Progress};
use crate::raw::image::Image as RawImage;

/// Copies an image's data into a new image: see [`Image::copy_to`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct CopyImage<'a> {
    image: &'a Image,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
    sparse_size: u64,
    progress: Progress<'a>,
}

/// Copies an image with its snapshots: see [`Image::deep_copy_to`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct DeepCopyImage<'a> {
    image: &'a Image,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
    progress: Progress<'a>,
}

/// librbd would write decrypted data into an image that is not encrypted.
const COPY_STORED: &str = "open the image again without encryption and copy that handle; the copy \
    is then encrypted with the same key";

/// The length of runs of zeros that are not written; librbd has the same default.
const SPARSE_SIZE: u64 = 4096;

impl Image {
    /// Copies the image's data, or that of the snapshot it is opened at, into a new image in any
    /// pool or namespace. Copies no snapshots. The copy of a clone contains the parent's data and
    /// is no clone.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// let yesterday = ioctx.open("foo").snapshot("yesterday").run()?;
    /// yesterday.copy_to(&ioctx, "foo-yesterday").run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_copy_with_progress4`.
    #[doc(alias = "rbd_copy")]
    #[doc(alias = "rbd_copy3")]
    #[doc(alias = "rbd_copy4")]
    #[doc(alias = "rbd_copy_with_progress4")]
    pub fn copy_to<'a>(&'a self, ioctx: &'a IoCtx, name: &'a str) -> CopyImage<'a> {
        CopyImage {
            image: self,
            ioctx,
            name,
            new: NewImage::default(),
            sparse_size: SPARSE_SIZE,
            progress: Progress::default(),
        }
    }

    /// Copies the image's data over another open image, which must not be smaller. Data beyond the
    /// copied range stays unchanged. Refused if the target is the same image, through any handle; a
    /// snapshot may be copied over its own image.
    ///
    /// The target range is zeroed first, because librbd does not write zeros. A break of the
    /// progress callback ends only the reports: librbd continues to copy.
    ///
    /// Implements: `rbd_copy_with_progress2`.
    #[doc(alias = "rbd_copy2")]
    #[doc(alias = "rbd_copy_with_progress2")]
    pub fn copy_over<'a>(&'a self, to: &'a Image) -> LongOperation<'a> {
        LongOperation::new(move |progress| {
            self.refuse_encrypted("copy", COPY_STORED)?;
            to.refuse_encrypted(
                "copy over",
                "open the target again without encryption and copy over that handle",
            )?;
            let (from, into) = (self.size()?, to.size()?);
            if into < from {
                let why = format!(
                    "{} has {into} bytes, less than the source's {from}; resize it first",
                    to.object()
                );
                return Err(self.refuse("copy", why));
            }
            if self.snapshot().is_none() && to.snapshot().is_none() && self.is_same(to)? {
                let why = "the source and the target are the same image; all data would be lost, \
                           because the target is zeroed first";
                return Err(self.refuse("copy", why));
            }
            self.check_existence()?;
            to.write_zeroes(0, from)?;
            let into = to.raw.share();
            self.bounded_long(
                "copy",
                || self.object(),
                progress,
                move |raw, progress| raw.copy_over(&into, progress),
            )?;
            self.check_existence()
        })
    }

    /// Returns whether another handle, of any connection, refers to the same image.
    fn is_same(&self, other: &Image) -> Result<bool> {
        let place = |image: &Image| -> Result<_> {
            let ioctx = image.ioctx();
            let id = image.id()?;
            // An image of the old format has no id.
            let name = if id.is_empty() { image.name()? } else { id };
            Ok((ioctx.cluster().fsid()?, ioctx.pool_id(), ioctx.namespace().to_owned(), name))
        };
        Ok(place(self)? == place(other)?)
    }

    /// Copies the image with its snapshots into a new image in any pool or namespace. The copy of a
    /// clone is a clone too, unless it is [flattened](DeepCopyImage::flatten). If the image is
    /// opened at a snapshot, copies that snapshot and the older ones.
    ///
    /// Waits up to 30 seconds until the OSDs have trimmed the snapshots that were removed from the
    /// image, because librbd would leave out data of older snapshots without an error. Then it
    /// fails with [`ErrorKind::Busy`](crate::ErrorKind::Busy), and nothing is copied. Do not remove
    /// snapshots of the image during the copy: the copy may then lack data, so the call fails with
    /// the same kind at its end, and the copy stays. The wait needs the capability to read the OSD
    /// map, which the monitor profiles `profile rbd` and `profile rbd-read-only` contain.
    ///
    /// Implements: `rbd_deep_copy_with_progress`.
    #[doc(alias = "rbd_deep_copy")]
    #[doc(alias = "rbd_deep_copy_with_progress")]
    pub fn deep_copy_to<'a>(&'a self, ioctx: &'a IoCtx, name: &'a str) -> DeepCopyImage<'a> {
        let (new, progress) = (NewImage::default(), Progress::default());
        DeepCopyImage { image: self, ioctx, name, new, progress }
    }
}

impl Image {
    /// If only snapshots have a parent, librbd fails late and leaves an incomplete copy: after the
    /// clone was flattened without the feature deep-flatten.
    fn check_snapshots_for_deep_copy(&self) -> Result<()> {
        if self.features()?.contains(Features::DEEP_FLATTEN) || self.parent()?.is_some() {
            return Ok(());
        }
        for snapshot in self.snapshots().list()? {
            if self.stored_at(snapshot.id.into())?.parent()?.is_some() {
                let why = format!(
                    "it was flattened, but its snapshot '{}' still has a parent, and librbd \
                     cannot copy that; flatten the copy: `flatten(true)`",
                    snapshot.name
                );
                return Err(self.refuse("deep-copy", why));
            }
        }
        Ok(())
    }
}

impl<'a> CopyImage<'a> {
    new_image_setters!();

    /// Sets the size in bytes of the runs of zeros that are not written: a power of two from 4 KiB
    /// to the object size, or 0 to write all zeros. Default: 4 KiB.
    pub fn sparse_size(mut self, bytes: u64) -> Self {
        self.sparse_size = bytes;
        self
    }

    /// Calls back with the bytes copied so far and their total. A break ends only the reports:
    /// librbd continues to copy.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Copies the image. Blocks.
    pub fn run(self) -> Result<()> {
        let CopyImage { image, ioctx, name, new, sparse_size, progress } = self;
        image.refuse_encrypted("copy", COPY_STORED)?;
        let object = || ioctx.image_object(name);
        let c_name = new_name("copy into", object, name)?;
        let options = new.options("copy into", object)?;
        if sparse_size != 0 {
            image.check_sparse_size("copy", sparse_size)?;
        }
        let into = Arc::clone(ioctx.raw());
        let copy = move |raw: &RawImage, progress: Progress<'_>| {
            raw.copy(&into, &c_name, &options, sparse_size as usize, progress)
        };
        image.check_existence()?;
        image.bounded_long("copy into", object, progress, copy).map_err(|error| new.explain(ioctx, error))?;
        image.check_existence()
    }
}

impl<'a> DeepCopyImage<'a> {
    new_image_setters!();

    /// Sets whether to copy the parent's data too, so that the copy is no clone. Default: off.
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.new.flatten = flatten;
        self
    }

    /// Sets the clone format of the copy of a clone. Default: that of the clone.
    pub fn format(mut self, format: CloneFormat) -> Self {
        self.new.clone_format = Some(format.number());
        self
    }

    /// Calls back with the objects copied so far and their total. A break ends only the reports:
    /// librbd continues to copy.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Copies the image. Blocks.
    pub fn run(self) -> Result<()> {
        let DeepCopyImage { image, ioctx, name, mut new, progress } = self;
        image.refuse_encrypted("deep-copy", COPY_STORED)?;
        let object = || ioctx.image_object(name);
        let c_name = new_name("deep-copy into", object, name)?;
        image.check_existence()?;
        // The copy of a clone is a clone, whose parent must be in the same cluster.
        if !new.flatten && image.parent()?.is_some() {
            image
                .ioctx
                .check_same_cluster("deep-copy into", object, ioctx)
                .map_err(|error| error.and("flatten the copy"))?;
        }
        if !new.flatten {
            image.check_snapshots_for_deep_copy()?;
        }
        // By default librbd uses the configured format, and fails if that format needs a protected
        // snapshot.
        if !new.flatten
            && new.clone_format.is_none()
            && image.op_features()?.contains(OpFeatures::CLONE_CHILD)
        {
            new.clone_format = Some(CloneFormat::V2.number());
        }
        let options = new.options("deep-copy into", object)?;
        let before = image.trimming_source("deep-copy")?;
        before.wait_until_trimmed(&image.ioctx, "deep-copy", &image.object())?;
        let into = Arc::clone(ioctx.raw());
        let copy =
            move |raw: &RawImage, progress: Progress<'_>| raw.deep_copy(&into, &c_name, &options, progress);
        image
            .bounded_long("deep-copy into", object, progress, copy)
            .map_err(|error| new.explain(ioctx, error))?;
        let after = image.trimming_source("deep-copy")?;
        before
            .check_unchanged(&after)
            .map_err(|why| Error::new("deep-copy", image.object(), Errno::EBUSY).with_detail(why))?;
        image.check_existence()
    }
}
