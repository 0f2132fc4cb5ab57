//! Completions reaped in batches from librbd's queue, which a file descriptor announces.
//!
//! Once an image reports to such a queue, completions on it go there, those with callbacks too. One that its callback has
//! released would be handed out freed: so an image is either queued or has callbacks, never both. The exception, which never
//! goes there and therefore needs a callback, is in the module `report`.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use librbd_sys as sys;

use super::RawResult;
use super::buffer::Buffer;
use super::call::check;
use super::image::Image;
use super::image_io::{Compare, differs_at};
use super::lane::Lane;
use super::late::{Failure, need};
use super::report::{Reported, Reports, ended};
use crate::errno::Errno;

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Read,
    Write,
    Discard,
    WriteZeroes,
    WriteSame,
    CompareAndWrite,
    Flush,
}

/// One operation of the fixed number that may be in flight.
struct Place {
    buffer: Buffer,
    /// Where the buffers of a list are: librbd reads it until the operation ends. Kept for the next one, so that only a list
    /// longer than all before it costs an allocation.
    iovecs: Vec<libc::iovec>,
    /// Where librbd reports at which byte the image differs.
    differs: u64,
    /// For an operation whose end a callback reports.
    completion: sys::rbd_completion_t,
    /// How many changes of the image's header were known of before.
    changes: usize,
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
    /// What was found, of a compare-and-write.
    pub(crate) result: RawResult<Option<Compare>>,
}

/// The places of the operations, and the completions that were reaped but not handed out yet.
pub(crate) struct Places {
    /// Never grown nor shrunk, since librbd has pointers into those with an operation in flight. So no exclusive reference is
    /// made to the whole, and of such a place none but by the one who reaps it.
    places: Vec<UnsafeCell<Place>>,
    /// The numbers of the places that are free.
    free: Vec<u32>,
    batch: Box<[sys::rbd_completion_t]>,
    /// What is left of the batch.
    left: std::ops::Range<usize>,
    /// The batch before was not empty, and the descriptor was not looked at since.
    again: bool,
    /// What librbd keeps out of its queue.
    reports: Arc<Reports>,
    /// What is left of those taken.
    reported: Reported,
}

