//! The operations that a queue accepts.

use bytes::{Bytes, BytesMut};

use super::{Buffer, Queue};
use crate::buffer::total;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::image::check::failure;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::{Fault, Request};
use crate::raw::queue::Entries;

impl Queue {
    /// Reads `len` bytes and appends them to the buffer. Allocates only if the buffer's capacity is
    /// too small.
    ///
    /// Implements: `rbd_aio_read2`.
    #[doc(alias = "rbd_aio_read")]
    #[doc(alias = "rbd_aio_read2")]
    pub fn read(&mut self, token: u64, offset: u64, len: usize, buffer: BytesMut) -> Result<()> {
        self.submit(Kind::Read, token, (offset, len as u64), buffer.into())
    }

    /// Reads consecutive bytes into several buffers. Each buffer gets as many bytes as its length,
    /// which stays the same; its spare capacity is not used. Completes with
    /// [`Buffer::BytesMutVec`].
    ///
    /// Implements: `rbd_aio_readv`.
    #[doc(alias = "rbd_aio_readv")]
    pub fn read_vectored(&mut self, token: u64, offset: u64, buffers: Vec<BytesMut>) -> Result<()> {
        self.submit(Kind::Read, token, (offset, total(&buffers)), buffers.into())
    }

    /// Writes the bytes of a `Bytes` or `BytesMut`, without its spare capacity. With librbd's cache
    /// off, which is the default, the OSDs have the data when the write completes. With the cache
    /// and the policy `writeback`, only a [`flush`](Queue::flush) makes it safe.
    ///
    /// Implements: `rbd_aio_write2`.
    #[doc(alias = "rbd_aio_write")]
    #[doc(alias = "rbd_aio_write2")]
    pub fn write(&mut self, token: u64, offset: u64, data: impl Into<Buffer>) -> Result<()> {
        let data = data.into();
        match data.one() {
            Some(bytes) => self.submit(Kind::Write, token, (offset, bytes.len() as u64), data),
            None => Err(self.misfit(Kind::Write, "one `Bytes` or `BytesMut`", data)),
        }
    }

    /// Writes the data of several buffers consecutively: a `Vec` of `Bytes` or of `BytesMut`.
    /// Completes with [`Buffer::BytesVec`] or [`Buffer::BytesMutVec`].
    ///
    /// Implements: `rbd_aio_writev`.
    #[doc(alias = "rbd_aio_writev")]
    pub fn write_vectored(&mut self, token: u64, offset: u64, data: impl Into<Buffer>) -> Result<()> {
        let data = data.into();
        match data.several() {
            Some((len, _)) => self.submit(Kind::Write, token, (offset, len), data),
            None => Err(self.misfit(Kind::Write, "a `Vec` of `Bytes` or of `BytesMut`", data)),
        }
    }

    /// Frees the space of a range. librbd may skip parts of it: see
    /// [`Image::discard`](crate::Image::discard). A long range is split: see
    /// [`Aio::discard`](crate::aio::Aio::discard). Each part begins when its predecessor is reaped.
    ///
    /// Implements: `rbd_aio_discard`.
    #[doc(alias = "rbd_aio_discard")]
    pub fn discard(&mut self, token: u64, offset: u64, len: u64) -> Result<()> {
        self.submit(Kind::Discard, token, (offset, len), Buffer::None)
    }

    /// Makes a range read as zeros, and frees its objects where possible. A long range is split:
    /// see [`Aio::discard`](crate::aio::Aio::discard). Each part begins when its predecessor is
    /// reaped.
    ///
    /// Implements: `rbd_aio_write_zeroes`.
    #[doc(alias = "rbd_aio_write_zeroes")]
    pub fn write_zeroes(&mut self, token: u64, offset: u64, len: u64) -> Result<()> {
        self.submit(Kind::WriteZeroes, token, (offset, len), Buffer::None)
    }

    /// Makes a range read as zeros, and keeps its space allocated.
    ///
    /// Implements: `rbd_aio_write_zeroes` with `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
    pub fn write_zeroes_thick(&mut self, token: u64, offset: u64, len: u64) -> Result<()> {
        self.submit(Kind::WriteZeroesThick, token, (offset, len), Buffer::None)
    }

