//! Blocking I/O on an open image. Ranges are checked by librbd; lengths above [`MOST`] are the caller's to split.

use librbd_sys as sys;

use crate::errno::Errno;
use crate::hints::AccessHints;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::Image;

/// The most bytes that are passed to librbd in one call: it counts in 32 bits with a sign in places.
pub(crate) const MOST: usize = 1 << 30;

/// What a [compare-and-write](crate::Image::compare_and_write) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it tells whether anything was written"]
pub enum Compare {
    /// The image held what was expected, and now holds the new data.
    Written,
    /// Nothing was written: the image differs from this offset on, in bytes from its start.
    Differs(u64),
}

/// The offset in the image at which a compare-and-write at `offset` differs, from what librbd reports.
///
/// librbd adds the position within the request to the image offset at which the *object* begins, not the request
/// (seen on 16.2). A request lies within one stripe unit, and objects begin at multiples of it.
pub(crate) fn differs_at(offset: u64, reported: u64, stripe_unit: u64) -> u64 {
    offset + reported % stripe_unit.max(1)
}

impl Image {
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8], hints: AccessHints) -> RawResult<usize> {
        let (data, len, flags) = (buffer.as_mut_ptr().cast(), buffer.len(), hints.bits() as i32);
        // SAFETY: the image is open; the buffer has that many bytes and is written by no more.
        check_len(unsafe { sys::rbd_read2(self.as_ptr(), offset, len, data, flags) })
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8], hints: AccessHints) -> RawResult<usize> {
        let (data, len, flags) = (data.as_ptr().cast(), data.len(), hints.bits() as i32);
        // SAFETY: the image is open; the data has that many bytes.
        check_len(unsafe { sys::rbd_write2(self.as_ptr(), offset, len, data, flags) })
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
    pub(crate) fn compare_and_write(&self, offset: u64, expected: &[u8], data: &[u8]) -> RawResult<Compare> {
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
            Ok(_) => Ok(Compare::Written),
            Err(Errno::EILSEQ) => Ok(Compare::Differs(differs_at(offset, differs, self.stripe_unit()?))),
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
