//! Asynchronous I/O on an image.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::op::{ErrorQuery, Finish, Op, OperationContext};
use crate::buffer::{Buffer, total};
use crate::error::Result;
use crate::hints::AccessHints;
use crate::image::{Compare, Image};
use crate::raw;
use crate::raw::RawResult;
use crate::raw::ffi::late::LateResult;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Request;
use crate::raw::thread::worker::start;

/// Asynchronous I/O on an image: see [`Image::aio`].
///
/// Each method submits one operation and returns at once. Offsets and lengths are in bytes. A range
/// beyond the end of the image, or more than 1 GiB of data, is refused before anything is
/// submitted. Errors that only librbd can detect, such as a write to a read-only image, occur when
/// the operation completes. The future returns both kinds of errors.
///
/// After another client has resized the image, a method still returns at once. The range is then
/// checked when the new size is known, and the future fails with
/// [`OutOfRange`](crate::ErrorKind::OutOfRange) if it exceeds the image. A read-only image keeps
/// the size that it had when it was opened.
///
/// An operation costs one allocation for the state shared with librbd, besides the buffer of
/// [`read`](Aio::read). This crate does not copy the data.
#[derive(Debug, Clone, Copy)]
pub struct Aio<'a> {
    image: &'a Image,
    hints: AccessHints,
}

impl Image {
    /// Returns the group of asynchronous calls on this image. Operations neither borrow the image
    /// nor keep it open, and closing the image waits for them.
    ///
    /// ```no_run
    /// # async fn example(image: rbd::Image) -> rbd::Result<()> {
    /// use std::time::Duration;
    ///
    /// use rbd::image::Compare;
    ///
    /// image.aio().write(0, "hello ceph").timeout(Duration::from_secs(30)).await?;
    /// // Sixteen in flight: each has been submitted when its call returns.
    /// let reads: Vec<_> = (0..16).map(|block| image.aio().read(block * 4096, 4096)).collect();
    /// for read in reads {
    ///     println!("{} bytes", read.await?.len());
    /// }
    /// match image.aio().compare_and_write(0, "hello", "HELLO").await? {
    ///     Compare::Written => {}
    ///     Compare::Differs(offset) => println!("somebody was faster, see offset {offset}"),
    /// }
    /// image.aio().flush().await
    /// # }
    /// ```
    pub fn aio(&self) -> Aio<'_> {
        Aio { image: self, hints: AccessHints::empty() }
    }
}

