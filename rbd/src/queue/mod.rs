//! A queue of operations for whoever owns an event loop.

mod drain;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::raw;
use crate::raw::image_io::MOST;
use crate::raw::queue::{Places, Reaped, Request};

pub use crate::raw::queue::Buffer;
use drain::Drained;

/// Asynchronous I/O on an image for an event loop: a fixed number of operations in flight, reaped in batches, announced by a
/// file descriptor (an eventfd) that fits epoll, `io_uring` and the like.
///
/// Compared with the futures of [`Image::aio`] there is no allocation per operation, and no wake from thread to thread: the
/// loop finds the ends of operations when it comes round. Buffers are handed in and come back, to be used again.
///
/// Back-pressure is the caller's: [`room`](Queue::room) says how many more operations fit, and one too many is
/// [refused](Refused) with its buffer.
///
/// The queue owns its image, whose management calls and blocking I/O are at [`image`](Queue::image). Dropping the queue
/// waits for what is in flight and closes the image; on a thread of librbd's both happen elsewhere.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::BytesMut;
/// use rbd::{Buffer, Queue};
///
/// let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let mut queue = Queue::new(image, 32)?;
/// for block in 0..32 {
///     queue.read(block, block * 4096, 4096, BytesMut::with_capacity(4096))?;
/// }
/// while queue.in_flight() > 0 {
///     queue.wait(None)?; // or let epoll watch `queue.as_fd()`
///     while let Some(end) = queue.reap() {
///         let Buffer::BytesMut(data) = end.buffer else { unreachable!() };
///         println!("block {}: {:?}, {} bytes", end.token, end.result, data.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Queue {
    inner: Drained,
}

/// An operation that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion {
    /// What the operation was submitted with.
    pub token: u64,
    /// How it ended.
    pub result: Result<()>,
    /// Its buffer; after a read the data has been appended.
    pub buffer: Buffer,
}

/// An operation that was not submitted, with its buffer.
#[derive(Debug)]
pub struct Refused {
    /// Why: [`is_full`](Refused::is_full), or the request was wrong.
    pub error: Error,
    /// What it was to be done with.
    pub buffer: Buffer,
}