    /// Fills a range of at most 1 GiB with repetitions of a pattern, a `Bytes` or `BytesMut`. The
    /// pattern's length must divide the range's length.
    ///
    /// Implements: `rbd_aio_writesame`.
    #[doc(alias = "rbd_aio_writesame")]
    pub fn write_same(
        &mut self,
        token: u64,
        offset: u64,
        len: u64,
        pattern: impl Into<Buffer>,
    ) -> Result<()> {
        let pattern = pattern.into();
        match pattern.one() {
            Some(_) => self.submit(Kind::WriteSame, token, (offset, len), pattern),
            None => Err(self.misfit(Kind::WriteSame, "one `Bytes` or `BytesMut`", pattern)),
        }
    }

    /// Writes `data` atomically if the range contains `expected`. Both must have the same length.
    /// [`Completion::compare`](super::Completion::compare) holds the outcome. Completes with
    /// [`Buffer::Compare`]. The range must lie within one object (or one stripe unit of a striped
    /// image); with Ceph 16.2, within one sector of 512 bytes.
    ///
    /// Implements: `rbd_aio_compare_and_write`.
    #[doc(alias = "rbd_aio_compare_and_write")]
    pub fn compare_and_write(
        &mut self,
        token: u64,
        offset: u64,
        expected: impl Into<Bytes>,
        data: impl Into<Bytes>,
    ) -> Result<()> {
        let (expected, data) = (expected.into(), data.into());
        let range = (offset, data.len() as u64);
        self.submit(Kind::CompareAndWrite, token, range, Buffer::Compare { expected, data })
    }

    /// Compares and writes as [`compare_and_write`](Queue::compare_and_write) does, with several
    /// buffers each. Only the total lengths must be equal. Completes with [`Buffer::CompareVec`].
    ///
    /// Needs Ceph 18.2.
    ///
    /// Implements: `rbd_aio_compare_and_writev`.
    #[doc(alias = "rbd_aio_compare_and_writev")]
    pub fn compare_and_write_vectored(
        &mut self,
        token: u64,
        offset: u64,
        expected: Vec<Bytes>,
        data: Vec<Bytes>,
    ) -> Result<()> {
        let range = (offset, total(&data));
        self.submit(Kind::CompareAndWrite, token, range, Buffer::CompareVec { expected, data })
    }

    /// Waits until all completed writes are on the OSDs. With librbd's cache and the policy
    /// `writeback`, flush once at the start: see [`Image::flush`](crate::Image::flush).
    ///
    /// Implements: `rbd_aio_flush`.
    #[doc(alias = "rbd_aio_flush")]
    pub fn flush(&mut self, token: u64) -> Result<()> {
        self.submit(Kind::Flush, token, (0, 0), Buffer::None)
    }

    fn submit(&mut self, kind: Kind, token: u64, (offset, len): (u64, u64), buffer: Buffer) -> Result<()> {
        let request = Request::new(kind, offset, len, self.hints, buffer);
        let checked = self.check_room(kind).and_then(|()| self.image().check(&request));
        if let Err(error) = checked {
            return Err(error.with_buffer(request.buffer));
        }
        self.submit_checked(kind, (offset, len), |entries| entries.submit(token, request))
    }

    pub(super) fn submit_checked(
        &mut self,
        kind: Kind,
        range: (u64, u64),
        submit: impl FnOnce(&mut Entries) -> Result<(), (Fault, Buffer)>,
    ) -> Result<()> {
        let (image, entries) = self.inner.parts_mut();
        #[cfg(feature = "tracing")]
        crate::events::submitted(super::subject(image, kind, range));
        submit(entries).map_err(|(fault, buffer)| {
            #[cfg(feature = "tracing")]
            crate::events::ended(super::subject(image, kind, range), Some(&fault));
            failure(image.label(), kind, range, fault).with_buffer(buffer)
        })
    }

    /// Refuses a buffer of a kind that the operation does not accept.
    fn misfit(&self, kind: Kind, takes: &str, buffer: Buffer) -> Error {
        let why = format!("it takes {takes}; pass the data in that form");
        self.image().refuse(kind.name(), why).with_buffer(buffer)
    }

    pub(super) fn check_room(&self, kind: Kind) -> Result<()> {
        let (image, entries) = self.inner.parts();
        if entries.room() > 0 {
            return Ok(());
        }
        let why = match entries.given_up() {
            0 => format!("all {} entries of the queue are in flight; reap first", entries.depth()),
            count => format!(
                "{} operations are in flight, and librbd still has {count} that were given up \
                 after their timeout; check that monitors and OSDs are up, then wait and reap, \
                 which makes room when librbd completes one",
                entries.in_flight()
            ),
        };
        let error = Error::new(kind.name(), image.object(), Errno::EAGAIN);
        Err(error.with_kind(ErrorKind::QueueFull).with_detail(why))
    }
}
