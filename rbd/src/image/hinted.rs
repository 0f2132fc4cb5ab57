//! Reads and writes that tell the OSDs how the data will be used.

use bytes::{Bytes, BytesMut};

use super::Image;
use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::Result;
use crate::hints::AccessHints;
use crate::image::io::PIECE;
use crate::raw::image::Image as RawImage;
use crate::raw::op::kind::Kind;

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
        self.read(buffer, offset, false)
    }

    fn read(&self, buffer: &mut [u8], offset: u64, whole: bool) -> Result<usize> {
        let image = self.image;
        let hints = self.hints;
        let mut done = 0;
        while done < buffer.len() {
            let len = (buffer.len() - done).min(PIECE);
            let at = offset.saturating_add(done as u64);
            let place = || BytesMut::new().into();
            let data = image.transfer(Kind::Read, at, len as u64, hints, place).transpose()?;
            if let Some(Buffer::BytesMut(data)) = data {
                buffer[done..done + len].copy_from_slice(&data);
                done += len;
                continue;
            }
            let read = move |raw: &RawImage| {
                let within = raw.size()?.saturating_sub(at).min(len as u64) as usize;
                let mut data = vec![0; if whole { len } else { within }];
                match raw.read(at, &mut data, hints, whole) {
                    Ok(read) => data.truncate(read),
                    // The image has shrunk meanwhile.
                    Err(fault) if !whole && fault == Errno::EINVAL.into() && raw.size()? <= at => {
                        data.clear();
                    }
                    Err(fault) => return Err(fault),
                }
                Ok(data)
            };
            let data = image.bounded_io(Kind::Read, at, len as u64, read)?;
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
        self.image.check_range(Kind::Read, offset, len)?;
        self.read(buffer, offset, true).map(drop)
    }

    /// Writes as [`Image::write_at`] does. Blocks.
    ///
    /// Implements: `rbd_write2`.
    #[doc(alias = "rbd_write2")]
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let written = self.write(data, offset, false)?;
        if written == 0 && !data.is_empty() {
            self.image.check_range(Kind::Write, offset, data.len() as u64)?;
        }
        Ok(written)
    }

    fn write(&self, data: &[u8], offset: u64, whole: bool) -> Result<usize> {
        let image = self.image;
        let hints = self.hints;
        let mut done = 0;
        while done < data.len() {
            let piece = &data[done..data.len().min(done + PIECE)];
            let (at, len) = (offset.saturating_add(done as u64), piece.len());
            let copy = || Bytes::copy_from_slice(piece).into();
            if image.transfer(Kind::Write, at, len as u64, hints, copy).transpose()?.is_some() {
                done += len;
                continue;
            }
            let piece = piece.to_vec();
            let write = move |raw: &RawImage| {
                // librbd first reads the header if another client has changed it.
                raw.size()?;
                raw.write(at, &piece, hints, whole)
            };
            let written = image.bounded_io(Kind::Write, at, len as u64, write)?;
            done += written;
            if written < len {
                break;
            }
        }
        Ok(done)
    }

    /// Writes as [`Image::write_all_at`] does. Blocks.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let len = data.len() as u64;
        self.image.check_range(Kind::Write, offset, len)?;
        self.write(data, offset, true).map(drop)
    }
}
