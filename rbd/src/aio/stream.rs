//! An image as a tokio stream, with read-ahead and write-behind.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::aio::Op;
use crate::error::Result;
use crate::image::Image;
use crate::raw::op::kind::Kind;

/// A position in an image, for code that wants tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek`.
///
/// A cursor holds an image, a reference to one, or an `Arc` of one. It uses only tokio's traits and
/// needs no tokio runtime.
///
/// Reads keep several chunks in flight ahead of the position, and writes several behind it. A
/// failed write is reported once, by a later write, read or flush. **Flush (or shut down) before
/// you drop the cursor**, or unwritten data is lost silently. Reads see earlier writes of the same
/// cursor, and the later of two writes to one place wins. A read may miss another client's writes
/// to data that was read ahead.
///
/// Calls do not block, with one exception: after another client has resized the image, reading or
/// writing at its old end, or seeking from its end, may wait for the new size. In a wake on a
/// thread of librbd, where waiting is not possible, such a call fails with `EDEADLK`.
///
/// The cursor has no timeout: wrap calls in `tokio::time::timeout`. Operations in flight then
/// complete in the background.
///
/// Each seek to another place restarts read-ahead in whole chunks. Use [`Image::aio`] for random
/// access.
///
/// A cursor has one position for reading and writing, and wakes one task. Give each task its own
/// cursor on the same image instead of splitting one into halves.
///
/// ```no_run
/// # use tokio::io::AsyncRead;
/// # async fn example(image: rbd::Image, mut file: impl AsyncRead + Unpin) -> std::io::Result<()> {
/// use tokio::io::AsyncWriteExt;
///
/// let mut stream = rbd::aio::AsyncCursor::new(&image).max_in_flight(8);
/// tokio::io::copy(&mut file, &mut stream).await?;
/// stream.flush().await
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncCursor<I> {
    image: I,
    /// The position of the next byte read or written.
    position: u64,
    chunk: usize,
    max_in_flight: usize,
    ahead: VecDeque<Op<Bytes>>,
    /// The end of the read-ahead.
    ahead_end: u64,
    /// Data that was read but not yet returned.
    rest: Bytes,
    /// Data that was written but not yet submitted; it ends at the position.
    partial: BytesMut,
    behind: VecDeque<Behind>,
    flush: Option<Op<()>>,
    /// Whether something was written since the flush was submitted.
    unflushed: bool,
    seek: Option<u64>,
}

/// A write in flight and its range.
#[derive(Debug)]
struct Behind {
    range: Range<u64>,
    write: Op<()>,
}

impl<I: Borrow<Image>> AsyncCursor<I> {
    /// Creates a cursor at the image's first byte, with four chunks of 1 MiB in flight.
    pub fn new(image: I) -> AsyncCursor<I> {
        AsyncCursor {
            image,
            position: 0,
            chunk: 1 << 20,
            max_in_flight: 4,
            ahead: VecDeque::new(),
            ahead_end: 0,
            rest: Bytes::new(),
            partial: BytesMut::new(),
            behind: VecDeque::new(),
            flush: None,
            unflushed: false,
            seek: None,
        }
    }

    /// Sets how many chunks may be in flight. 1 means no read-ahead, and 0 is treated as 1.
    /// Default: 4. At most 65536 chunks and 1 GiB are in flight, whatever is set here.
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight.max(1);
        self
    }

    /// Sets the size of a chunk in bytes. A size outside the range from 512 bytes to 64 MiB becomes
    /// the nearest limit. Default: 1 MiB.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        // The check for overlaps with writes in flight used the old chunk size.
        self.submit_partial();
        self.chunk = bytes.clamp(512, 64 << 20);
        self
    }

    /// Returns the image. Unflushed data is lost: see [above](AsyncCursor).
    pub fn into_inner(self) -> I {
        self.image
    }

    /// Returns the offset in bytes of the next read or write.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn image(&self) -> &Image {
        self.image.borrow()
    }

    fn depth(&self) -> usize {
        depth(self.max_in_flight, self.chunk)
    }

    /// Drops the data that was read ahead.
    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.rest.clear();
        self.ahead_end = self.position;
    }

    /// Submits the written data, even if it does not fill a chunk.
    fn submit_partial(&mut self) {
        if !self.partial.is_empty() {
            let data = self.partial.split().freeze();
            let range = self.position - data.len() as u64..self.position;
            let write = self.image().aio().write(range.start, data);
            self.behind.push_back(Behind { range, write });
        }
    }

    /// Waits until at most `most` writes are in flight.
    fn poll_behind(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        while self.behind.len() > most {
            let Some(first) = self.behind.front_mut() else { break };
            let outcome = ready!(Pin::new(&mut first.write).poll(context));
            self.behind.pop_front();
            outcome?;
        }
        Poll::Ready(Ok(()))
    }

    /// Submits the written data and waits for it.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.submit_partial();
        self.poll_behind(context, 0)
    }
}

/// Returns how many chunks may be in flight: never so many that memory cannot hold them.
fn depth(wanted: usize, chunk: usize) -> usize {
    wanted.min(1 << 16).min((1 << 30) / chunk)
}

