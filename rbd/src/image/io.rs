//! Blocking positional I/O, named as in [`std::os::unix::fs::FileExt`].

use std::sync::Arc;
use std::time::Duration;

use super::Image;
use crate::buffer::Buffer;
use crate::cluster::bounded::IN_CALLBACK;
use crate::cluster::forked;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::hints::AccessHints;
use crate::raw::ffi::late::Failure;
use crate::raw::image::Image as RawImage;
use crate::raw::image::io::MOST;
use crate::raw::op::answer::Cause;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::{Fault, Request};
use crate::raw::op::unheard::{Failed, Unheard};
use crate::raw::thread::mark::must_not_call;
use crate::raw::thread::worker::start;

pub use crate::compare::Compare;

/// The largest number of bytes per call. The call owns a copy of them, because it may be given up.
pub(super) const PIECE: usize = 16 << 20;

/// The reason why a call has no result.
pub(super) enum Lost<E> {
    Failed(E),
    GivenUp(Duration),
}

impl<E: From<Errno>> Lost<E> {
    pub(super) fn error(self, error: impl FnOnce(E) -> Error, changes: bool) -> Error {
        match self {
            Lost::Failed(errno) => error(errno),
            Lost::GivenUp(timeout) => error(Errno::ETIMEDOUT.into()).timed_out(timeout, changes),
        }
    }
}

/// A failure that closing the image tells, unless somebody receives it: the call may have been
/// given up.
struct Noted {
    fault: Fault,
    unheard: Option<Unheard>,
}

impl Noted {
    fn hear(self) -> Fault {
        self.unheard.iter().for_each(Unheard::hear);
        self.fault
    }
}

impl From<Errno> for Noted {
    fn from(errno: Errno) -> Noted {
        Noted { fault: errno.into(), unheard: None }
    }
}

