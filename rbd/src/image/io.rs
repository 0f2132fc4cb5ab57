//! Blocking positional I/O, named as in [`std::os::unix::fs::FileExt`].

use std::sync::Arc;
use std::time::Duration;

use super::Image;
use crate::cluster::forked;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::hints::AccessHints;
use crate::raw::image::Image as RawImage;
use crate::raw::image::io::MOST;
use crate::raw::op::answer::Cause;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Fault;
use crate::raw::thread::mark::must_not_call;
use crate::raw::thread::worker::start;

pub use crate::raw::op::request::Compare;

/// The most bytes that one call moves: it has a copy of them, in case it is given up.
pub(super) const PIECE: usize = 16 << 20;

/// Why a call has no result.
enum Lost<E> {
    Failed(E),
    GivenUp(Duration),
}

impl<E: From<Errno>> Lost<E> {
    fn error(self, error: impl FnOnce(E) -> Error, changes: bool) -> Error {
        match self {
            Lost::Failed(errno) => error(errno),
            Lost::GivenUp(timeout) => error(Errno::ETIMEDOUT.into()).timed_out(timeout, changes),
        }
    }
}

impl Image {
    /// Reads at an offset in bytes. Returns how many bytes were read: fewer than asked for only at
    /// the end of the image, 0 behind it. Blocks.
    #[doc(alias = "rbd_read")]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.hints(AccessHints::empty()).read_at(buffer, offset)
    }

    /// Fills the whole buffer, or fails; a range that does not lie within the image is refused.
    /// Blocks.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.hints(AccessHints::empty()).read_exact_at(buffer, offset)
    }

    /// Writes at an offset in bytes. Returns how many bytes were written: fewer than given only at
    /// the end of the image. An offset at or behind the end is refused. Blocks until the data is
    /// where a [`flush`](Self::flush) would find it.
    #[doc(alias = "rbd_write")]
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.hints(AccessHints::empty()).write_at(data, offset)
    }

    /// Writes all of the data, or fails; a range that does not lie within the image is refused
    /// before anything is written.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.hints(AccessHints::empty()).write_all_at(data, offset)
    }

    /// Gives a range back: it reads as zeros afterwards, as far as librbd discards it (ranges
    /// smaller than `rbd_discard_granularity_bytes`, 64 KiB, are skipped unless
    /// `rbd_skip_partial_discard` is off). For zeros that are certain see
    /// [`write_zeroes`](Self::write_zeroes).
    ///
    /// Implements: `rbd_discard`.
    #[doc(alias = "rbd_discard")]
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_range(Kind::Discard, offset, len)?;
        self.in_pieces(Kind::Discard, offset, len, MOST as u64, |raw, at, len| raw.discard(at, len))
    }

    /// Makes a range read as zeros; objects are given back where that is possible.
    ///
    /// Implements: `rbd_write_zeroes`.
    #[doc(alias = "rbd_write_zeroes")]
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.zero(offset, len, false)
    }

    /// Makes a range read as zeros and keeps space allocated for it.
    ///
    /// Implements: `rbd_write_zeroes` with `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
    pub fn write_zeroes_thick(&self, offset: u64, len: u64) -> Result<()> {
        self.zero(offset, len, true)
    }

    /// Fills a range with repetitions of a pattern, whose length must divide that of the range.
    ///
    /// Implements: `rbd_writesame`.
    #[doc(alias = "rbd_writesame")]
    pub fn write_same(&self, offset: u64, len: u64, pattern: &[u8]) -> Result<()> {
        let unit = pattern.len() as u64;
        self.check_pattern(unit, len)?;
        self.check_range(Kind::WriteSame, offset, len)?;
        let most = MOST as u64 / unit * unit;
        let pattern: Arc<[u8]> = pattern.into();
        self.in_pieces(Kind::WriteSame, offset, len, most, move |raw, at, len| {
            raw.write_same(at, len as usize, &pattern)
        })
    }

    /// Writes `data` if the image holds `expected` there, both of the same length. Up to Ceph 16.2
    /// the range must lie within one sector of 512 bytes, with newer releases within one object
    /// (within one stripe unit of a striped image).
    ///
    /// Implements: `rbd_compare_and_write`.
    #[doc(alias = "rbd_compare_and_write")]
    pub fn compare_and_write(&self, offset: u64, expected: &[u8], data: &[u8]) -> Result<Compare> {
        let len = data.len() as u64;
        self.check_same_length(expected.len() as u64, len)?;
        self.check_range(Kind::CompareAndWrite, offset, len)?;
        if data.is_empty() {
            // librbd 16.2 aborts the process on an empty request.
            return Ok(Compare::Written);
        }
        let (expected, data) = (expected.to_vec(), data.to_vec());
        self.bounded_io(Kind::CompareAndWrite, offset, len, move |raw| {
            raw.compare_and_write(offset, &expected, &data)
        })
    }

    /// Waits until everything written so far is on the OSDs. Blocks. An error says that a write
    /// since the last flush failed, also one that was acknowledged: see
    /// [`guide::durability`](crate::guide::durability).
    ///
    /// With the policy `writeback`, librbd's cache writes through until the first flush after
    /// opening (`rbd_cache_writethrough_until_flush`): flush once at the start to use the cache.
    ///
    /// Implements: `rbd_flush`.
    #[doc(alias = "rbd_flush")]
    pub fn flush(&self) -> Result<()> {
        self.bounded("flush", move |raw| raw.flush())
    }

    /// Drops librbd's cache of it, after writing back what is dirty.
    ///
    /// Implements: `rbd_invalidate_cache`.
    #[doc(alias = "rbd_invalidate_cache")]
    pub fn invalidate_cache(&self) -> Result<()> {
        self.bounded("drop the cache of", move |raw| raw.invalidate_cache())
    }

    fn zero(&self, offset: u64, len: u64, thick: bool) -> Result<()> {
        self.check_range(Kind::WriteZeroes, offset, len)?;
        self.in_pieces(Kind::WriteZeroes, offset, len, MOST as u64, move |raw, at, len| {
            raw.write_zeroes(at, len as usize, thick)
        })
    }

    /// librbd takes at most 2 GiB at once.
    fn in_pieces(
        &self,
        kind: Kind,
        offset: u64,
        len: u64,
        most: u64,
        call: impl Fn(&RawImage, u64, u64) -> Result<(), Fault> + Clone + Send + 'static,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(most);
            let (at, call) = (offset + done, call.clone());
            self.bounded_io(kind, at, piece, move |raw| call(raw, at, piece))?;
            done += piece;
        }
        Ok(())
    }

    /// [`size`](Image::size) without a look at the log, which would cost each operation a system
    /// call.
    pub(crate) fn size_for_io(&self) -> Result<u64> {
        if self.raw.is_forked() {
            return Err(forked("use", self.object()));
        }
        let size = self.in_time(RawImage::size);
        size.map_err(|lost| {
            let error = |errno: Errno| Error::new("read the size of", self.object(), errno);
            self.explain_pool(lost.error(error, false))
        })
    }

    /// Makes a call that moves data; it is given up after the call timeout.
    pub(super) fn bounded_io<T: Send + 'static>(
        &self,
        kind: Kind,
        offset: u64,
        len: u64,
        call: impl FnOnce(&RawImage) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let error = |fault| self.explain_failure(kind, offset, len, fault);
        self.in_time(call).map_err(|lost| lost.error(error, kind.changes_data()))
    }

    /// Why the cluster refuses what is done to the image, if that can be found out. Blocks.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.in_time(|raw| Ok::<_, Errno>(raw.cause())).ok().flatten()
    }

    /// Makes a call, or gives it up after the call timeout. Does not look at the log.
    fn in_time<T: Send + 'static, E: From<Errno> + Send + 'static>(
        &self,
        call: impl FnOnce(&RawImage) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Lost<E>> {
        if must_not_call() {
            return Err(Lost::Failed(Errno::EDEADLK.into()));
        }
        let Some(timeout) = self.ioctx.cluster().raw().call_timeout() else {
            return call(&self.raw).map_err(Lost::Failed);
        };
        let raw = self.raw.share();
        let started = start(move || call(&raw)).map_err(|errno| Lost::Failed(errno.into()))?;
        started.wait(Some(timeout)).ok_or(Lost::GivenUp(timeout))?.map_err(Lost::Failed)
    }
}
