//! What can be submitted to a queue.

use bytes::{Bytes, BytesMut};

use super::{Buffer, Queue, Refused, failed, name};
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::raw::ffi::iovec::total;
use crate::raw::ffi::weak::{Failure, library_of};
use crate::raw::queue::{Entries, Memory, Request};

impl Queue {
    /// Reads `len` bytes and appends them to the buffer. Where its capacity has room for them nothing is allocated.
    ///
    /// Implements: `rbd_aio_read`.
    #[doc(alias = "rbd_aio_read")]
    pub fn read(&mut self, token: u64, offset: u64, len: usize, buffer: BytesMut) -> Result<(), Refused> {
        self.submit(Request::Read, token, (offset, len as u64), buffer.into())
    }

    /// Reads consecutive bytes into several buffers, overwriting each over its length (not its capacity). The list comes back
    /// as [`Buffer::BytesMutVec`].
    ///
    /// Implements: `rbd_aio_readv`.
    #[doc(alias = "rbd_aio_readv")]
    pub fn read_vectored(&mut self, token: u64, offset: u64, buffers: Vec<BytesMut>) -> Result<(), Refused> {
        self.submit(Request::Read, token, (offset, total(&buffers)), buffers.into())
    }

    /// Writes the whole buffer, one `Bytes` or `BytesMut`: its length, not its capacity. With librbd's cache it can end before an
    /// OSD has the data: [`flush`](Queue::flush) makes it safe.
    ///
    /// Implements: `rbd_aio_write`.
    #[doc(alias = "rbd_aio_write")]
    pub fn write(&mut self, token: u64, offset: u64, data: impl Into<Buffer>) -> Result<(), Refused> {
        let data = data.into();
        match data.one() {
            Some(bytes) => self.submit(Request::Write, token, (offset, bytes.len() as u64), data),
            None => Err(self.misfit(Request::Write, "one `Bytes` or `BytesMut`", data)),
        }
    }

    /// Writes the data of several buffers one behind the other: a `Vec` of `Bytes` or of `BytesMut`, which comes back as
    /// [`Buffer::BytesVec`] or [`Buffer::BytesMutVec`].
    ///
    /// Implements: `rbd_aio_writev`.
    #[doc(alias = "rbd_aio_writev")]
    pub fn write_vectored(
        &mut self,
        token: u64,
        offset: u64,
        data: impl Into<Buffer>,
    ) -> Result<(), Refused> {
        let data = data.into();
        match data.several() {
            Some((len, _)) => self.submit(Request::Write, token, (offset, len), data),
            None => Err(self.misfit(Request::Write, "a `Vec` of `Bytes` or of `BytesMut`", data)),
        }
    }

    /// Gives a range back, as far as librbd discards it: see [`Image::discard`]. A long range is not split: see
    /// [`Aio::discard`](crate::aio::Aio::discard).
    ///
    /// Implements: `rbd_aio_discard`.
    #[doc(alias = "rbd_aio_discard")]
    pub fn discard(&mut self, token: u64, offset: u64, len: u64) -> Result<(), Refused> {
        self.submit(Request::Discard, token, (offset, len), Buffer::None)
    }

    /// Makes a range read as zeros; objects are given back where that is possible. A long range is not split: see
    /// [`Aio::discard`](crate::aio::Aio::discard).
    ///
    /// Implements: `rbd_aio_write_zeroes`.
    #[doc(alias = "rbd_aio_write_zeroes")]
    pub fn write_zeroes(&mut self, token: u64, offset: u64, len: u64) -> Result<(), Refused> {
        self.submit(Request::WriteZeroes, token, (offset, len), Buffer::None)
    }

    /// Makes a range read as zeros and keeps space allocated for it.
    ///
    /// Implements: `rbd_aio_write_zeroes` with `RBD_WRITE_ZEROES_FLAG_THICK_PROVISION`.
    pub fn write_zeroes_thick(&mut self, token: u64, offset: u64, len: u64) -> Result<(), Refused> {
        self.submit(Request::WriteZeroesThick, token, (offset, len), Buffer::None)
    }

    /// Fills a range, of 1 GiB at most, with repetitions of a pattern: one `Bytes` or `BytesMut`, whose length must divide that
    /// of the range.
    ///
    /// Implements: `rbd_aio_writesame`.
    #[doc(alias = "rbd_aio_writesame")]
    pub fn write_same(
        &mut self,
        token: u64,
        offset: u64,
        len: u64,
        pattern: impl Into<Buffer>,
    ) -> Result<(), Refused> {
        let pattern = pattern.into();
        match pattern.one() {
            Some(_) => self.submit(Request::WriteSame, token, (offset, len), pattern),
            None => Err(self.misfit(Request::WriteSame, "one `Bytes` or `BytesMut`", pattern)),
        }
    }