impl Image {
    /// Reads at an offset in bytes. Returns the number of bytes read. A read is short only at the
    /// end of the image; past the end it returns 0. Blocks.
    #[doc(alias = "rbd_read")]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.hints(AccessHints::empty()).read_at(buffer, offset)
    }

    /// Reads into the whole buffer, or fails. Refuses a range beyond the end of the image. Blocks.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.hints(AccessHints::empty()).read_exact_at(buffer, offset)
    }

    /// Writes at an offset in bytes. Returns the number of bytes written. A write is short only at
    /// the end of the image; an offset at or past the end is refused. Blocks until librbd
    /// acknowledges the write. With librbd's cache off, which is the default, the data is then on
    /// the OSDs. With the cache and the policy `writeback`, only a [`flush`](Self::flush) guarantees
    /// that.
    #[doc(alias = "rbd_write")]
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.hints(AccessHints::empty()).write_at(data, offset)
    }

    /// Writes all of the data, or fails. Refuses a range beyond the end of the image before
    /// anything is written. Blocks as [`write_at`](Self::write_at) does.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.hints(AccessHints::empty()).write_all_at(data, offset)
    }

    /// Frees the space of a range. Discarded parts read as zeros, but librbd discards only whole
    /// aligned blocks of `rbd_discard_granularity_bytes` (64 KiB), and leaves the data of the rest
    /// unchanged, unless `rbd_skip_partial_discard` is off. Use
    /// [`write_zeroes`](Self::write_zeroes) if the range must read as zeros. Refuses a range beyond
    /// the end of the image. Blocks.
    ///
    /// Implements: `rbd_discard`.
    #[doc(alias = "rbd_discard")]
    pub fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_range(Kind::Discard, offset, len)?;
        self.in_pieces(Kind::Discard, offset, len, MOST as u64, |raw, at, len| raw.discard(at, len))
    }

    /// Makes a range read as zeros, and frees its objects where possible. Refuses a range beyond
    /// the end of the image. Blocks.
    ///
    /// Implements: `rbd_write_zeroes`.
    #[doc(alias = "rbd_write_zeroes")]
    pub fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.zero(offset, len, false)
    }

    /// Makes a range read as zeros, and keeps its space allocated. Refuses a range beyond the end
    /// of the image. Blocks.
    ///
    /// Implements: `rbd_write_zeroes` with `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
    pub fn write_zeroes_thick(&self, offset: u64, len: u64) -> Result<()> {
        self.zero(offset, len, true)
    }

    /// Fills a range with repetitions of a pattern. The pattern's length must divide the range's
    /// length. Refuses a range beyond the end of the image. Blocks.
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

    /// Writes `data` atomically if the range contains `expected`. Both must have the same length.
    /// The range must lie within one object (or one stripe unit of a striped image); with Ceph
    /// 16.2, within one sector of 512 bytes. Blocks.
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

    /// Waits until all completed writes are on the OSDs. Blocks. After an error, writes since the
    /// last successful flush may be lost, with librbd's cache even those that were acknowledged:
    /// see [`guide::durability`](crate::guide::durability).
    ///
    /// With the policy `writeback`, librbd's cache writes through until the first flush after
    /// opening (`rbd_cache_writethrough_until_flush`). Flush once at the start to use the cache.
    ///
    /// Implements: `rbd_flush`.
    #[doc(alias = "rbd_flush")]
    pub fn flush(&self) -> Result<()> {
        self.bounded("flush", move |raw| raw.flush())
    }

    /// Writes back dirty data in librbd's cache, and then drops the cache of this image. Blocks.
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

    /// Splits a transfer into pieces of at most `most` bytes.
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

    /// Returns the [`size`](Image::size) for an operation, without reading the log, which would cost
    /// each operation a system call.
    pub(super) fn size_for_io(&self, operation: &'static str) -> Result<u64> {
        if self.raw.is_forked() {
            return Err(forked("use", self.object()));
        }
        let size = self.in_time(RawImage::size);
        size.map_err(|lost| self.explain(lost.error(|errno| self.failed(operation, errno), false)))
    }

    /// Makes a call that transfers data, and gives it up after the call timeout.
    pub(super) fn bounded_io<T: Send + 'static>(
        &self,
        kind: Kind,
        offset: u64,
        len: u64,
        call: impl FnOnce(&RawImage) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        if self.raw.is_forked() {
            return Err(forked(kind.name(), self.object()));
        }
        let error = |noted: Noted| self.explain_failure(kind, offset, len, noted.hear());
        let call = self.in_time(move |raw: &RawImage| {
            call(raw).map_err(|fault| {
                let failed = Failed { kind, offset, len, fault: fault.clone() };
                let unheard = (kind != Kind::Read).then(|| raw.note_failure(failed));
                Noted { fault, unheard }
            })
        });
        call.map_err(|lost| self.explain_given_up(lost.error(error, kind.changes_data())))
    }

    /// Makes a request, whose end wakes this thread: no other thread of this crate takes part.
    ///
    /// Returns `None` if the cluster may have to be asked first, if the completion would go to a
    /// queue, if calls have no timeout, or if the range exceeds the image. Then
    /// [`bounded_io`](Self::bounded_io) makes the call.
    pub(super) fn transfer(
        &self,
        kind: Kind,
        offset: u64,
        len: u64,
        hints: AccessHints,
        buffer: impl FnOnce() -> Buffer,
    ) -> Option<Result<Buffer>> {
        let timeout = self.ioctx.cluster().raw().call_timeout()?;
        let end = offset.checked_add(len)?;
        if self.raw.is_forked() || must_not_call() || self.raw.is_queued() || self.raw.ready()? < end {
            return None;
        }
        let request = Request::new(kind, offset, len, hints, buffer());
        let lost = match self.raw.transfer(request, timeout) {
            // Another thread has just created a queue, or the image has just shrunk.
            Err(Fault::Failed(Failure::Errno(Errno::EBUSY)))
            | Ok(Some(Err(Fault::Cut(_) | Fault::Failed(Failure::Errno(Errno::ENODATA))))) => return None,
            Ok(Some(Ok(buffer))) => return Some(Ok(buffer)),
            Ok(Some(Err(fault))) | Err(fault) => Lost::Failed(fault),
            Ok(None) => Lost::GivenUp(timeout),
        };
        let error = |fault| self.explain_failure(kind, offset, len, fault);
        Some(Err(self.explain_given_up(lost.error(error, kind.changes_data()))))
    }

    /// Returns why the cluster refuses what is done to the image, if it can be determined. Blocks.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.in_time(|raw| Ok::<_, Errno>(raw.cause())).ok().flatten()
    }

    /// Returns whether the image is smaller than its encryption header. Does not read the log.
    pub(super) fn is_cut(&self) -> Result<bool> {
        if self.raw.is_forked() {
            return Err(forked("use", self.object()));
        }
        let cut = self.in_time(RawImage::is_cut);
        cut.map_err(|lost| self.explain(lost.error(|errno| self.failed("read the size of", errno), false)))
    }

    /// Returns the error of a call that [`in_time`](Self::in_time) has made or refused.
    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        let error = Error::new(operation, self.object(), errno);
        if errno == Errno::EDEADLK { error.with_detail(IN_CALLBACK) } else { error }
    }

    /// Makes a call, and gives it up after the call timeout. Does not read the log.
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
