//! Blocking I/O on an open image. Ranges are checked by librbd; lengths above [`MOST`] are the caller's to split.

use librbd_sys as sys;

use super::RawResult;
use super::call::{check, check_len};
use super::image::Image;
use crate::errno::Errno;

/// The most bytes that are passed to librbd in one call: it counts in 32 bits with a sign in places.
pub(crate) const MOST: usize = 1 << 30;

/// What a compare-and-write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// It held what was expected, and was overwritten.
    Written,
    /// It differs. librbd gives the offset as if the request had begun where its object begins: see
    /// [`crate::Image`]'s own correction.
    Differs(u64),
}

impl Image {
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> RawResult<usize> {
        // SAFETY: the image is open; the buffer has that many bytes and is written by no more.
        check_len(unsafe { sys::rbd_read(self.as_ptr(), offset, buffer.len(), buffer.as_mut_ptr().cast()) })
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> RawResult<usize> {
        // SAFETY: the image is open; the data has that many bytes.
        check_len(unsafe { sys::rbd_write(self.as_ptr(), offset, data.len(), data.as_ptr().cast()) })
    }

    pub(crate) fn discard(&self, offset: u64, len: u64) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_discard(self.as_ptr(), offset, len) })?;
        Ok(())
    }

    pub(crate) fn write_zeroes(&self, offset: u64, len: usize, thick: bool) -> RawResult<()> {
        let flags = if thick { sys::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION as i32 } else { 0 };
        // SAFETY: the image is open.
        check_len(unsafe { sys::rbd_write_zeroes(self.as_ptr(), offset, len, flags, 0) })?;
        Ok(())
    }

    pub(crate) fn write_same(&self, offset: u64, len: usize, pattern: &[u8]) -> RawResult<()> {
        let (data, data_len) = (pattern.as_ptr().cast(), pattern.len());
        // SAFETY: the image is open; the pattern has that many bytes.
        check_len(unsafe { sys::rbd_writesame(self.as_ptr(), offset, len, data, data_len, 0) })?;
        Ok(())
    }

    /// `expected` and `data` must have the same length.
    pub(crate) fn compare_and_write(&self, offset: u64, expected: &[u8], data: &[u8]) -> RawResult<Compared> {
        if expected.len() != data.len() {
            return Err(Errno::EINVAL);
        }
        let mut differs = 0;
        // SAFETY: the image is open; both buffers have the length that is passed.
        let code = unsafe {
            sys::rbd_compare_and_write(
                self.as_ptr(),
                offset,
                data.len(),
                expected.as_ptr().cast(),
                data.as_ptr().cast(),
                &raw mut differs,
                0,
            )
        };
        match check_len(code) {
            Ok(_) => Ok(Compared::Written),
            Err(Errno::EILSEQ) => Ok(Compared::Differs(differs)),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn flush(&self) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_flush(self.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn invalidate_cache(&self) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_invalidate_cache(self.as_ptr()) })?;
        Ok(())
    }
}