impl Aio<'_> {
    /// Sets hints that tell the OSDs how the data will be used. A backup reads with
    /// `image.aio().hints(AccessHints::SEQUENTIAL | AccessHints::DONT_NEED)`.
    ///
    /// librbd has no hints for vectored reads and writes, discards and flushes.
    pub fn hints(self, hints: AccessHints) -> Self {
        Aio { hints, ..self }
    }

    /// Reads `len` bytes into a new buffer, which is not filled with zeros first.
    ///
    /// Implements: `rbd_aio_read2`.
    #[doc(alias = "rbd_aio_read")]
    #[doc(alias = "rbd_aio_read2")]
    pub fn read(self, offset: u64, len: usize) -> Op<Bytes> {
        let buffer = Buffer::BytesMut(BytesMut::new());
        self.submit(self.request(Kind::Read, offset, len as u64, buffer), |buffer, _| match buffer {
            Buffer::BytesMut(buffer) => buffer.freeze(),
            _ => unreachable!("the buffer comes back"),
        })
    }

    /// Reads `len` bytes, appends them to the buffer, and returns the buffer. Allocates only if the
    /// buffer's capacity is too small. If the read fails, the buffer is dropped.
    ///
    /// Implements: `rbd_aio_read2`.
    pub fn read_into(self, offset: u64, len: usize, buffer: BytesMut) -> Op<BytesMut> {
        let request = self.request(Kind::Read, offset, len as u64, Buffer::BytesMut(buffer));
        self.submit(request, |buffer, _| match buffer {
            Buffer::BytesMut(buffer) => buffer,
            _ => unreachable!("the buffer comes back"),
        })
    }

    /// Reads consecutive bytes into several buffers. Each buffer gets as many bytes as its length,
    /// which stays the same; its spare capacity is not used.
    ///
    /// More than eight buffers cost a second allocation.
    ///
    /// Implements: `rbd_aio_readv`.
    #[doc(alias = "rbd_aio_readv")]
    pub fn read_vectored(self, offset: u64, buffers: Vec<BytesMut>) -> Op<Vec<BytesMut>> {
        let len = total(&buffers);
        let request = self.request(Kind::Read, offset, len, Buffer::BytesMutVec(buffers));
        self.submit(request, |buffer, _| match buffer {
            Buffer::BytesMutVec(buffers) => buffers,
            _ => unreachable!("the buffers come back"),
        })
    }

    /// Writes all of the data. The operation keeps the data, without a copy, until it completes.
    /// With librbd's cache off, which is the default, the OSDs then have the data. With the cache
    /// and the policy `writeback`, a write can complete even if no OSD answers: only
    /// [`flush`](Aio::flush) makes it safe.
    ///
    /// Implements: `rbd_aio_write2`.
    #[doc(alias = "rbd_aio_write")]
    #[doc(alias = "rbd_aio_write2")]
    pub fn write(self, offset: u64, data: impl Into<Bytes>) -> Op<()> {
        let data = data.into();
        let len = data.len() as u64;
        self.submit(self.request(Kind::Write, offset, len, Buffer::Bytes(data)), nothing)
    }

    /// Writes the data of several buffers consecutively.
    ///
    /// More than eight buffers cost a second allocation.
    ///
    /// Implements: `rbd_aio_writev`.
    #[doc(alias = "rbd_aio_writev")]
    pub fn write_vectored(self, offset: u64, data: Vec<Bytes>) -> Op<()> {
        let len = total(&data);
        self.submit(self.request(Kind::Write, offset, len, Buffer::BytesVec(data)), nothing)
    }

    /// Frees the space of a range. librbd may skip parts of it: see [`Image::discard`].
    ///
    /// A long range is split into parts of up to 1 GiB and up to 4096 stripe units. After the
    /// future is dropped or timed out, no further part begins.
    ///
    /// Implements: `rbd_aio_discard`.
    #[doc(alias = "rbd_aio_discard")]
    pub fn discard(self, offset: u64, len: u64) -> Op<()> {
        self.submit(self.request(Kind::Discard, offset, len, Buffer::None), nothing)
    }

    /// Makes a range read as zeros, and frees its objects where possible. Long ranges are split as
    /// in [`discard`](Aio::discard).
    ///
    /// Implements: `rbd_aio_write_zeroes`.
    #[doc(alias = "rbd_aio_write_zeroes")]
    pub fn write_zeroes(self, offset: u64, len: u64) -> Op<()> {
        self.submit(self.request(Kind::WriteZeroes, offset, len, Buffer::None), nothing)
    }

    /// Makes a range read as zeros, and keeps its space allocated. Long ranges are split as in
    /// [`discard`](Aio::discard).
    ///
    /// Implements: `rbd_aio_write_zeroes` with `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
    pub fn write_zeroes_thick(self, offset: u64, len: u64) -> Op<()> {
        self.submit(self.request(Kind::WriteZeroesThick, offset, len, Buffer::None), nothing)
    }

    /// Fills a range of at most 1 GiB with repetitions of a pattern. The pattern's length must
    /// divide the range's length.
    ///
    /// Implements: `rbd_aio_writesame`.
    #[doc(alias = "rbd_aio_writesame")]
    pub fn write_same(self, offset: u64, len: u64, pattern: impl Into<Bytes>) -> Op<()> {
        let pattern = pattern.into();
        self.submit(self.request(Kind::WriteSame, offset, len, Buffer::Bytes(pattern)), nothing)
    }

    /// Writes `data` atomically if the range contains `expected`. Both must have the same length.
    /// The range must lie within one object (or one stripe unit of a striped image); with Ceph
    /// 16.2, within one sector of 512 bytes.
    ///
    /// Implements: `rbd_aio_compare_and_write`.
    #[doc(alias = "rbd_aio_compare_and_write")]
    pub fn compare_and_write(
        self,
        offset: u64,
        expected: impl Into<Bytes>,
        data: impl Into<Bytes>,
    ) -> Op<Compare> {
        let (expected, data) = (expected.into(), data.into());
        let len = data.len() as u64;
        let buffer = Buffer::Compare { expected, data };
        self.submit(self.request(Kind::CompareAndWrite, offset, len, buffer), found)
    }

    /// Compares and writes as [`compare_and_write`](Aio::compare_and_write) does, with several
    /// buffers each. Only the total lengths must be equal.
    ///
    /// Needs Ceph 18.2.
    ///
    /// Implements: `rbd_aio_compare_and_writev`.
    #[doc(alias = "rbd_aio_compare_and_writev")]
    pub fn compare_and_write_vectored(
        self,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
    ) -> Op<Compare> {
        let len = total(&data);
        let buffer = Buffer::CompareVec { expected, data };
        self.submit(self.request(Kind::CompareAndWrite, offset, len, buffer), found)
    }

    /// Waits until all completed writes are on the OSDs. With librbd's cache and the policy
    /// `writeback`, flush once at the start: see [`Image::flush`].
    ///
    /// Implements: `rbd_aio_flush`.
    #[doc(alias = "rbd_aio_flush")]
    pub fn flush(self) -> Op<()> {
        self.submit(self.request(Kind::Flush, 0, 0, Buffer::None), nothing)
    }

    /// Submits a call on the image as a whole.
    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(crate) fn about_image<T: 'static>(
        self,
        operation: &'static str,
        submit: impl FnOnce(&raw::image::Image) -> LateResult<raw::op::operation::Operation<T>>,
    ) -> Op<T> {
        self.call(operation, submit, Op::submitted)
    }

    /// Like [`about_image`](Self::about_image), for a call whose errnos depend on the answer to a
    /// query. The query is made before the call: after its end the image may be closed.
    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(crate) fn explained<T: 'static>(
        self,
        operation: &'static str,
        ask: impl FnOnce(&raw::image::Image) -> RawResult<ErrorQuery>,
        submit: impl FnOnce(&raw::image::Image) -> LateResult<raw::op::operation::Operation<T>>,
    ) -> Op<T> {
        let submit = |raw: &raw::image::Image| Ok((ask(raw)?, submit(raw)?));
        self.call(operation, submit, |(answer, op), about| Op::asked(op, answer, about))
    }

    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    fn call<T: 'static, S>(
        self,
        operation: &'static str,
        submit: impl FnOnce(&raw::image::Image) -> LateResult<S>,
        submitted: impl FnOnce(S, OperationContext) -> Op<T>,
    ) -> Op<T> {
        let about = self.about(operation, None);
        if let Err(error) = self.check_not_queued(operation) {
            return Op::ended(Err(error), about);
        }
        event!(about);
        match submit(self.image.raw()) {
            Ok(op) => submitted(op, about),
            Err(failure) => {
                event!(about, Some(&failure));
                // Another thread may just have created a queue.
                let error = self.check_not_queued(operation).err().unwrap_or_else(|| about.error_of(failure));
                Op::ended(Err(error), about)
            }
        }
    }

    /// Like [`explained`](Self::explained), for a call of librbd that waits for OSDs before it
    /// returns: a thread makes the call.
    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(crate) fn explained_later<T: Send + 'static>(
        self,
        operation: &'static str,
        ask: impl FnOnce(&raw::image::Image) -> RawResult<ErrorQuery> + Send + 'static,
        submit: impl FnOnce(&raw::image::Image) -> LateResult<raw::op::operation::Operation<T>> + Send + 'static,
    ) -> Op<T> {
        let about = self.about(operation, None);
        if let Err(error) = self.check_not_queued(operation) {
            return Op::ended(Err(error), about);
        }
        event!(about);
        let image = self.image.raw().share();
        match start(move || Ok((ask(&image)?, submit(&image)?))) {
            Ok(started) => Op::submitting(started, about),
            Err(errno) => {
                event!(about, Some(&errno));
                Op::ended(Err(about.error(errno)), about)
            }
        }
    }

    fn about(self, operation: &'static str, range: Option<(u64, u64)>) -> OperationContext {
        let patience = self.image.ioctx().cluster().raw().call_timeout();
        let explain = std::convert::identity;
        OperationContext { image: Arc::clone(self.image.label()), operation, range, explain, patience }
    }

    fn request(self, kind: Kind, offset: u64, len: u64, buffer: Buffer) -> Request {
        Request::new(kind, offset, len, self.hints, buffer)
    }

    /// Checks a request and submits it.
    fn submit<T: 'static>(self, request: Request, finish: Finish<T>) -> Op<T> {
        let kind = request.kind;
        let range = (kind != Kind::Flush).then_some((request.offset, request.len));
        let mut about = self.about(kind.name(), range);
        if !kind.moves_data() {
            // A long range is done part by part.
            let parts = u32::try_from(request.len >> 30).unwrap_or(u32::MAX).saturating_add(1);
            about.patience = about.patience.map(|patience| patience.saturating_mul(parts));
        }
        if let Err(error) = self.check_not_queued(kind.name()).and_then(|()| self.image.check(&request)) {
            return Op::ended(Err(error), about);
        }
        event!(about);
        match self.image.raw().submit_request(request) {
            Ok(op) => Op::of_request(op, kind, finish, about),
            Err(fault) => {
                event!(about, Some(&fault));
                // Another thread may just have created a queue.
                let queued = self.check_not_queued(kind.name()).err();
                Op::ended(Err(queued.unwrap_or_else(|| about.failure(kind, fault))), about)
            }
        }
    }

    fn check_not_queued(self, operation: &'static str) -> Result<()> {
        if !self.image.raw().is_queued() {
            return Ok(());
        }
        let why = "this image's completions go to a Queue; use that queue, or open the image again \
                   with `read_only(true)`";
        Err(self.image.refuse(operation, why))
    }
}

fn nothing(_: Buffer, _: Option<Compare>) {}

fn found(_: Buffer, compare: Option<Compare>) -> Compare {
    compare.expect("a compare-and-write that succeeded has a result")
}
