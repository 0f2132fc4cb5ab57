//! Reads and writes that tell the OSDs how the data will be used.

use super::Image;
use crate::errno::Errno;
use crate::error::Result;
use crate::hints::AccessHints;
use crate::image::io::PIECE;
use crate::raw::image::Image as RawImage;

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
        let hints = self.hints;
        let mut done = 0;
        while done < buffer.len() {
            let len = (buffer.len() - done).min(PIECE);
            let at = offset.saturating_add(done as u64);
            let read = move |raw: &RawImage| {
                let mut data = vec![0; raw.size()?.saturating_sub(at).min(len as u64) as usize];
                if data.is_empty() {
                    return Ok(data);
                }
                match raw.read(at, &mut data, hints) {
                    Ok(read) => data.truncate(read),
                    // The image shrank meanwhile.
                    Err(Errno::EINVAL) if raw.size()? <= at => data.clear(),
                    Err(errno) => return Err(errno),
                }
                Ok(data)
            };
            let data = image.bounded_io("read", at, len as u64, read)?;
            buffer[done..done + data.len()].copy_from_slice(&data);
            done += data.len();
            if data.len() < len {
                break;
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
        let hints = self.hints;
        let mut done = 0;
        while done < data.len() {
            let piece = data[done..data.len().min(done + PIECE)].to_vec();
            let (at, len) = (offset.saturating_add(done as u64), piece.len());
            let write = move |raw: &RawImage| {
                let room = raw.size()?.saturating_sub(at).min(len as u64) as usize;
                if room == 0 { Ok(0) } else { raw.write(at, &piece[..room], hints) }
            };
            let written = image.bounded_io("write", at, len as u64, write)?;
            done += written;
            if written < len {
                break;
            }
        }
        if done == 0 && !data.is_empty() {
            image.check_range("write", offset, data.len() as u64)?;
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