// SAFETY: completions may be used from any thread, and buffers are Send; the arrays point to those.
unsafe impl Send for Places {}
// SAFETY: nothing is changed by a shared reference, and no place is looked at.
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
        let reports = Reports::new(image.lane(), event, depth);
        let free = || Place {
            buffer: Buffer::None,
            iovecs: Vec::new(),
            differs: 0,
            completion: ptr::null_mut(),
            changes: 0,
            token: 0,
            request: Request::Flush,
            offset: 0,
            len: 0,
        };
        Ok(Places {
            places: (0..depth).map(|_| UnsafeCell::new(free())).collect(),
            free: (0..depth).rev().collect(),
            batch: vec![ptr::null_mut(); depth as usize].into(),
            left: 0..0,
            again: false,
            reports,
            reported: Reported::none(),
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
    /// The image must be the one this was made for. A read into a `BytesMut` appends `len` bytes to it; of all others with
    /// data `len` is what the buffers have in sum, but that of a `WriteSame`. Both sides of a compare-and-write have that
    /// length. There must be room.
    pub(crate) fn submit(
        &mut self,
        image: &Image,
        request: Request,
        token: u64,
        (offset, len): (u64, u64),
        buffer: Buffer,
    ) -> Result<(), (Failure, Buffer)> {
        let Some(&number) = self.free.last() else { return Err((Errno::EAGAIN.into(), buffer)) };
        let place = self.places[number as usize].get();
        // SAFETY: the place is free, so neither librbd nor a reference has it.
        let place = unsafe { &mut *place };
        place.iovecs.clear();
        place.changes = image.lane().size().changes();
        (place.buffer, place.token, place.request, place.offset, place.len) =
            (buffer, token, request, offset, len);
        match call(image, &self.reports, place, number) {
            Ok(()) => {
                self.free.pop();
                Ok(())
            }
            Err(failure) => Err((failure, std::mem::take(&mut place.buffer))),
        }
    }

    /// The next operation that has ended, if there is one. Blocks for none.
    pub(crate) fn reap(&mut self, image: &Image) -> Option<Reaped> {
        if self.left.is_empty() && self.reported.is_empty() {
            let idle = self.free.len() == self.places.len();
            // Looking again after a batch, without the system call: what has been announced meanwhile stays announced, and is
            // taken back by the next look. Not when all are reaped: nothing would ever follow.
            if !std::mem::take(&mut self.again) || idle {
                self.acknowledge();
            }
            if idle {
                return None;
            }
            self.reported = self.reports.take();
            for number in self.reported.numbers(&self.reports) {
                // Over in a moment. A release that does put these into its queue has done so by then, and they are skipped
                // below; afterwards it would be too late, since they are released when they are handed out.
                // SAFETY: its callback has run, so nobody has the place, and the completion is not released yet.
                unsafe { sys::rbd_aio_wait_for_complete((*self.places[number as usize].get()).completion) };
            }
            let most = self.batch.len() as c_int;
            // SAFETY: the image is open and reports to us; the array has room for `most`, and no more are in flight.
            let count = unsafe { sys::rbd_poll_io_events(image.as_ptr(), self.batch.as_mut_ptr(), most) };
            self.left = 0..usize::try_from(count).unwrap_or(0);
            self.again = !self.left.is_empty() || !self.reported.is_empty();
        }
        let listed = self.left.by_ref().map(|next| self.batch[next]).find_map(|completion| {
            // SAFETY: librbd has handed it out, and it is not released yet.
            let number = unsafe { sys::rbd_aio_get_arg(completion) }.addr();
            // Else the address of a report.
            (number < self.places.len()).then_some((number, completion))
        });
        let (number, completion) = if let Some(listed) = listed {
            listed
        } else {
            let number = self.reported.pop(&self.reports)? as usize;
            // SAFETY: its operation has ended, so nobody has the place.
            (number, unsafe { (*self.places[number].get()).completion })
        };
        // SAFETY: we created it, its operation has ended, and it is released once, here.
        let result = unsafe {
            let result = sys::rbd_aio_get_return_value(completion);
            if result < 0 {
                // Closing waits for none that librbd refused by itself, and its thread may still be at our descriptor.
                sys::rbd_aio_wait_for_complete(completion);
            }
            sys::rbd_aio_release(completion);
            result
        };
        // SAFETY: its operation has ended, so librbd has left the place, and no other reference is made.
        let place = unsafe { &mut *self.places[number].get() };
        self.free.push(number as u32);
        if result >= 0 {
            image.lane().size().was_read(place.changes);
        }
        let result = super::call::check_len(result).and_then(|count| finish(place, count));
        let result = match result {
            Err(Errno::EILSEQ) if place.request == Request::CompareAndWrite => {
                let differs = |unit| Some(Compare::Differs(differs_at(place.offset, place.differs, unit)));
                image.stripe_unit().map(differs)
            }
            other => other,
        };
        let Place { token, request, offset, len, .. } = *place;
        Some(Reaped { token, request, offset, len, buffer: std::mem::take(&mut place.buffer), result })
    }

    /// Takes back what the descriptor announced. What ends from now on is announced again.
    fn acknowledge(&self) {
        let mut count = 0_u64;
        // SAFETY: the descriptor is open, and eight bytes may be written to `count`. That there is nothing to read is fine.
        unsafe { libc::read(self.reports.event().as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }

    /// Waits until the descriptor announces something. Blocks, at most for the timeout if there is one.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> RawResult<bool> {
        let taken = !self.left.is_empty() || !self.reported.is_empty();
        if taken || self.free.len() == self.places.len() {
            return Ok(taken);
        }
        let millis = timeout.map_or(-1, |timeout| {
            c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
        });
        let mut poll =
            libc::pollfd { fd: self.reports.event().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd is passed.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            -1 => Err(Errno::last()),
            count => Ok(count > 0),
        }
    }
}

impl AsFd for Places {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.event().as_fd()
    }
}

/// Makes the call for what the place holds. It is librbd's then, unless this fails.
fn call(image: &Image, reports: &Reports, place: &mut Place, number: u32) -> Result<(), Failure> {
    let Place { buffer, iovecs, differs, completion: kept, request, offset, len, .. } = place;
    let (handle, offset, len) = (image.as_ptr(), *offset, *len);
    let size = len as usize;
    // All that may fail or panic comes before librbd hears of it.
    let first = buffer.list(iovecs);
    let (array, second) = (iovecs.as_ptr(), iovecs[first..].as_ptr());
    let count = |count: usize| c_int::try_from(count).map_err(|_| Errno::EINVAL);
    let (first, rest) = (count(first)?, count(iovecs.len() - first)?);
    let compare_and_writev = match buffer {
        Buffer::CompareVec { .. } if len > 0 => Some(need(&sys::late::rbd_aio_compare_and_writev)?),
        _ => None,
    };
    if let (Request::Read, Buffer::BytesMut(target)) = (*request, &mut *buffer) {
        target.reserve(size);
    }
    // The empty one is a read.
    let reported = *request == Request::CompareAndWrite && len > 0;
    let (arg, callback): (_, sys::rbd_callback_t) = if reported {
        (reports.arg(number), Some(ended))
    } else {
        (ptr::without_provenance_mut(number as usize), None)
    };
    let mut completion = ptr::null_mut();
    // SAFETY: without a callback the argument is ours alone: the number of the place. With it the reports are freed after the
    // image was closed, and that waits for the lane to be empty.
    check(unsafe { sys::rbd_aio_create_completion(arg, callback, &raw mut completion) })?;
    *kept = completion;
    if reported {
        image.lane().enter();
    }
    // SAFETY: the image is open. Buffers, array and the place for the difference have the lengths that are passed, and belong
    // to the place, which stays where it is and is not touched until the completion was reaped.
    let code = unsafe {
        match (*request, &mut *buffer) {
            (Request::Read, Buffer::BytesMut(target)) => {
                let start = target.spare_capacity_mut().as_mut_ptr();
                sys::rbd_aio_read(handle, offset, size, start.cast(), completion)
            }
            (Request::Read, Buffer::BytesMutVec(_)) => {
                sys::rbd_aio_readv(handle, array, first, offset, completion)
            }
            (Request::Write, Buffer::BytesVec(_) | Buffer::BytesMutVec(_)) => {
                sys::rbd_aio_writev(handle, array, first, offset, completion)
            }
            (Request::Discard, _) => sys::rbd_aio_discard(handle, offset, len, completion),
            (Request::WriteZeroes, _) => sys::rbd_aio_write_zeroes(handle, offset, size, completion, 0, 0),
            (Request::Flush, _) => sys::rbd_aio_flush(handle, completion),
            // librbd 16.2 aborts the process on an empty compare-and-write. Nothing is always as expected; a read of nothing
            // says so, in its turn.
            (Request::CompareAndWrite, _) if len == 0 => {
                sys::rbd_aio_read(handle, offset, 0, ptr::dangling_mut(), completion)
            }
            (Request::CompareAndWrite, Buffer::Compare { expected, data }) => {
                let (expected, data) = (expected.as_ptr().cast(), data.as_ptr().cast());
                sys::rbd_aio_compare_and_write(
                    handle,
                    offset,
                    size,
                    expected,
                    data,
                    completion,
                    &raw mut *differs,
                    0,
                ) as c_int
            }
            (Request::CompareAndWrite, Buffer::CompareVec { .. }) => match compare_and_writev {
                Some(call) => {
                    let differs = &raw mut *differs;
                    call(handle, offset, array, first, second, rest, completion, differs, 0) as c_int
                }
                None => -libc::EINVAL,
            },
            (request, buffer) => match (request, buffer.one()) {
                (Request::Write, Some(data)) => {
                    sys::rbd_aio_write(handle, offset, data.len(), data.as_ptr().cast(), completion)
                }
                (Request::WriteSame, Some(pattern)) => {
                    let (pattern, unit) = (pattern.as_ptr().cast(), pattern.len());
                    sys::rbd_aio_writesame(handle, offset, size, pattern, unit, completion, 0)
                }
                _ => -libc::EINVAL,
            },
        }
    };
    check(code).map(drop).map_err(|errno| {
        // SAFETY: librbd did not take it, so no callback will leave the lane.
        unsafe {
            sys::rbd_aio_release(completion);
            if reported {
                Lane::leave(image.lane());
            }
        }
        errno.into()
    })
}

/// What librbd's result amounts to when it is not an error.
fn finish(place: &mut Place, count: usize) -> RawResult<Option<Compare>> {
    match (place.request, &mut place.buffer) {
        (Request::Read, _) if count as u64 != place.len => return Err(super::aio::SHORT),
        (Request::Read, Buffer::BytesMut(target)) => {
            let filled = target.len() + count;
            // SAFETY: librbd has written all that was asked for behind the old length, where room was reserved.
            unsafe { target.set_len(filled) };
        }
        (Request::CompareAndWrite, _) => return Ok(Some(Compare::Written)),
        _ => {}
    }
    Ok(None)
}
