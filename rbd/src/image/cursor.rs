//! An image as [`Read`], [`Write`] and [`Seek`] of the standard library.

use std::borrow::Borrow;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Image;

/// A position in an image, for code that wants [`Read`], [`Write`] and [`Seek`].
///
/// A cursor holds an image, a reference to one, or an `Arc` of one. Several cursors may share one
/// image. It is unbuffered: each call is one blocking operation of librbd. For small reads and
/// writes, wrap it in [`std::io::BufReader`] or [`std::io::BufWriter`].
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let mut file = std::fs::File::open("disk.raw")?;
/// std::io::copy(&mut file, &mut rbd::image::Cursor::new(&image))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cursor<I> {
    image: I,
    position: u64,
}

impl<I: Borrow<Image>> Cursor<I> {
    /// Creates a cursor at the image's first byte.
    pub fn new(image: I) -> Cursor<I> {
        Cursor { image, position: 0 }
    }

    /// Returns the offset in bytes of the next read or write.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the image.
    pub fn into_inner(self) -> I {
        self.image
    }

    fn image(&self) -> &Image {
        self.image.borrow()
    }
}

impl<I: Borrow<Image>> Read for Cursor<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.image().read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// Writing at the end of the image fails with [`io::ErrorKind::InvalidInput`]: an image does not
/// grow. A `write_all` across the end writes as much as fits and then fails; compare the sizes
/// first.
impl<I: Borrow<Image>> Write for Cursor<I> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.image().write_at(data, self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.image().flush()?)
    }
}

/// As with files, a position beyond the end is allowed. Reads return 0 there, and writes fail.
impl<I: Borrow<Image>> Seek for Cursor<I> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.image().size()?.checked_add_signed(by),
        };
        let out_of_bounds =
            || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start of the image");
        self.position = target.ok_or_else(out_of_bounds)?;
        Ok(self.position)
    }
}
