//! Asynchronous I/O on an open image: what each operation owns, and the calls. Ranges are checked by the caller.

use std::cell::UnsafeCell;
use std::ffi::c_int;

use bytes::{Bytes, BytesMut};
use librbd_sys as sys;

use crate::errno::Errno;
use crate::hints::AccessHints;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check_len;
use crate::raw::ffi::iovec::Iovecs;
use crate::raw::ffi::weak::{LateResult, need};
use crate::raw::image::Image;
use crate::raw::image::io::{Compare, differs_at};
use crate::raw::op::operation::{Operation, Payload};

/// A read of fewer bytes than were asked for, which happens when the image shrinks at the same time.
pub(crate) const SHORT: Errno = Errno::ENODATA;

/// A read into the spare capacity of a buffer.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    buffer: BytesMut,
    len: usize,
}

/// The same, for a buffer that is ours and is given away as it is.
#[derive(Debug)]
pub(crate) struct ReadBytes(ReadBuffer);

/// A read into several buffers, over the length of each.
#[derive(Debug)]
pub(crate) struct ReadBuffers {
    buffers: Vec<BytesMut>,
    len: usize,
    iovecs: Iovecs,
}

/// An operation that only reads its buffers, or has none.
#[derive(Debug)]
pub(crate) struct Done<B> {
    buffers: B,
}

/// Data in several buffers.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Never read by us: the array points to them.
    _buffers: Vec<Bytes>,
    iovecs: Iovecs,
}

/// A compare-and-write: what is expected, what is written, and where the first difference was found.
#[derive(Debug)]
pub(crate) struct Comparison<B> {
    expected: B,
    data: B,
    offset: u64,
    stripe_unit: u64,
    /// Where librbd reports the difference.
    differs: UnsafeCell<u64>,
}

impl Payload for ReadBuffer {
    type Output = BytesMut;

    fn finish(mut self, result: isize) -> RawResult<BytesMut> {
        if check_len(result)? != self.len {
            return Err(SHORT);
        }
        let len = self.buffer.len() + self.len;
        // SAFETY: librbd has written all the bytes that were asked for behind the old length, where room was reserved.
        unsafe { self.buffer.set_len(len) };
        Ok(self.buffer)
    }
}

impl Payload for ReadBytes {
    type Output = Bytes;

    fn finish(self, result: isize) -> RawResult<Bytes> {
        self.0.finish(result).map(BytesMut::freeze)
    }
}

impl Payload for ReadBuffers {
    type Output = Vec<BytesMut>;

    fn finish(self, result: isize) -> RawResult<Vec<BytesMut>> {
        if check_len(result)? == self.len { Ok(self.buffers) } else { Err(SHORT) }
    }
}

impl<B: Send + 'static> Payload for Done<B> {
    type Output = ();

    fn finish(self, result: isize) -> RawResult<()> {
        check_len(result).map(drop)
    }
}

impl<B: Send + 'static> Payload for Comparison<B> {
    type Output = Compare;

    fn finish(self, result: isize) -> RawResult<Compare> {
        match check_len(result) {
            Ok(_) => Ok(Compare::Written),
            Err(Errno::EILSEQ) => {
                let reported = self.differs.into_inner();
                Ok(Compare::Differs(differs_at(self.offset, reported, self.stripe_unit)))
            }
            Err(errno) => Err(errno),
        }
    }
}

impl Gathered {
    pub(crate) fn new(buffers: Vec<Bytes>) -> Gathered {
        Gathered {
            iovecs: Iovecs::new(buffers.iter().map(|buffer| (buffer.as_ptr(), buffer.len()))),
            _buffers: buffers,
        }
    }
}

impl Image {
    /// Submits a call that this image counts as in flight.
    ///
    /// # Safety
    /// As for [`Operation::submit`]; the call must be on this image.
    pub(in crate::raw) unsafe fn submit<P: Payload>(
        &self,
        payload: P,
        call: impl FnOnce(*mut P, sys::rbd_completion_t) -> c_int,
    ) -> RawResult<Operation<P::Output>> {
        // SAFETY: the image is closed, and the target freed, after all operations have left.
        unsafe { Operation::submit(Some(&self.shared().target), payload, call) }
    }

    pub(crate) fn aio_read(
        &self,
        offset: u64,
        len: usize,
        hints: AccessHints,
    ) -> RawResult<Operation<Bytes>> {
        let mut buffer = BytesMut::with_capacity(len);
        let target = buffer.spare_capacity_mut().as_mut_ptr();
        // SAFETY: as for `aio_read_into`.
        unsafe {
            self.submit(ReadBytes(ReadBuffer { buffer, len }), |_, completion| {
                sys::rbd_aio_read2(self.as_ptr(), offset, len, target.cast(), completion, hints.bits() as i32)
            })
        }
    }

    /// Appends `len` bytes to the buffer.
    pub(crate) fn aio_read_into(
        &self,
        offset: u64,
        len: usize,
        mut buffer: BytesMut,
        hints: AccessHints,
    ) -> RawResult<Operation<BytesMut>> {
        buffer.reserve(len);
        let target = buffer.spare_capacity_mut().as_mut_ptr();
        // SAFETY: the spare capacity has room for `len` bytes. It stays where it is when the BytesMut is moved, and the
        // operation owns that until the completion has run.
        unsafe {
            self.submit(ReadBuffer { buffer, len }, |_, completion| {
                sys::rbd_aio_read2(self.as_ptr(), offset, len, target.cast(), completion, hints.bits() as i32)
            })
        }
    }

