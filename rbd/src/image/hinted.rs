//! Reads and writes that tell the OSDs how the data will be used.

use super::Image;
use crate::errno::Errno;
use crate::error::Result;
use crate::hints::AccessHints;
use crate::raw::image::io::MOST;

/// Reads and writes an image with hints: see [`Image::hints`].
#[derive(Debug, Clone, Copy)]
pub struct Hinted<'a> {
    image: &'a Image,
    hints: AccessHints,
}

impl Image {
    /// Returns a view of this image whose reads and writes tell the OSDs how the data will be used.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// use rbd::AccessHints;
    /// image.hints(AccessHints::NO_CACHE).write_all_at(b"hello ceph", 0)?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn hints(&self, hints: AccessHints) -> Hinted<'_> {
        Hinted { image: self, hints }
    }
}

impl Hinted<'_> {
    /// Reads as [`Image::read_at`] does. Blocks.
    ///
    /// Implements: `rbd_read2`.
    #[doc(alias = "rbd_read2")]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let image = self.image;
        let len = image.size_for_io()?.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let piece = &mut buffer[done..len.min(done + MOST)];
            let at = offset + done as u64;
            match image.raw.read(at, piece, self.hints) {
                Ok(0) => break,
                Ok(read) => done += read,
                // The image shrank meanwhile.
                Err(Errno::EINVAL) if image.size()? <= at => break,
                Err(errno) => return Err(image.failed("read", at, piece.len() as u64, errno)),
            }
        }
        Ok(done)
    }

    /// Reads as [`Image::read_exact_at`] does. Blocks.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let len = buffer.len() as u64;
        self.image.check_range("read", offset, len)?;
        match self.read_at(buffer, offset)? {
            read if read == buffer.len() => Ok(()),
            _ => self.image.check_range("read", offset, len),
        }
    }

    /// Writes as [`Image::write_at`] does. Blocks.
    ///
    /// Implements: `rbd_write2`.
    #[doc(alias = "rbd_write2")]
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let image = self.image;
        let room = image.size_for_io()?.saturating_sub(offset);
        if room == 0 && !data.is_empty() {
            image.check_range("write", offset, data.len() as u64)?;
        }
        let data = &data[..room.min(data.len() as u64) as usize];
        let mut done = 0;
        while done < data.len() {
            let piece = &data[done..data.len().min(done + MOST)];
            let at = offset + done as u64;
            match image.raw.write(at, piece, self.hints) {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(errno) => return Err(image.failed("write", at, piece.len() as u64, errno)),
            }
        }
        Ok(done)
    }

    /// Writes as [`Image::write_all_at`] does. Blocks.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let len = data.len() as u64;
        self.image.check_range("write", offset, len)?;
        match self.write_at(data, offset)? {
            written if written == data.len() => Ok(()),
            _ => self.image.check_range("write", offset, len),
        }
    }
}
