//! Completions reaped in batches from librbd's queue, which a file descriptor announces; no callback runs.
//!
//! Once an image reports to such a queue, *all* completions on it go there, those with callbacks too. One that its callback
//! has released would be handed out freed: so an image is either queued or has callbacks, never both.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use librbd_sys as sys;

use super::RawResult;
use super::call::check;
use super::image::Image;
use crate::errno::Errno;

/// The memory of an operation, which comes back when it has ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Buffer {
    /// An operation without data.
    #[default]
    None,
    /// Data to be written that may be shared.
    Bytes(Bytes),
    /// A buffer of its own.
    BytesMut(BytesMut),
}

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Read,
    Write,
    Discard,
    WriteZeroes,
    Flush,
}

/// One operation of the fixed number that may be in flight.
struct Place {
    buffer: Buffer,
    token: u64,
    request: Request,
    offset: u64,
    len: u64,
}

/// An operation that has ended.
#[derive(Debug)]
pub(crate) struct Reaped {
    pub(crate) token: u64,
    pub(crate) request: Request,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) buffer: Buffer,
    pub(crate) result: RawResult<usize>,
}

/// The places of the operations, and the completions that were reaped but not handed out yet.
pub(crate) struct Places {
    /// Never moved nor shrunk while an operation is in flight; librbd has pointers to the buffers' memory only.
    places: Box<[UnsafeCell<Place>]>,
    /// The numbers of the places that are free.
    free: Vec<u32>,
    batch: Box<[sys::rbd_completion_t]>,
    /// What is left of the batch.
    left: std::ops::Range<usize>,
    /// The batch was all there was.
    dry: bool,
    event: OwnedFd,
}

// SAFETY: completions may be used from any thread, and buffers are Send.
unsafe impl Send for Places {}
// SAFETY: nothing is changed by a shared reference.
unsafe impl Sync for Places {}

impl Places {
    /// Makes the image report its completions here. It must have no operation in flight.
    pub(crate) fn new(image: &mut Image, depth: u32) -> RawResult<Places> {
        // SAFETY: no memory is passed.
        let event = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
        let event = event.map_err(|_| Errno::last())?;
        // SAFETY: the descriptor is new and nobody else's.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        let kind = sys::EVENT_TYPE_EVENTFD as c_int;
        // SAFETY: the image is open. librbd does not take over the descriptor: `Places` outlives the last operation.
        check(unsafe { sys::rbd_set_image_notification(image.as_ptr(), event.as_raw_fd(), kind) })?;
        image.set_queued();
        let empty = || Place { buffer: Buffer::None, token: 0, request: Request::Flush, offset: 0, len: 0 };
        Ok(Places {
            places: (0..depth).map(|_| UnsafeCell::new(empty())).collect(),
            free: (0..depth).rev().collect(),
            batch: vec![ptr::null_mut(); depth as usize].into(),
            left: 0..0,
            dry: false,
            event,
        })
    }