impl Refused {
    /// Nothing is wrong but the moment: reap first.
    pub fn is_full(&self) -> bool {
        self.error.errno() == Some(Errno::EAGAIN)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<BytesMut> for Buffer {
    fn from(buffer: BytesMut) -> Buffer {
        Buffer::BytesMut(buffer)
    }
}

impl From<Bytes> for Buffer {
    fn from(buffer: Bytes) -> Buffer {
        Buffer::Bytes(buffer)
    }
}

impl Queue {
    /// Takes over an image, with room for `depth` operations in flight: from 1 to 65536.
    ///
    /// Refused while [asynchronous operations](Image::aio) are in flight on the image. Does not block.
    ///
    /// Implements: `rbd_set_image_notification`.
    #[doc(alias = "rbd_set_image_notification")]
    pub fn new(mut image: Image, depth: usize) -> Result<Queue> {
        let refuse = |why: String| Err(image.refuse("make a queue of", why));
        let Ok(depth @ 1..=0x1_0000) = u32::try_from(depth) else {
            return refuse(format!("a depth of {depth}: it must be from 1 to 65536"));
        };
        if image.raw().is_busy() {
            return refuse("it has asynchronous operations in flight: wait for them first".to_owned());
        }
        let places = Places::new(image.raw_mut(), depth)
            .map_err(|errno| Error::new("make a queue of", image.object(), errno))?;
        Ok(Queue { inner: Drained::new(image, places) })
    }

    /// The image: its management calls and blocking I/O can be used meanwhile. Its asynchronous I/O is here, not there.
    pub fn image(&self) -> &Image {
        &self.inner.parts().0
    }

    /// How many operations can be in flight.
    pub fn depth(&self) -> usize {
        self.inner.parts().1.depth()
    }

    /// How many more operations fit.
    pub fn room(&self) -> usize {
        self.inner.parts().1.room()
    }

    /// How many operations are in flight, or have ended and wait to be reaped.
    pub fn in_flight(&self) -> usize {
        self.depth() - self.room()
    }

    /// Reads `len` bytes and appends them to the buffer. Where its capacity has room for them nothing is allocated.
    ///
    /// Implements: `rbd_aio_read`.
    pub fn read(&mut self, token: u64, offset: u64, len: usize, buffer: BytesMut) -> Result<(), Refused> {
        self.submit("read", Request::Read, token, (offset, len as u64), buffer.into())
    }

    /// Writes the whole buffer: its length, not its capacity.
    ///
    /// Implements: `rbd_aio_write`.
    pub fn write(&mut self, token: u64, offset: u64, data: impl Into<Buffer>) -> Result<(), Refused> {
        let data = data.into();
        let len = match &data {
            Buffer::None => 0,
            Buffer::Bytes(data) => data.len(),
            Buffer::BytesMut(data) => data.len(),
        };
        self.submit("write", Request::Write, token, (offset, len as u64), data)
    }

    /// Gives a range back, as far as librbd discards it: see [`Image::discard`].
    ///
    /// Implements: `rbd_aio_discard`.
    pub fn discard(&mut self, token: u64, offset: u64, len: u64) -> Result<(), Refused> {
        self.submit("discard", Request::Discard, token, (offset, len), Buffer::None)
    }

    /// Makes a range read as zeros; objects are given back where that is possible.
    ///
    /// Implements: `rbd_aio_write_zeroes`.
    pub fn write_zeroes(&mut self, token: u64, offset: u64, len: u64) -> Result<(), Refused> {
        self.submit("write zeroes to", Request::WriteZeroes, token, (offset, len), Buffer::None)
    }

    /// Makes safe what was written and has ended before.
    ///
    /// Implements: `rbd_aio_flush`.
    pub fn flush(&mut self, token: u64) -> Result<(), Refused> {
        self.submit("flush", Request::Flush, token, (0, 0), Buffer::None)
    }

    /// The next operation that has ended, in no particular order; `None` when no more have. Does not block.
    ///
    /// After the descriptor became readable, call it until it gives `None`.
    ///
    /// Implements: `rbd_poll_io_events`.
    #[doc(alias = "rbd_poll_io_events")]
    #[doc(alias = "rbd_aio_get_return_value")]
    pub fn reap(&mut self) -> Option<Completion> {
        let (image, places) = self.inner.parts_mut();
        let Reaped { token, request, offset, len, buffer, result } = places.reap(image.raw())?;
        let result = match result {
            Ok(_) => Ok(()),
            Err(raw::aio::SHORT) => {
                let error = image.failed("read", offset, len, raw::aio::SHORT);
                Err(error.with_detail("the image became shorter than that meanwhile"))
            }
            Err(errno) if request == Request::Flush => Err(Error::new("flush", image.object(), errno)),
            Err(errno) => Err(image.failed(name(request), offset, len, errno)),
        };
        Some(Completion { token, result, buffer })
    }

    /// Waits until there may be something to reap. Blocks, at most for the timeout if there is one. Gives `false` when nothing
    /// is in flight, when the time is over, and when a signal came.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let (image, places) = self.inner.parts();
        match places.wait(timeout) {
            Err(Errno::EINTR) => Ok(false),
            other => other.map_err(|errno| Error::new("wait for operations on", image.object(), errno)),
        }
    }

    /// Waits for what is in flight, dropping what comes of it, and closes the image. Blocks.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }

    fn submit(
        &mut self,
        operation: &'static str,
        request: Request,
        token: u64,
        range: (u64, u64),
        buffer: Buffer,
    ) -> Result<(), Refused> {
        let (image, places) = self.inner.parts_mut();
        if let Err(error) = check(image, places, operation, request, range) {
            return Err(Refused { error, buffer });
        }
        places.submit(image.raw(), request, token, range, buffer).map_err(|(errno, buffer)| Refused {
            error: image.failed(operation, range.0, range.1, errno),
            buffer,
        })
    }
}

fn check(
    image: &Image,
    places: &Places,
    operation: &'static str,
    request: Request,
    (offset, len): (u64, u64),
) -> Result<()> {
    if places.room() == 0 {
        let why = format!("all {} operations of the queue are in flight: reap first", places.depth());
        return Err(Error::new(operation, image.object(), Errno::EAGAIN).with_detail(why));
    }
    match request {
        Request::Flush => return Ok(()),
        Request::Read | Request::Write if len > MOST as u64 => {
            let why = format!("{len} bytes are more than the 1 GiB that can be moved at once: split it");
            return Err(image.refuse(operation, why));
        }
        _ => {}
    }
    image.check_range(operation, offset, len)
}

fn name(request: Request) -> &'static str {
    match request {
        Request::Read => "read",
        Request::Write => "write",
        Request::Discard => "discard",
        Request::WriteZeroes => "write zeroes to",
        Request::Flush => "flush",
    }
}

/// Readable when there may be something to [`reap`](Queue::reap). Do not read from it.
impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.parts().1.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("image", self.image())
            .field("depth", &self.depth())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}
