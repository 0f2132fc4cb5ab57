//! Queues operations for a program with an event loop: see [`Queue`].
//!
//! ```no_run
//! # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
//! let mut queue = rbd::Queue::new(image, 32)?;
//! queue.write(7, 0, "hello ceph")?;
//! queue.wait(None)?;
//! while let Some(completion) = queue.reap() {
//!     println!("{} is complete: {:?}", completion.token, completion.result);
//! }
//! # Ok::<(), rbd::Error>(())
//! ```

mod drain;
mod foreign;
mod submit;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::hints::AccessHints;
use crate::image::check::failure;
use crate::image::{Compare, Image};
#[cfg(feature = "tracing")]
use crate::raw::op::kind::Kind;
use crate::raw::queue::{End, Entries, Reaped};
use crate::raw::thread::mark::in_callback;

pub use crate::buffer::Buffer;
use drain::Drained;

/// Asynchronous I/O on an image for an event loop: a fixed number of operations in flight, reaped
/// in batches, announced by a file descriptor (an eventfd) that fits epoll, `io_uring` and the
/// like.
///
/// Compared with the futures of [`Image::aio`] there is no allocation per operation, and no wake
/// from thread to thread: the loop finds the ends of operations when it comes round. Buffers are
/// handed in and come back, to be used again. Only a list of buffers longer than all before it in
/// its place of the queue makes that place grow, which keeps the room for the next one.
///
/// A hypervisor or a ublk server has its data in memory that no buffer owns:
/// [`read_raw`](Queue::read_raw) and [`write_raw`](Queue::write_raw) move it without a copy.
///
/// Submitting does not block. All ranges must lie within the image; what does not is refused before
/// librbd hears of it, and so is more than 1 GiB of data at once. The error has the buffers: see
/// [`Error::take_buffer`]. What only librbd can tell, such as a write to an image that is open
/// read-only, is in the [result](Completion::result) of the operation's end. Offsets and lengths
/// are in bytes. When another client changes the size, all is as at [`Aio`](crate::aio::Aio), with
/// the one exception there.
///
/// The descriptor can be watched by whatever watches descriptors: level-triggered or edge-triggered
/// epoll, `io_uring`'s poll, tokio's `AsyncFd` (clear its readiness, then reap until nothing is
/// left). It is the same one, and open, for as long as the queue lives, which is what
/// `AsyncFd::register` wants to be promised. Deadlines it does not tell of: race `readable()` with
/// a sleep until [`next_deadline`](Queue::next_deadline), and reap after either.
///
/// Back-pressure is the caller's: [`room`](Queue::room) says how many more operations fit, and one
/// too many is refused with [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull).
///
/// The queue has its image, alone or with others, whose management calls, blocking I/O and watches
/// (of a new size, for instance) are at [`image`](Queue::image). Dropping the queue waits for what
/// is in flight, and closes the image if nobody else has it. A thread of its own does both where
/// the drop must not block: if the image was to be [closed in the
/// background](Image::close_in_background), as those are that were opened by `await`, and in a
/// callback of librbd's.
///
/// An operation can be given up on after a while: see [`set_timeout`](Queue::set_timeout).
///
/// ```no_run
/// use bytes::BytesMut;
/// use rbd::{Queue, queue::Buffer};
///
/// # fn main() -> rbd::Result<()> {
/// let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let mut queue = Queue::new(image, 32)?;
/// for block in 0..32 {
///     let buffer = BytesMut::with_capacity(4096);
///     queue.read(block, block * 4096, 4096, buffer)?;
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
    hints: AccessHints,
}

/// An operation that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion {
    /// What the operation was submitted with.
    pub token: u64,
    /// How it ended. That a compare-and-write found a difference is no failure.
    pub result: Result<()>,
    /// Its buffer. After a [`read`](Queue::read) the data has been appended; after a failed
    /// [`read_vectored`](Queue::read_vectored) the content is anything. [`Buffer::None`] after a
    /// timeout: librbd still has it.
    pub buffer: Buffer,
    /// What a compare-and-write that did not fail found: only [`Compare::Written`] says that it
    /// wrote. `None` for all else.
    pub compare: Option<Compare>,
}

