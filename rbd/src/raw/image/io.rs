//! Blocking I/O on an open image. librbd checks ranges; the caller splits lengths above [`MOST`].

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use librbd_sys as sys;

use crate::buffer::Buffer;
use crate::compare::Compare;
use crate::errno::Errno;
use crate::hints::AccessHints;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::Image;
use crate::raw::op::hold::Passage;
use crate::raw::op::io;
use crate::raw::op::operation::Operation;
use crate::raw::op::request::{Fault, Request, differs_at};
use crate::raw::op::unheard::{Failed, Unheard};
use crate::raw::thread::park::wait_until;

/// The most bytes that librbd gets in one call: in places it counts in signed 32 bits.
pub(crate) const MOST: usize = 1 << 30;

impl Image {
    /// Reads the part of the range that lies within the image. With `whole`, a short read is a
    /// failure.
    pub(crate) fn read(
        &self,
        offset: u64,
        buffer: &mut [u8],
        hints: AccessHints,
        whole: bool,
    ) -> Result<usize, Fault> {
        let asked = buffer.len() as u64;
        let (_passage, len) = self.pass(offset, asked, whole)?;
        let (data, len, flags) = (buffer.as_mut_ptr().cast(), len as usize, hints.bits() as i32);
        if len == 0 {
            return Ok(0);
        }
        // SAFETY: the image is open; the buffer has that many bytes, and no more are written.
        let read =
            self.locking(|| check_len(unsafe { sys::rbd_read2(self.as_ptr(), offset, len, data, flags) }))?;
        self.check_count(offset, asked, read, whole)
    }

    /// Writes the part of the range that lies within the image. With `whole`, a short write is a
    /// failure.
    pub(crate) fn write(
        &self,
        offset: u64,
        data: &[u8],
        hints: AccessHints,
        whole: bool,
    ) -> Result<usize, Fault> {
        let asked = data.len() as u64;
        let (_passage, len) = self.pass(offset, asked, whole)?;
        let (data, len, flags) = (data.as_ptr().cast(), len as usize, hints.bits() as i32);
        if len == 0 {
            return Ok(0);
        }
        self.shared().mark_written();
        // SAFETY: the image is open; the data has that many bytes.
        let written =
            self.locking(|| check_len(unsafe { sys::rbd_write2(self.as_ptr(), offset, len, data, flags) }))?;
        self.check_count(offset, asked, written, whole)
    }

    pub(crate) fn discard(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let _passage = self.pass(offset, len, true)?;
        self.shared().mark_written();
        // SAFETY: the image is open.
        self.locking(|| check(unsafe { sys::rbd_discard(self.as_ptr(), offset, len) }))?;
        Ok(self.shared().check_lease()?)
    }

    pub(crate) fn write_zeroes(&self, offset: u64, len: usize, thick: bool) -> Result<(), Fault> {
        let flags = if thick { sys::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION as i32 } else { 0 };
        let _passage = self.pass(offset, len as u64, true)?;
        self.shared().mark_written();
        // SAFETY: the image is open.
        self.locking(|| check_len(unsafe { sys::rbd_write_zeroes(self.as_ptr(), offset, len, flags, 0) }))?;
        Ok(self.shared().check_lease()?)
    }

    pub(crate) fn write_same(&self, offset: u64, len: usize, pattern: &[u8]) -> Result<(), Fault> {
        let (data, data_len) = (pattern.as_ptr().cast(), pattern.len());
        let _passage = self.pass(offset, len as u64, true)?;
        self.shared().mark_written();
        self.locking(|| {
            // SAFETY: the image is open; the pattern has that many bytes.
            check_len(unsafe { sys::rbd_writesame(self.as_ptr(), offset, len, data, data_len, 0) })
        })?;
        Ok(self.shared().check_lease()?)
    }

