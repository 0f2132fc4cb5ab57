//! Submits operations to a queue, for programs with an event loop: see [`Queue`].
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

use crate::cluster::bounded::refuse_in_callback;
use crate::cluster::forked;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::hints::AccessHints;
use crate::image::check::failure;
use crate::image::{Compare, Image};
#[cfg(feature = "tracing")]
use crate::raw::op::kind::Kind;
use crate::raw::queue::{End, Entries, Reaped};
use crate::raw::thread::mark::must_not_call;

pub use crate::buffer::Buffer;
use drain::Drained;

const CREATE: &str = "create a queue of";
const WAIT: &str = "wait for operations on";

/// A queue of asynchronous I/O on an image, for event loops. It has a fixed number of operations in
/// flight, which are reaped in batches. An eventfd announces completions to epoll, `io_uring` or
/// another mechanism that watches descriptors.
///
/// Unlike the futures of [`Image::aio`], a queue allocates nothing per operation and needs no wake
/// across threads: the loop collects completions on its next iteration. Completions return their
/// buffers for reuse. Only a list of buffers longer than all previous ones makes its entry of the
/// queue grow, and the entry keeps that size.
///
/// A hypervisor or ublk server has its data in memory that no buffer owns:
/// [`read_raw`](Queue::read_raw) and [`write_raw`](Queue::write_raw) transfer it without a copy.
///
/// Submitting does not block. Offsets and lengths are in bytes. A range beyond the end of the
/// image, or more than 1 GiB of data, is refused before librbd is called. The error carries the
/// buffers: see [`Error::take_buffer`]. Errors that only librbd can detect, such as a write to a
/// read-only image, are in the [result](Completion::result) of the completion. After another
/// client has resized the image, submitting does not block either: the range is checked when the
/// new size is known, and the completion has the error.
///
/// Any mechanism can watch the descriptor: level-triggered or edge-triggered epoll, `io_uring`'s
/// poll, tokio's `AsyncFd` (clear its readiness, then reap until nothing is left). The descriptor
/// stays the same and open while the queue lives, as `AsyncFd::register` requires. It does not
/// announce timeouts: race `readable()` with a sleep until [`next_deadline`](Queue::next_deadline),
/// and reap after either.
///
/// The caller handles back-pressure: [`room`](Queue::room) returns how many more operations fit,
/// and the queue refuses a further one with [`ErrorKind::QueueFull`](crate::ErrorKind::QueueFull).
///
/// The queue owns its image or shares it. [`image`](Queue::image) offers its management calls,
/// blocking I/O and watches. Dropping the queue waits for operations in flight, and closes the
/// image if no other `Arc` of it exists, for at most the [call
/// timeout](crate::ClusterBuilder::call_timeout). So a program that returns an error with `?` while
/// no OSD answers prints it only after that time. Both happen on another thread if the drop must
/// not block: in a callback of librbd, and if the image [closes in the
/// background](Image::set_close_in_background). Images that were opened by `await` close in the
/// background.
///
/// Operations can have a timeout: see [`set_timeout`](Queue::set_timeout).
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

/// A completed operation.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion {
    /// The token that the operation was submitted with.
    pub token: u64,
    /// The result. A compare-and-write that finds a difference succeeds.
    pub result: Result<()>,
    /// The operation's buffer. A [`read`](Queue::read) has appended its data. After a failed
    /// [`read_vectored`](Queue::read_vectored) the content is undefined. [`Buffer::None`] after a
    /// timeout, because librbd still uses the buffer.
    pub buffer: Buffer,
    /// The outcome of a successful compare-and-write: only [`Compare::Written`] means that it
    /// wrote. `None` for all other operations.
    pub compare: Option<Compare>,
}