    /// Writes `data` if the image holds `expected` there, both of the same length, in one step that nobody comes between.
    /// What was found is told by [`Completion::compare`](super::Completion::compare); both come back as [`Buffer::Compare`].
    /// Up to Ceph 16.2 the range must lie within one sector of 512 bytes, with newer releases within one object (within one
    /// stripe unit of a striped image).
    ///
    /// Implements: `rbd_aio_compare_and_write`.
    #[doc(alias = "rbd_aio_compare_and_write")]
    pub fn compare_and_write(
        &mut self,
        token: u64,
        offset: u64,
        expected: Bytes,
        data: Bytes,
    ) -> Result<(), Refused> {
        let range = (offset, data.len() as u64);
        self.submit(Request::CompareAndWrite, token, range, Buffer::Compare { expected, data })
    }

    /// [`compare_and_write`](Queue::compare_and_write) with what is expected and what is written in several buffers each;
    /// only the sums of their lengths must be equal. Both come back as [`Buffer::CompareVec`].
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
    ) -> Result<(), Refused> {
        let range = (offset, total(&data));
        self.submit(Request::CompareAndWrite, token, range, Buffer::CompareVec { expected, data })
    }

    /// Makes safe what was written and has ended before. Worth doing once before writing: see [`Image::flush`].
    ///
    /// Implements: `rbd_aio_flush`.
    #[doc(alias = "rbd_aio_flush")]
    pub fn flush(&mut self, token: u64) -> Result<(), Refused> {
        self.submit(Request::Flush, token, (0, 0), Buffer::None)
    }

    fn submit(
        &mut self,
        request: Request,
        token: u64,
        range: (u64, u64),
        buffer: Buffer,
    ) -> Result<(), Refused> {
        let (image, places) = self.inner.parts();
        if let Err(error) = check(image, places, request, range, &buffer) {
            return Err(Refused { error, buffer });
        }
        self.submit_checked(request, token, range, Memory::Owned(buffer))
    }

    /// On memory of the caller's, which has promised to keep it.
    pub(super) fn submit_foreign(
        &mut self,
        request: Request,
        token: u64,
        offset: u64,
        memory: &[*mut [u8]],
    ) -> Result<(), Refused> {
        let (image, places) = self.inner.parts();
        let len = memory.iter().fold(0_u64, |sum, part| sum.saturating_add(part.len() as u64));
        check_room(image, places, request)
            .and_then(|()| image.check_count(name(request), memory.len()))
            .and_then(|()| image.check_data(name(request), offset, len))
            .map_err(|error| Refused { error, buffer: Buffer::None })?;
        self.submit_checked(request, token, (offset, len), Memory::Foreign(memory))
    }

    fn submit_checked(
        &mut self,
        request: Request,
        token: u64,
        range: (u64, u64),
        memory: Memory<'_>,
    ) -> Result<(), Refused> {
        let (image, places) = self.inner.parts_mut();
        #[cfg(feature = "tracing")]
        crate::events::submitted(super::subject(image, request, range));
        places.submit(image.raw(), request, token, range, memory).map_err(|(failure, buffer)| {
            #[cfg(feature = "tracing")]
            crate::events::ended(super::subject(image, request, range), Some(&failure));
            let error = match failure {
                Failure::Errno(errno) => failed(image, request, range, errno),
                Failure::Missing { symbol, needs } => {
                    Error::unsupported(name(request), image.object(), symbol, needs, library_of(symbol))
                }
            };
            Refused { error, buffer }
        })
    }

    /// A buffer of a kind that the operation does not take.
    fn misfit(&self, request: Request, takes: &str, buffer: Buffer) -> Refused {
        let error = self.image().refuse(name(request), format!("it takes {takes}, no other kind of buffer"));
        Refused { error, buffer }
    }
}

fn check(
    image: &Image,
    places: &Entries,
    request: Request,
    (offset, len): (u64, u64),
    buffer: &Buffer,
) -> Result<()> {
    check_room(image, places, request)?;
    let operation = name(request);
    match (request, buffer) {
        (Request::Flush, _) => return Ok(()),
        (Request::Discard | Request::WriteZeroes | Request::WriteZeroesThick, _) => {
            return image.check_range_now(operation, offset, len);
        }
        (Request::WriteSame, pattern) => {
            image.check_pattern(pattern.one().map_or(0, |bytes| bytes.len() as u64), len)?;
        }
        (_, Buffer::Compare { expected, .. }) => image.check_same_length(expected.len() as u64, len)?,
        (_, Buffer::CompareVec { expected, data }) => {
            image.check_count(operation, expected.len())?;
            image.check_count(operation, data.len())?;
            image.check_same_length(total(expected), len)?;
        }
        (_, buffers) => {
            if let Some((_, count)) = buffers.several() {
                image.check_count(operation, count)?;
            }
        }
    }
    image.check_data(operation, offset, len)
}

fn check_room(image: &Image, places: &Entries, request: Request) -> Result<()> {
    if places.room() > 0 {
        return Ok(());
    }
    let why = match places.given_up() {
        0 => format!("all {} operations of the queue are in flight: reap first", places.depth()),
        count => format!(
            "{} operations are in flight, and {count} were given up on at their deadline, which librbd still has: check that \
             monitors and OSDs are up, then wait and reap, which makes room when librbd lets go of one",
            places.in_flight()
        ),
    };
    Err(Error::new(name(request), image.object(), Errno::EAGAIN).with_detail(why))
}