    /// `expected` and `data` must have the same length.
    pub(crate) fn compare_and_write(
        &self,
        offset: u64,
        expected: &[u8],
        data: &[u8],
    ) -> Result<Compare, Fault> {
        if expected.len() != data.len() {
            return Err(Errno::EINVAL.into());
        }
        let _passage = self.pass(offset, data.len() as u64, true)?;
        self.shared().mark_written();
        let differs = Cell::new(0);
        // SAFETY: the image is open; both buffers have the length that is passed.
        let call = || unsafe {
            check_len(sys::rbd_compare_and_write(
                self.as_ptr(),
                offset,
                data.len(),
                expected.as_ptr().cast(),
                data.as_ptr().cast(),
                differs.as_ptr(),
                0,
            ))
        };
        let called = self.locking(call);
        self.shared().check_lease()?;
        match called {
            Ok(_) => Ok(Compare::Written),
            Err(Errno::EILSEQ) => {
                Ok(Compare::Differs(differs_at(offset, differs.get(), self.stripe_unit()?)))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Begins a blocking call: waits while the image is held, and asks for the size if it may have
    /// changed. Returns how much of the range lies within the image, because librbd 16.2 aborts the
    /// process if a request exceeds the object map. If `whole` is set, refuses a range that exceeds
    /// the image; the error contains the size, which may change a moment later.
    pub(super) fn pass(&self, offset: u64, len: u64, whole: bool) -> Result<(Passage<'_>, u64), Fault> {
        let passage = self.shared().pass()?;
        let size = self.ready().map_or_else(|| self.shared().ask_ready(), Ok)?;
        let within = len.min(size.saturating_sub(offset));
        if whole && within < len { Err(Fault::Cut(size)) } else { Ok((passage, within)) }
    }

    /// Checks how much librbd has done: it silently truncates a range if another client has shrunk
    /// the image.
    pub(super) fn check_count(
        &self,
        offset: u64,
        asked: u64,
        done: usize,
        whole: bool,
    ) -> Result<usize, Fault> {
        self.shared().check_lease()?;
        if !whole || done as u64 == asked {
            return Ok(done);
        }
        let size = self.ask_size()?;
        // If the image has grown again, the size explains nothing.
        Err(if offset.saturating_add(asked) > size { Fault::Cut(size) } else { Errno::ENODATA.into() })
    }

    /// Makes a checked request and waits on this thread until it ends, which wakes this thread.
    /// Returns `None` after the timeout: the request continues in the background.
    ///
    /// The outer result is that of the submission.
    pub(crate) fn transfer(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<Option<Result<Buffer, Fault>>, Fault> {
        let mut operation = self.submit_request(request)?;
        let end = Instant::now().checked_add(timeout);
        let ended = poll_fn(|context| match operation.poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if end.is_some_and(|end| end <= Instant::now()) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let Some(ended) = wait_until(ended, end) else { return Err(Errno::EDEADLK.into()) };
        if ended.is_none() {
            self.shared().give_up();
        }
        Ok(ended.map(|outcome| {
            let (buffer, outcome) = outcome?;
            outcome.map(|_| buffer)
        }))
    }

    /// Keeps the failure of a call, which closing the image tells unless somebody receives it.
    pub(crate) fn note_failure(&self, failed: Failed) -> Unheard {
        self.shared().failures().note(failed)
    }

    /// Submits a checked request. While the image is held, the request is kept and submitted later.
    pub(crate) fn submit_request(&self, request: Request) -> Result<Operation<io::Outcome>, Fault> {
        // SAFETY: the image is open, and it is closed only after all operations have left.
        unsafe { io::submit(self.shared(), request) }
    }

    pub(crate) fn flush(&self) -> RawResult<()> {
        self.shared().check_lease()?;
        // SAFETY: the image is open.
        self.locking(|| check(unsafe { sys::rbd_flush(self.as_ptr()) }))?;
        self.shared().check_lease()
    }

    pub(crate) fn invalidate_cache(&self) -> RawResult<()> {
        self.shared().check_lease()?;
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_invalidate_cache(self.as_ptr()) })?;
        Ok(())
    }
}