impl Queue {
    /// Creates a queue for an image, with up to `depth` operations in flight: 1 to 65536.
    ///
    /// Other threads can keep an `Arc` of the image for its management calls, blocking I/O and
    /// watches. All asynchronous I/O must use the queue while the image is open: [`Image::aio`] and
    /// a second queue are refused, also after the queue was closed. Open the image again for them.
    ///
    /// Refused while [asynchronous operations](Image::aio), or blocking reads and writes of other
    /// threads, are in flight on the image. This includes those that timed out or whose future was
    /// dropped. The refusal drops the image: unless you keep an
    /// `Arc` of it, this closes the image and may wait for those operations. Otherwise the call
    /// does not block.
    ///
    /// Inside a callback or a wake on a thread of librbd, this fails: librbd waits for that thread.
    ///
    /// Implements: `rbd_set_image_notification`.
    #[doc(alias = "rbd_set_image_notification")]
    pub fn new(image: impl Into<Arc<Image>>, depth: usize) -> Result<Queue> {
        let image = image.into();
        // librbd passes the descriptor to its own thread and waits for that.
        refuse_in_callback(CREATE, || image.object()).map(drop)?;
        let refuse = |why: String| Err(image.refuse(CREATE, why));
        let Ok(depth @ 1..=0x1_0000) = u32::try_from(depth) else {
            return refuse(format!("a depth of {depth} is invalid; use 1 to 65536"));
        };
        match Entries::new(image.raw(), depth) {
            Ok(entries) => Ok(Queue { inner: Drained::new(image, entries), hints: AccessHints::empty() }),
            Err(Errno::EBUSY) if image.raw().is_queued() => {
                refuse("it has, or had, a queue and cannot get another one; open the image again".to_owned())
            }
            Err(Errno::EBUSY) => refuse(
                "it has operations in flight; wait for them before you create the queue; this call has \
                 closed the image, unless you keep an Arc of it"
                    .to_owned(),
            ),
            Err(errno) => Err(image.explain(Error::new(CREATE, image.object(), errno))),
        }
    }

    /// Returns the image, for its management calls and blocking I/O. Its asynchronous I/O must use
    /// the queue.
    pub fn image(&self) -> &Arc<Image> {
        &self.inner.parts().0
    }

    /// Returns how many operations can be in flight.
    pub fn depth(&self) -> usize {
        self.inner.parts().1.depth()
    }

    /// Returns how many more operations can be submitted: the depth minus the operations [in
    /// flight](Queue::in_flight). If more operations than the depth are [given
    /// up](Queue::given_up), each further one takes an entry, too.
    pub fn room(&self) -> usize {
        self.inner.parts().1.room()
    }

    /// Returns how many operations are in flight or wait to be reaped, without those that were
    /// given up.
    pub fn in_flight(&self) -> usize {
        self.inner.parts().1.in_flight()
    }

    /// Returns how many operations were given up after their [timeout](Queue::set_timeout) but have
    /// not completed: librbd still has them and their buffers. At most twice the depth.
    pub fn given_up(&self) -> usize {
        self.inner.parts().1.given_up()
    }

    /// Sets the timeout of operations that are submitted after this call. `None` means no timeout.
    /// Default: `None`.
    ///
    /// The time starts with the submission. After the timeout, [`reap`](Queue::reap) returns the
    /// operation once, failed with [`TimedOut`](crate::ErrorKind::TimedOut). A completed operation
    /// returns its result, even with a zero timeout. librbd cannot cancel: the operation completes
    /// in the background, a write may still take effect, and only then is its buffer freed. A
    /// program that reuses buffers needs a new buffer then. Closing and dropping the queue still
    /// wait for the operation.
    ///
    /// Up to `depth` given up operations do not reduce [`room`](Queue::room). Each further one
    /// takes an entry. At twice the depth nothing can be submitted until librbd completes one:
    /// [`wait`](Queue::wait) waits for that.
    ///
    /// With librbd's cache, a write can complete in time while no OSD answers: give the
    /// [`flush`](Queue::flush) a timeout too.
    ///
    /// Without a timeout, the queue never reads the clock. With one, it reads the clock when
    /// submitting, and when reaping finds no completion.
    pub fn set_timeout(&mut self, timeout: impl Into<Option<Duration>>) {
        self.inner.parts_mut().1.set_timeout(timeout.into());
    }