impl Queue {
    /// Makes the image report the ends of operations here, with room for `depth` of them in flight:
    /// from 1 to 65536.
    ///
    /// Who keeps an `Arc` of the image has its management calls, blocking I/O and watches on other
    /// threads meanwhile. Its asynchronous I/O is here from now on, for as long as it is open:
    /// [`Image::aio`] is refused, and so is a second queue.
    ///
    /// Refused while [asynchronous operations](Image::aio) are in flight on the image, those too
    /// whose future was dropped or given up on. An image that was given away whole is closed then,
    /// as by its drop, which may wait for them: keep an `Arc` of it, or open it again. Else it does
    /// not block.
    ///
    /// Implements: `rbd_set_image_notification`.
    #[doc(alias = "rbd_set_image_notification")]
    pub fn new(image: impl Into<Arc<Image>>, depth: usize) -> Result<Queue> {
        let image = image.into();
        let refuse = |why: String| Err(image.refuse("make a queue of", why));
        let Ok(depth @ 1..=0x1_0000) = u32::try_from(depth) else {
            return refuse(format!("a depth of {depth}: it must be from 1 to 65536"));
        };
        match Entries::new(image.raw(), depth) {
            Ok(entries) => Ok(Queue { inner: Drained::new(image, entries), hints: AccessHints::empty() }),
            Err(Errno::EBUSY) if image.raw().is_queued() => refuse(
                "it has, or had, a queue already, and can have no other: open the image again".to_owned(),
            ),
            Err(Errno::EBUSY) => refuse(
                "it has asynchronous operations in flight: wait for them before. It is closed now, unless an Arc of it was kept"
                    .to_owned(),
            ),
            Err(errno) => Err(Error::new("make a queue of", image.object(), errno)),
        }
    }

    /// The image: its management calls and blocking I/O can be used meanwhile. Its asynchronous I/O
    /// is here, not there.
    pub fn image(&self) -> &Arc<Image> {
        &self.inner.parts().0
    }

    /// How many operations can be in flight.
    pub fn depth(&self) -> usize {
        self.inner.parts().1.depth()
    }

    /// How many more operations fit: as many as the queue is deep, less those [in
    /// flight](Queue::in_flight); and still less once more were [given up on](Queue::given_up) than
    /// the queue is deep.
    pub fn room(&self) -> usize {
        self.inner.parts().1.room()
    }

    /// How many operations are in flight, or have ended and wait to be reaped. Not those that were
    /// given up on.
    pub fn in_flight(&self) -> usize {
        self.inner.parts().1.in_flight()
    }

    /// How many operations were given up on, after their [timeout](Queue::set_timeout), and have
    /// not ended yet: librbd has them and their buffers. At most twice the depth.
    pub fn given_up(&self) -> usize {
        self.inner.parts().1.given_up()
    }

    /// Gives up on the operations that are submitted from now on when they take longer than this;
    /// `None`, as at first, for never.
    ///
    /// The time runs from the submission. When it is over, [`reap`](Queue::reap) hands the
    /// operation out as failed with [`TimedOut`](crate::ErrorKind::TimedOut), once; one that has
    /// ended by then wins, be the time zero. There is no cancel in librbd: the operation goes on by
    /// itself, a write may still take effect, and its buffer is freed when it ends: who uses
    /// buffers again needs a new one. Closing and dropping the queue still wait for it.
    ///
    /// Up to as many as the queue is deep may be given up on without a cost in
    /// [`room`](Queue::room). Each one more takes a place, and at twice the depth nothing can be
    /// submitted until librbd lets go of one: [`wait`](Queue::wait) waits for that.
    ///
    /// With librbd's cache a write can end in time while no OSD answers: let the
    /// [`flush`](Queue::flush) have a timeout, too.
    ///
    /// Without a timeout no clock is looked at. With one, submitting looks at it, and reaping when
    /// nothing else is to be reaped.
    pub fn set_timeout(&mut self, after: impl Into<Option<Duration>>) {
        self.inner.parts_mut().1.set_timeout(after.into());
    }