/// Returns how many bytes of a write fit into the image. If none do, returns the error of the range
/// check.
fn room(
    position: u64,
    len: usize,
    size: impl FnOnce(u64) -> Result<u64>,
    check: impl FnOnce() -> Result<()>,
) -> Result<usize> {
    let end = position.saturating_add(len as u64);
    let room = size(end)?.min(end).saturating_sub(position);
    if room > 0 {
        return Ok(room as usize);
    }
    check()?;
    // The image has grown meanwhile, and the whole write fits.
    Ok(len)
}

impl<I: Borrow<Image> + Unpin> AsyncRead for AsyncCursor<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_written(context))?;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.rest.is_empty() {
            let size = this.image().size_now(this.position.saturating_add(1))?;
            if this.ahead.is_empty() {
                this.ahead_end = this.position;
            }
            while this.ahead.len() < this.depth() && this.ahead_end < size {
                let len = (size - this.ahead_end).min(this.chunk as u64);
                let op = this.image().aio().read(this.ahead_end, len as usize);
                this.ahead.push_back(op);
                this.ahead_end += len;
            }
            let Some(first) = this.ahead.front_mut() else { return Poll::Ready(Ok(())) };
            let outcome = ready!(Pin::new(first).poll(context));
            this.ahead.pop_front();
            match outcome {
                Ok(data) => this.rest = data,
                Err(error) => {
                    // The rest lies beyond the gap: the next read restarts.
                    this.forget_ahead();
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        let len = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..len]);
        this.rest.advance(len);
        this.position += len as u64;
        Poll::Ready(Ok(()))
    }
}

/// Writing at the end of the image fails, because an image does not grow.
impl<I: Borrow<Image> + Unpin> AsyncWrite for AsyncCursor<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_behind(context, this.depth() - 1))?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.forget_ahead();
        let (position, image) = (this.position, this.image());
        let check = || image.check_range_now(Kind::Write, position, data.len() as u64);
        let room = room(position, data.len(), |end| image.size_now(end), check)?;
        if this.partial.is_empty() {
            // The order of two overlapping writes in flight is undefined.
            let chunk = this.position..this.position.saturating_add(this.chunk as u64);
            let overlaps = |behind: &Behind| behind.range.start < chunk.end && chunk.start < behind.range.end;
            if this.behind.iter().any(overlaps) {
                ready!(this.poll_behind(context, 0))?;
            }
            this.partial.reserve(this.chunk);
        }
        this.unflushed = true;
        let len = room.min(this.chunk - this.partial.len());
        this.partial.extend_from_slice(&data[..len]);
        this.position += len as u64;
        if this.partial.len() == this.chunk {
            this.submit_partial();
        }
        Poll::Ready(Ok(len))
    }

    /// Waits until all written data is safe.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_written(context))?;
        loop {
            let Some(flush) = &mut this.flush else {
                this.flush = Some(this.image().aio().flush());
                this.unflushed = false;
                continue;
            };
            let outcome = ready!(Pin::new(flush).poll(context));
            this.flush = None;
            outcome?;
            // An unfinished earlier flush does not cover later writes.
            if !this.unflushed {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Flushes. The image stays open.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// As with files, a position beyond the end is allowed. Reads return 0 there, and writes fail.
impl<I: Borrow<Image> + Unpin> AsyncSeek for AsyncCursor<I> {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => this.position.checked_add_signed(by),
            SeekFrom::End(by) => this.image().size_now(u64::MAX)?.checked_add_signed(by),
        };
        let out_of_bounds =
            || io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start of the image");
        this.seek = Some(target.ok_or_else(out_of_bounds)?);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        if let Some(target) = this.seek.take() {
            this.submit_partial();
            if target != this.position {
                this.position = target;
                this.forget_ahead();
            }
        }
        Poll::Ready(Ok(this.position))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::{Error, Object, ObjectKind};

    #[test]
    fn memory_holds_what_is_in_flight() {
        for (wanted, chunk, expected) in [
            (1, 64 << 20, 1),
            (4, 1 << 20, 4),
            (usize::MAX, 512, 1 << 16),
            (usize::MAX, 1 << 20, 1 << 10),
            (usize::MAX, 64 << 20, 16),
        ] {
            assert_eq!(depth(wanted, chunk), expected);
        }
    }

    #[test]
    fn a_write_has_room_a_part_of_it_or_an_error_but_never_none() {
        let failed =
            || Err(Error::invalid("write", Object::new(ObjectKind::Image, "rbd/foo"), "behind the end"));
        assert_eq!(room(6, 4, |_| Ok(10), failed).unwrap(), 4);
        assert_eq!(room(8, 4, |_| Ok(10), failed).unwrap(), 2);
        assert!(room(10, 4, |_| Ok(10), failed).is_err());
        assert!(room(u64::MAX, 4, |_| Ok(10), failed).is_err());
        // Another client enlarges the image meanwhile. `write_all` would take 0 for the end of
        // writing.
        assert_eq!(room(10, 4, |_| Ok(10), || Ok(())).unwrap(), 4);
    }
}