    /// Sets hints for operations that are submitted after this call, which tell the OSDs how the
    /// data will be used. Default: none.
    ///
    /// librbd has no hints for vectored reads and writes, discards and flushes.
    pub fn set_hints(&mut self, hints: AccessHints) {
        self.hints = hints;
    }

    /// Returns the earliest deadline of the operations in flight; `None` if none has a timeout. A
    /// loop that does not use [`wait`](Queue::wait) must call [`reap`](Queue::reap) by then,
    /// because a timeout does not make the descriptor readable. The deadline may belong to an
    /// operation that has already completed: reaping then finds nothing and updates the deadline.
    /// Round up if you wait in milliseconds.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.inner.parts().1.next_deadline()
    }

    /// Returns the next completed or timed-out operation, in no particular order; `None` if there
    /// is none. Does not block.
    ///
    /// After the descriptor has become readable, call this until it returns `None`. Later
    /// completions are announced again.
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

    /// Waits until there may be something to reap, for at most `timeout` if there is one. Blocks.
    /// Returns `true` if there may be something to reap. Returns `false` if nothing is in flight,
    /// if the timeout is over, or if a signal interrupted the wait. An operation's
    /// [timeout](Queue::set_timeout) also ends the wait. If given up operations leave no
    /// [room](Queue::room), this waits until librbd completes one, which [`reap`](Queue::reap) then
    /// discards silently.
    ///
    /// Inside a callback or a wake on a thread of librbd, this fails at once: the operations would
    /// wait for that thread.
    pub fn wait(&mut self, timeout: impl Into<Option<Duration>>) -> Result<bool> {
        let (image, entries) = self.inner.parts_mut();
        if image.raw().is_forked() {
            return Err(forked(WAIT, image.object()));
        }
        let outcome = if must_not_call() { Err(Errno::EDEADLK) } else { entries.wait(timeout.into()) };
        match outcome {
            Err(Errno::EINTR) => Ok(false),
            other => other.map_err(|errno| {
                let error = Error::new(WAIT, image.object(), errno);
                match errno {
                    Errno::EDEADLK => error.with_detail(
                        "a callback or wake on a thread of librbd cannot wait for librbd; wait on \
                         another thread",
                    ),
                    _ => error,
                }
            }),
        }
    }

    /// Waits for the operations in flight, and [closes](Image::close) the image, which flushes it,
    /// unless another `Arc` of it exists: then [flush](Image::flush) that one. Blocks for at most
    /// the [call timeout](crate::ClusterBuilder::call_timeout); after that, the work continues in
    /// the background. Inside a callback or a wake on a thread of librbd, it fails with `EDEADLK`:
    /// another thread does the work, and nobody hears whether that succeeds.
    ///
    /// Discards the results that were not [reaped](Queue::reap), but returns the first failure
    /// among those of changes and flushes, or else the error of closing the image. A change or
    /// flush that was [given up](Queue::given_up) counts with its real result: if that is a
    /// failure, or if only a part was done, this returns the error. In any case the queue has ended
    /// and its handle of the image is closed. Dropping the queue reports nothing.
    ///
    /// In asynchronous code, use `rbd::unblock(move || queue.close()).await`, or drop the queue if
    /// its image was opened by `await`.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}

/// Returns the subject of an event.
#[cfg(feature = "tracing")]
fn subject(image: &Image, kind: Kind, range: (u64, u64)) -> crate::events::Subject<'_> {
    (kind.name(), image.spec(), (kind != Kind::Flush).then_some(range))
}

/// The descriptor is readable when there may be something to [`reap`](Queue::reap). Do not read
/// from it.
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