    /// Tells the OSDs how the data of the operations that are submitted from now on is going to be
    /// used. None at first.
    ///
    /// Vectored reads and writes, discards and flushes take no hints: librbd has none there.
    pub fn set_hints(&mut self, hints: AccessHints) {
        self.hints = hints;
    }

    /// No operation is given up on before this moment: when to call [`reap`](Queue::reap) at the
    /// latest, for a loop that waits by other means than [`wait`](Queue::wait), of whose descriptor
    /// it does not make anything readable. `None` when no operation in flight has a deadline. It
    /// may still be that of an operation that has ended, and reaping, which finds nothing then,
    /// moves it on. A wait in milliseconds is to be rounded up.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.inner.parts().1.next_deadline()
    }

    /// The next operation that has ended, or was given up on, in no particular order; `None` when
    /// there is none. Does not block.
    ///
    /// After the descriptor became readable, call it until it gives `None`: what ends after that is
    /// announced again.
    ///
    /// Implements: `rbd_poll_io_events`.
    #[doc(alias = "rbd_poll_io_events")]
    #[doc(alias = "rbd_aio_get_return_value")]
    pub fn reap(&mut self) -> Option<Completion> {
        let (image, entries) = self.inner.parts_mut();
        let Reaped { token, kind, offset, len, end } = entries.reap()?;
        let explain = |fault| failure(image.label(), kind, (offset, len), fault);
        let (buffer, outcome) = match end {
            End::Ended((buffer, outcome)) => {
                #[cfg(feature = "tracing")]
                crate::events::ended(subject(image, kind, (offset, len)), outcome.as_ref().err());
                (buffer, outcome.map_err(explain))
            }
            End::GivenUp(after) => {
                #[cfg(feature = "tracing")]
                crate::events::left(subject(image, kind, (offset, len)));
                let error = explain(Errno::ETIMEDOUT.into()).timed_out(after, kind.changes_data());
                (Buffer::None, Err(error))
            }
        };
        let (result, compare) = match outcome {
            Ok(compare) => (Ok(()), compare),
            Err(error) => (Err(error), None),
        };
        Some(Completion { token, result, buffer, compare })
    }

    /// Waits until there may be something to reap. Blocks, at most for the timeout if there is one.
    /// Gives `false` when nothing is in flight, when the time is over, and when a signal came; the
    /// end of a [timeout](Queue::set_timeout) is something to reap. Where so many were given up on
    /// that there is no [room](Queue::room), it waits for librbd to let go of one, which
    /// [`reap`](Queue::reap) then takes without a word.
    ///
    /// Inside a callback or a wake on a thread of librbd's it fails at once: the operations would
    /// wait for that thread.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let (image, entries) = self.inner.parts_mut();
        let outcome = if in_callback() { Err(Errno::EDEADLK) } else { entries.wait(timeout) };
        match outcome {
            Err(Errno::EINTR) => Ok(false),
            other => other.map_err(|errno| {
                let error = Error::new("wait for operations on", image.object(), errno);
                match errno {
                    Errno::EDEADLK => error.with_detail(
                        "a callback or wake on a thread of librbd's cannot wait for librbd: wait on another thread",
                    ),
                    _ => error,
                }
            }),
        }
    }

    /// Waits for what is in flight, dropping what comes of it, and closes the image, unless
    /// somebody else has it. Blocks, but not inside a callback or a wake on a thread of librbd's:
    /// there both happen elsewhere, and this succeeds at once.
    ///
    /// In asynchronous code: `rbd::unblock(move || queue.close()).await`; or drop the queue, if its
    /// image was opened by `await`.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}

/// What events are about.
#[cfg(feature = "tracing")]
fn subject(image: &Image, kind: Kind, range: (u64, u64)) -> crate::events::Subject<'_> {
    (kind.name(), image.spec(), (kind != Kind::Flush).then_some(range))
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
            .field("given_up", &self.given_up())
            .finish()
    }
}
