//! Resizing.

use std::ops::ControlFlow;

use super::Image;
use crate::error::Result;
use crate::ioctx::new_image::check_size;
use crate::progress::Progress;
use crate::raw::ffi::version::librbd_version;

/// Resizes an image: see [`Image::resize`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct Resize<'a> {
    image: &'a Image,
    size: u64,
    allow_shrink: bool,
    progress: Progress<'a>,
}

impl Image {
    /// Resizes an image to a size in bytes. Shrinking destroys the data behind the new end and must
    /// be allowed.
    ///
    /// A shrink waits for the I/O in flight on every handle that this process has of the image. I/O
    /// that comes meanwhile begins after the shrink, so a progress callback must not wait for it.
    /// Several resizings of one image in this process take turns.
    ///
    /// A shrink that another process asks for waits for nothing: if this process has the exclusive
    /// lock, librbd carries it out here. librbd 16.2 may then end this process over a request
    /// beyond the new end. So stop the I/O behind the new end before another process shrinks the
    /// image.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// image.resize(2 << 30).run()?;
    /// image.resize(1 << 30).allow_shrink(true).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_resize2`.
    #[doc(alias = "rbd_resize")]
    #[doc(alias = "rbd_resize2")]
    #[doc(alias = "rbd_resize_with_progress")]
    pub fn resize(&self, size: u64) -> Resize<'_> {
        Resize { image: self, size, allow_shrink: false, progress: Progress::default() }
    }
}

impl<'a> Resize<'a> {
    /// Allows the image to become smaller.
    pub fn allow_shrink(mut self, allow: bool) -> Self {
        self.allow_shrink = allow;
        self
    }

    /// Calls back with the objects done so far and their total; a break ends it with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped).
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Resizes the image. Blocks; a shrink for as long as I/O is in flight and objects are deleted.
    pub fn run(self) -> Result<()> {
        let Resize { image, size, allow_shrink, progress } = self;
        check_size("resize", || image.object(), size)?;
        let (now, header) = (image.size()?, image.header_size()?);
        if size < now && !allow_shrink {
            let why =
                format!("{size} bytes are less than its {now}; shrinking destroys data and must be allowed");
            return Err(image.refuse("resize", why));
        }
        let stored = size.checked_add(header).filter(|size| i64::try_from(*size).is_ok());
        let Some(stored) = stored else {
            return Err(
                image.refuse("resize", format!("{size} bytes and its encryption header are too many"))
            );
        };
        image.bounded_long(
            "resize",
            || image.object(),
            progress,
            move |raw, progress| raw.resize(stored, allow_shrink, progress),
        )?;
        // librbd 16.2 takes the size of what is stored. A release that takes the effective one has
        // made it bigger by the header.
        if header > 0 && librbd_version().minor > 16 && image.size()? == stored {
            image.bounded("resize", move |raw| raw.resize(size, true, Progress::default()))?;
        }
        Ok(())
    }
}
