//! Resizing of images.

use std::ops::ControlFlow;

use super::Image;
use crate::errno::Errno;
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
    /// Resizes the image to a size in bytes. Shrinking destroys the data beyond the new end and
    /// must be [allowed](Resize::allow_shrink).
    ///
    /// A shrink waits for the I/O in flight on every handle that this process has of the image. New
    /// I/O begins after the shrink, so a progress callback must not wait for it. Several resizes of
    /// one image in this process run one after another.
    ///
    /// **Stop I/O beyond the new end before another process shrinks the image.** Such a shrink does
    /// not wait for I/O of this process. If this process owns the exclusive lock, librbd shrinks
    /// the image here, and librbd 16.2 may then abort the process at a request beyond the new end.
    ///
    /// With [`allow_shrink`](Resize::allow_shrink), this handle first acquires the exclusive lock.
    /// If another client keeps the lock, that client shrinks the image for this call. If an OSD
    /// restarts meanwhile, a client that owns the lock later can repeat the shrink, although the
    /// image may have grown since.
    ///
    /// Without `allow_shrink`, this handle does not acquire the lock first: a client that owns it
    /// resizes the image for this call. On a busy machine librbd sometimes loses that client's
    /// answer; the call then takes some seconds more.
    ///
    /// A client that resizes the image for this call may not have heard of an earlier resize. It
    /// can then do nothing and report success. So this call asks the OSDs for the size afterwards.
    /// If the size is wrong, it enlarges the image itself, or fails with `ESTALE`. `ESTALE` can
    /// also mean that another client enlarged the image right after it was shrunk.
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
    /// Sets whether the image may become smaller. Default: off.
    pub fn allow_shrink(mut self, allow_shrink: bool) -> Self {
        self.allow_shrink = allow_shrink;
        self
    }

    /// Calls back with the objects done so far and their total. A break stops the resize with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped).
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Resizes the image. Blocks; a shrink waits for I/O in flight and until objects are deleted.
    pub fn run(self) -> Result<()> {
        let Resize { image, size, allow_shrink, progress } = self;
        check_size("resize", || image.object(), size)?;
        let (now, header) = (image.size()?, image.header_size());
        if size < now && !allow_shrink {
            let why = format!(
                "{size} bytes are less than its {now}; shrinking destroys data, allow it with `allow_shrink`"
            );
            return Err(image.refuse("resize", why));
        }
        let stored = size.checked_add(header).filter(|size| i64::try_from(*size).is_ok());
        let Some(stored) = stored else {
            return Err(image.refuse(
                "resize",
                format!("{size} bytes plus its encryption header exceed the largest image size"),
            ));
        };
        image
            .bounded_long(
                "resize",
                || image.object(),
                progress,
                move |raw, progress| raw.resize(stored, allow_shrink, progress),
            )
            .map_err(|error| match error.errno() {
                Some(Errno::ESTALE) => error.with_detail(
                    "it has another size now: another client has resized it meanwhile, or the client \
                     that keeps its exclusive lock did nothing, or kept room for an encryption \
                     header; look at its size, and resize it again",
                ),
                _ => error,
            })?;
        // librbd 16.2 takes the stored size. A release that takes the effective size has enlarged
        // the image by the header.
        if header > 0 && librbd_version().minor > 16 && image.size()? == stored {
            image.bounded("resize", move |raw| raw.resize(size, true, Progress::default()))?;
        }
        Ok(())
    }
}