    pub(crate) fn depth(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// Submits an operation. The buffer comes back when it is refused.
    ///
    /// The image must be the one this was made for. A read appends to its buffer, which must be a `BytesMut`; a write is of
    /// the whole buffer. There must be room.
    pub(crate) fn submit(
        &mut self,
        image: &Image,
        request: Request,
        token: u64,
        range: (u64, u64),
        mut buffer: Buffer,
    ) -> Result<(), (Errno, Buffer)> {
        let Some(&number) = self.free.last() else { return Err((Errno::EAGAIN, buffer)) };
        let ((offset, len), handle) = (range, image.as_ptr());
        let size = len as usize;
        let mut completion = ptr::null_mut();
        // SAFETY: without a callback the argument is ours alone: the number of the place.
        let created = unsafe {
            sys::rbd_aio_create_completion(
                ptr::without_provenance_mut(number as usize),
                None,
                &raw mut completion,
            )
        };
        if let Err(errno) = check(created) {
            return Err((errno, buffer));
        }
        // SAFETY: the image is open. The memory has the length that is passed, stays where it is when its owner is moved
        // into the place, and belongs to that until the completion was reaped.
        let code = unsafe {
            match (request, &mut buffer) {
                (Request::Read, Buffer::BytesMut(target)) => {
                    target.reserve(size);
                    let start = target.spare_capacity_mut().as_mut_ptr();
                    sys::rbd_aio_read(handle, offset, size, start.cast(), completion)
                }
                (Request::Write, Buffer::BytesMut(data)) => {
                    sys::rbd_aio_write(handle, offset, data.len(), data.as_ptr().cast(), completion)
                }
                (Request::Write, Buffer::Bytes(data)) => {
                    sys::rbd_aio_write(handle, offset, data.len(), data.as_ptr().cast(), completion)
                }
                (Request::Discard, _) => sys::rbd_aio_discard(handle, offset, len, completion),
                (Request::WriteZeroes, _) => {
                    sys::rbd_aio_write_zeroes(handle, offset, size, completion, 0, 0)
                }
                (Request::Flush, _) => sys::rbd_aio_flush(handle, completion),
                (Request::Read | Request::Write, _) => -libc::EINVAL,
            }
        };
        if let Err(errno) = check(code) {
            // SAFETY: librbd did not take it.
            unsafe { sys::rbd_aio_release(completion) };
            return Err((errno, buffer));
        }
        self.free.pop();
        *self.places[number as usize].get_mut() = Place { buffer, token, request, offset, len };
        Ok(())
    }

    /// The next operation that has ended, if there is one. Blocks for none.
    pub(crate) fn reap(&mut self, image: &Image) -> Option<Reaped> {
        if self.left.is_empty() {
            if self.free.len() == self.places.len() || std::mem::take(&mut self.dry) {
                return None;
            }
            self.acknowledge();
            let most = self.batch.len().min(1 << 16) as c_int;
            // SAFETY: the image is open and reports to us; the array has room for `most`.
            let count = unsafe { sys::rbd_poll_io_events(image.as_ptr(), self.batch.as_mut_ptr(), most) };
            self.left = 0..usize::try_from(count).unwrap_or(0);
            // What ends from here on is announced anew: no need to look once more for nothing.
            self.dry = !self.left.is_empty() && count < most;
        }
        let completion = self.batch[self.left.next()?];
        // SAFETY: we created it without a callback, librbd has handed it out, and it is released once, here.
        let (number, result) = unsafe {
            let number = sys::rbd_aio_get_arg(completion).addr();
            let result = sys::rbd_aio_get_return_value(completion);
            sys::rbd_aio_release(completion);
            (number, result)
        };
        let empty = Place { buffer: Buffer::None, token: 0, request: Request::Flush, offset: 0, len: 0 };
        let Place { mut buffer, token, request, offset, len } =
            std::mem::replace(self.places[number].get_mut(), empty);
        self.free.push(number as u32);
        let mut result = super::call::check_len(result);
        if request == Request::Read {
            match (&mut buffer, result) {
                (Buffer::BytesMut(target), Ok(read)) if read as u64 == len => {
                    let filled = target.len() + read;
                    // SAFETY: librbd has written all that was asked for behind the old length, where room was reserved.
                    unsafe { target.set_len(filled) };
                }
                (_, Ok(_)) => result = Err(super::aio::SHORT),
                (_, Err(_)) => {}
            }
        }
        Some(Reaped { token, request, offset, len, buffer, result })
    }

    /// Takes back what the descriptor announced. What ends from now on is announced again.
    fn acknowledge(&self) {
        let mut count = 0_u64;
        // SAFETY: the descriptor is open, and eight bytes may be written to `count`. That there is nothing to read is fine.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }

    /// Waits until the descriptor announces something. Blocks, at most for the timeout if there is one.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> RawResult<bool> {
        if !self.left.is_empty() || self.free.len() == self.places.len() {
            return Ok(!self.left.is_empty());
        }
        let millis = timeout.map_or(-1, |timeout| {
            c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
        });
        let mut poll = libc::pollfd { fd: self.event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd is passed.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            -1 => Err(Errno::last()),
            count => Ok(count > 0),
        }
    }
}

impl AsFd for Places {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
