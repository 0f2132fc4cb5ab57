//! An image as a stream for tokio: reads run ahead, writes are left behind.

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
/// Holds the image itself, a reference, or an `Arc` of it. Needs no runtime of tokio's, only its
/// traits.
///
/// Reading keeps several chunks in flight ahead of the position, and writing several behind it. A
/// failed write is reported once, by a later write, read or flush: **flush (or shut down) before
/// dropping it**, or what is not written yet is lost without a word. Reads see what was written
/// before through the same stream, and of two writes to one place the later one stays; what others
/// write meanwhile reads may miss, as far as it was read ahead.
///
/// Nothing here blocks, but for the exception at [`Aio`](crate::aio::Aio): reading at the old end
/// of an image, or seeking from its end, may wait for the new size after another client has resized
/// it.
///
/// There is no deadline here: wrap it in `tokio::time::timeout`; what is in flight goes on by
/// itself.
///
/// Each seek to another place starts to read ahead anew, in whole chunks: for access at random,
/// [`Image::aio`] is the way.
///
/// It has one position, for reading and writing, and wakes one task: rather than splitting it into
/// halves for two tasks, give each a cursor of its own on the same image.
///
/// ```no_run
/// # use tokio::io::AsyncRead;
/// # async fn example(image: rbd::Image, mut file: impl AsyncRead + Unpin) -> std::io::Result<()> {
/// use tokio::io::AsyncWriteExt;
///
/// let mut stream = rbd::aio::AsyncCursor::new(&image).depth(8);
/// tokio::io::copy(&mut file, &mut stream).await?;
/// stream.flush().await
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncCursor<I> {
    image: I,
    /// Of the next byte read or written.
    position: u64,
    chunk: usize,
    depth: usize,
    ahead: VecDeque<Op<Bytes>>,
    /// Where the reads ahead end.
    ahead_end: u64,
    /// Read and not asked for yet.
    rest: Bytes,
    /// Written and not submitted yet; it ends at the position.
    partial: BytesMut,
    behind: VecDeque<Behind>,
    flush: Option<Op<()>>,
    /// Something was written since the flush was submitted.
    unflushed: bool,
    seek: Option<u64>,
}

/// A write in flight, and the range of it.
#[derive(Debug)]
struct Behind {
    range: Range<u64>,
    write: Op<()>,
}

impl<I: Borrow<Image>> AsyncCursor<I> {
    /// Starts at the image's first byte, with four chunks of 1 MiB in flight.
    pub fn new(image: I) -> AsyncCursor<I> {
        AsyncCursor {
            image,
            position: 0,
            chunk: 1 << 20,
            depth: 4,
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

    /// How many chunks may be in flight: at least 1 (0 is taken for it), which means no reading
    /// ahead.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.max(1);
        self
    }

    /// The size of a chunk in bytes; below 512 and above 64 MiB the nearest of these is taken.
    pub fn chunk(mut self, bytes: usize) -> Self {
        // That it overlaps nothing in flight was found for a chunk of the old size.
        self.submit_partial();
        self.chunk = bytes.clamp(512, 64 << 20);
        self
    }

    /// Gives the image back. What is not flushed yet is lost: see [above](AsyncCursor).
    pub fn into_inner(self) -> I {
        self.image
    }

    /// The offset in bytes of the next read or write.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn image(&self) -> &Image {
        self.image.borrow()
    }

    /// Forgets what was read ahead.
    fn forget_ahead(&mut self) {
        self.ahead.clear();
        self.rest.clear();
        self.ahead_end = self.position;
    }

    /// Submits what was written, whether it fills a chunk or not.
    fn submit_partial(&mut self) {
        if !self.partial.is_empty() {
            let data = self.partial.split().freeze();
            let range = self.position - data.len() as u64..self.position;
            let write = self.image().aio().write(range.start, data);
            self.behind.push_back(Behind { range, write });
        }
    }

    /// Waits until at most `most` writes are behind.
    fn poll_behind(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        while self.behind.len() > most {
            let Some(first) = self.behind.front_mut() else { break };
            let outcome = ready!(Pin::new(&mut first.write).poll(context));
            self.behind.pop_front();
            outcome?;
        }
        Poll::Ready(Ok(()))
    }

    /// Submits what was written and waits for it.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.submit_partial();
        self.poll_behind(context, 0)
    }
}

/// How many bytes of a write lie within the image. None are an error, which the check gives.
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
    // The image was found to be larger than a moment ago: all of it lies within.
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
            while this.ahead.len() < this.depth && this.ahead_end < size {
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
                    // What follows lies behind the gap: the next read begins anew.
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

/// Writing at the end of the image fails: an image does not grow by itself.
impl<I: Borrow<Image> + Unpin> AsyncWrite for AsyncCursor<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_behind(context, this.depth - 1))?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.forget_ahead();
        let (position, image) = (this.position, this.image());
        let check = || image.check_range_now(Kind::Write, position, data.len() as u64);
        let room = room(position, data.len(), |end| image.size_now(end), check)?;
        if this.partial.is_empty() {
            // Nobody says in which order two writes to one place end that are in flight at once.
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

    /// Waits until all that was written is safe.
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
            // One that nobody waited for to the end does not cover what was written after it.
            if !this.unflushed {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Flushes; the image stays open.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// As for files, a position behind the end is allowed: reads give nothing there, and writes fail.
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
    fn a_write_has_room_a_part_of_it_or_an_error_but_never_none() {
        let failed =
            || Err(Error::invalid("write", Object::new(ObjectKind::Image, "rbd/foo"), "behind the end"));
        assert_eq!(room(6, 4, |_| Ok(10), failed).unwrap(), 4);
        assert_eq!(room(8, 4, |_| Ok(10), failed).unwrap(), 2);
        assert!(room(10, 4, |_| Ok(10), failed).is_err());
        assert!(room(u64::MAX, 4, |_| Ok(10), failed).is_err());
        // Another client made it larger, and we learn of it in between: `write_all` would take 0
        // for the end of all writing.
        assert_eq!(room(10, 4, |_| Ok(10), || Ok(())).unwrap(), 4);
    }
}