    /// Overwrites the buffers, which are `len` bytes in sum.
    pub(crate) fn aio_readv(
        &self,
        offset: u64,
        len: usize,
        mut buffers: Vec<BytesMut>,
    ) -> RawResult<Operation<Vec<BytesMut>>> {
        let iovecs =
            Iovecs::new(buffers.iter_mut().map(|buffer| (buffer.as_mut_ptr().cast_const(), buffer.len())));
        // SAFETY: the operation owns buffers and array, neither of which moves in memory, until the completion has run.
        // librbd writes within the length of each.
        unsafe {
            self.submit(ReadBuffers { buffers, len, iovecs }, |payload, completion| {
                let (array, count) = (*payload).iovecs.as_raw();
                sys::rbd_aio_readv(self.as_ptr(), array, count, offset, completion)
            })
        }
    }

    pub(crate) fn aio_write(&self, offset: u64, data: Bytes, hints: AccessHints) -> RawResult<Operation<()>> {
        let (start, len) = (data.as_ptr(), data.len());
        // SAFETY: the operation owns the data, which stays where it is when the Bytes is moved, until the completion has
        // run. Its length is passed, not a capacity.
        unsafe {
            self.submit(Done { buffers: data }, |_, completion| {
                sys::rbd_aio_write2(self.as_ptr(), offset, len, start.cast(), completion, hints.bits() as i32)
            })
        }
    }

    pub(crate) fn aio_writev(&self, offset: u64, data: Gathered) -> RawResult<Operation<()>> {
        // SAFETY: as for `aio_readv`; librbd only reads.
        unsafe {
            self.submit(Done { buffers: data }, |payload, completion| {
                let (array, count) = (*payload).buffers.iovecs.as_raw();
                sys::rbd_aio_writev(self.as_ptr(), array, count, offset, completion)
            })
        }
    }

    pub(crate) fn aio_discard(&self, offset: u64, len: u64) -> RawResult<Operation<()>> {
        // SAFETY: no memory but the completion is passed.
        unsafe {
            self.submit(Done { buffers: () }, |_, completion| {
                sys::rbd_aio_discard(self.as_ptr(), offset, len, completion)
            })
        }
    }

    pub(crate) fn aio_write_zeroes(
        &self,
        offset: u64,
        len: usize,
        thick: bool,
        hints: AccessHints,
    ) -> RawResult<Operation<()>> {
        let flags = if thick { sys::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION as i32 } else { 0 };
        // SAFETY: no memory but the completion is passed.
        unsafe {
            self.submit(Done { buffers: () }, |_, completion| {
                sys::rbd_aio_write_zeroes(self.as_ptr(), offset, len, completion, flags, hints.bits() as i32)
            })
        }
    }

    pub(crate) fn aio_write_same(
        &self,
        offset: u64,
        len: usize,
        pattern: Bytes,
        hints: AccessHints,
    ) -> RawResult<Operation<()>> {
        let (start, unit) = (pattern.as_ptr(), pattern.len());
        // SAFETY: as for `aio_write`.
        unsafe {
            self.submit(Done { buffers: pattern }, |_, completion| {
                sys::rbd_aio_writesame(
                    self.as_ptr(),
                    offset,
                    len,
                    start.cast(),
                    unit,
                    completion,
                    hints.bits() as i32,
                )
            })
        }
    }

    /// `expected` and `data` must have the same length.
    pub(crate) fn aio_compare_and_write(
        &self,
        offset: u64,
        expected: Bytes,
        data: Bytes,
        hints: AccessHints,
    ) -> RawResult<Operation<Compare>> {
        if expected.len() != data.len() {
            return Err(Errno::EINVAL);
        }
        let stripe_unit = self.stripe_unit()?;
        let payload = Comparison { expected, data, offset, stripe_unit, differs: UnsafeCell::new(0) };
        // SAFETY: the operation owns both buffers, which are as long as is said, and the place for the difference, until
        // the completion has run.
        unsafe {
            self.submit(payload, |payload, completion| {
                let (expected, data) = (&(*payload).expected, &(*payload).data);
                let code = sys::rbd_aio_compare_and_write(
                    self.as_ptr(),
                    offset,
                    data.len(),
                    expected.as_ptr().cast(),
                    data.as_ptr().cast(),
                    completion,
                    (*payload).differs.get(),
                    hints.bits() as i32,
                );
                code as c_int
            })
        }
    }

    /// `expected` and `data` must be equally long in sum.
    pub(crate) fn aio_compare_and_writev(
        &self,
        offset: u64,
        expected: Gathered,
        data: Gathered,
        hints: AccessHints,
    ) -> LateResult<Operation<Compare>> {
        let compare_and_writev = need(&sys::late::rbd_aio_compare_and_writev)?;
        let stripe_unit = self.stripe_unit()?;
        let payload = Comparison { expected, data, offset, stripe_unit, differs: UnsafeCell::new(0) };
        // SAFETY: as for `aio_compare_and_write` and `aio_writev`.
        let op = unsafe {
            self.submit(payload, |payload, completion| {
                let (expected, expected_count) = (*payload).expected.iovecs.as_raw();
                let (data, data_count) = (*payload).data.iovecs.as_raw();
                let differs = (*payload).differs.get();
                let code = compare_and_writev(
                    self.as_ptr(),
                    offset,
                    expected,
                    expected_count,
                    data,
                    data_count,
                    completion,
                    differs,
                    hints.bits() as i32,
                );
                code as c_int
            })
        };
        Ok(op?)
    }

    pub(crate) fn aio_flush(&self) -> RawResult<Operation<()>> {
        // SAFETY: no memory but the completion is passed.
        unsafe {
            self.submit(Done { buffers: () }, |_, completion| sys::rbd_aio_flush(self.as_ptr(), completion))
        }
    }
}
