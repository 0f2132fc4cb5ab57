//! Completions reaped in batches from librbd's queue, which a file descriptor announces.
//!
//! Once an image reports to such a queue, completions on it go there, those with callbacks too. One that its callback has
//! released would be handed out freed: so an image is either queued or has callbacks, never both. The exception, which never
//! goes there and therefore needs a callback, is in the module `callback_completions`.

mod callback_completions;
mod entry;
mod event_waiter;
mod expiry;

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use librbd_sys as sys;
use rustix::event::EventfdFlags;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::buffer::Buffer;
use crate::raw::ffi::conversion::{check, check_len, system_errno};
use crate::raw::ffi::iovec::iovec;
use crate::raw::ffi::weak::Failure;
use crate::raw::image::Image;
use crate::raw::image::io::{Compare, differs_at};
use callback_completions::Drained;
use entry::{Entry, call, finish};
use event_waiter::EventWaiter;
use expiry::Expiry;

pub(crate) use callback_completions::CallbackCompletions;
pub(crate) use entry::{Memory, Request};

/// How many completions are asked for at once: librbd puts an array of as many onto the stack.
const MOST: usize = 512;

/// An operation that has ended, or is given up on.
#[derive(Debug)]
pub(crate) struct Reaped {
    pub(crate) token: u64,
    pub(crate) request: Request,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// None of one that is given up on.
    pub(crate) buffer: Buffer,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    /// What was found, of a compare-and-write.
    Ended(RawResult<Option<Compare>>),
    /// After this long. librbd still has it.
    GivenUp(Duration),
}

/// The entries of the operations, and the completions that were reaped but not handed out yet.
pub(crate) struct Entries {
    /// Twice the depth, so that as many can be given up on as the queue is deep. Never grown nor shrunk, since librbd has
    /// pointers into those with an operation in flight. So no exclusive reference is made to the whole, and of such an entry
    /// none but by the one who reaps it.
    entries: Vec<UnsafeCell<Entry>>,
    depth: usize,
    /// The numbers of the entries that are free.
    free: Vec<u32>,
    /// After how long what is submitted is given up on.
    deadline: Option<Duration>,
    expiry: Expiry,
    batch: Box<[sys::rbd_completion_t]>,
    /// What is left of the batch.
    listed: std::ops::Range<usize>,
    /// The batch was as long as it can be: librbd may have more.
    more: bool,
    /// The batch before was not empty, and the descriptor was not looked at since.
    again: bool,
    /// There was an announcement, and nobody has looked since.
    heard: bool,
    /// What librbd keeps out of its queue.
    callbacks: Arc<CallbackCompletions>,
    /// What is left of those taken.
    drained: Drained,
    waiter: EventWaiter,
}

// SAFETY: completions may be used from any thread, and buffers are Send; the arrays point to those.
unsafe impl Send for Entries {}
// SAFETY: nothing is changed by a shared reference, and no entry is looked at.
unsafe impl Sync for Entries {}

impl Entries {
    /// Makes the image report its completions here, for good. `EBUSY` while it has operations in flight, or where it has reported
    /// to others before.
    pub(crate) fn new(image: &Image, depth: u32) -> RawResult<Entries> {
        if !image.shared().target.in_flight.begin_queue() {
            return Err(Errno::EBUSY);
        }
        Entries::begin(image, depth).inspect_err(|_| image.shared().target.in_flight.cancel_queue())
    }

    fn begin(image: &Image, depth: u32) -> RawResult<Entries> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).map_err(system_errno)?;
        let waiter = EventWaiter::of(event.as_fd())?;
        let (descriptor, kind) = (event.as_raw_fd(), sys::EVENT_TYPE_EVENTFD as c_int);
        // SAFETY: the image is open. librbd does not take over the descriptor: what the image shares keeps it until the image is closed.
        check(unsafe { sys::rbd_set_image_notification(image.as_ptr(), descriptor, kind) })?;
        let count = depth * 2;
        let completions = CallbackCompletions::new(&image.shared().target.in_flight, event, count);
        image.shared().keep(Arc::clone(&completions) as _);
        Ok(Entries {
            entries: (0..count).map(|_| UnsafeCell::new(Entry::free())).collect(),
            depth: depth as usize,
            free: (0..count).rev().collect(),
            deadline: None,
            expiry: Expiry::new(count as usize),
            batch: vec![ptr::null_mut(); MOST.min(count as usize)].into(),
            listed: 0..0,
            more: false,
            again: false,
            heard: false,
            callbacks: completions,
            drained: Drained::none(),
            waiter,
        })
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// How many operations librbd has that somebody waits for.
    pub(crate) fn in_flight(&self) -> usize {
        self.entries.len() - self.free.len() - self.expiry.left()
    }

    pub(crate) fn given_up(&self) -> usize {
        self.expiry.left()
    }

    pub(crate) fn room(&self) -> usize {
        self.free.len().min(self.depth - self.in_flight())
    }

    /// librbd has no operation.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    pub(crate) fn set_deadline(&mut self, after: Option<Duration>) {
        self.deadline = after;
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.expiry.earliest().filter(|_| self.in_flight() > 0)
    }

    /// Submits an operation. The buffer comes back when it is refused. One on foreign memory is never given up on.
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
        memory: Memory<'_>,
    ) -> Result<(), (Failure, Buffer)> {
        let (buffer, foreign) = match memory {
            Memory::Owned(buffer) => (buffer, None),
            Memory::Foreign(list) => (Buffer::None, Some(list)),
        };
        let Some(&number) = self.free.last() else { return Err((Errno::EAGAIN.into(), buffer)) };
        let entry = self.entries[number as usize].get();
        // SAFETY: the entry is free, so neither librbd nor a reference has it.
        let entry = unsafe { &mut *entry };
        entry.iovecs.clear();
        for part in foreign.into_iter().flatten() {
            entry.iovecs.push(iovec(part.cast::<u8>().cast_const(), part.len()));
        }
        entry.changes = image.shared().target.header.heard();
        (entry.buffer, entry.token, entry.request, entry.offset, entry.len) =
            (buffer, token, request, offset, len);
        match call(image, &self.callbacks, entry, number) {
            Ok(()) => {
                self.free.pop();
                self.callbacks.count_submission();
                self.expiry.begin(number as usize, self.deadline.filter(|_| foreign.is_none()));
                Ok(())
            }
            Err(failure) => Err((failure, std::mem::take(&mut entry.buffer))),
        }
    }

    /// The next operation that has ended or whose time is over, if there is one. Blocks for none.
    pub(crate) fn reap(&mut self, image: &Image) -> Option<Reaped> {
        while let Some((number, completion)) = self.next_ended(image) {
            let (reaped, wanted) = self.take(image, number, completion);
            if wanted {
                return Some(reaped);
            }
        }
        // What has ended wins.
        let (number, after) = self.expiry.next()?;
        let entry = self.entries[number].get();
        // SAFETY: fields that librbd does not know of; no reference is made to the entry, which it has.
        let (token, request, offset, len) =
            unsafe { ((*entry).token, (*entry).request, (*entry).offset, (*entry).len) };
        Some(Reaped { token, request, offset, len, buffer: Buffer::None, end: End::GivenUp(after) })
    }

    /// The entry of an operation that has ended, and its completion, which is not released yet.
    fn next_ended(&mut self, image: &Image) -> Option<(usize, sys::rbd_completion_t)> {
        let mut looked = false;
        loop {
            for next in self.listed.by_ref() {
                let completion = self.batch[next];
                // SAFETY: librbd has handed it out, and it is not released yet.
                let number = unsafe { sys::rbd_aio_get_arg(completion) }.addr();
                // Else the address of a report.
                if number < self.entries.len() {
                    return Some((number, completion));
                }
            }
            if self.more {
                self.ask(image);
                continue;
            }
            if let Some(number) = self.drained.pop(&self.callbacks) {
                // SAFETY: its operation has ended, so nobody has the entry.
                return Some((number as usize, unsafe { (*self.entries[number as usize].get()).completion }));
            }
            if looked || !self.look(image) {
                return None;
            }
            looked = true;
        }
    }

    /// Looks for what has ended. False if nothing can have.
    fn look(&mut self, image: &Image) -> bool {
        // Looking again after a batch, without the system call: what has been announced meanwhile stays announced, and is
        // taken back by a later look. So after a wait of ours, which hears each announcement once whether it is taken back or
        // not. Not when all are reaped: nothing would ever follow.
        let (again, heard) = (std::mem::take(&mut self.again), std::mem::take(&mut self.heard));
        if !(again || heard) || self.is_idle() {
            self.callbacks.acknowledge();
        }
        if self.is_idle() {
            return false;
        }
        self.drained = self.callbacks.take();
        for number in self.drained.numbers(&self.callbacks) {
            // Over in a moment. A release that does put these into its queue has done so by then, and they are skipped
            // when they are listed; afterwards it would be too late, since they are released when they are handed out.
            // SAFETY: its callback has run, so nobody has the entry, and the completion is not released yet.
            unsafe { sys::rbd_aio_wait_for_complete((*self.entries[number as usize].get()).completion) };
        }
        self.ask(image);
        self.again = !self.listed.is_empty() || !self.drained.is_empty();
        true
    }

    /// Asks librbd for a batch.
    fn ask(&mut self, image: &Image) {
        let most = self.batch.len() as c_int;
        // SAFETY: the image is open and reports to us; the array has room for `most`.
        let count = unsafe { sys::rbd_poll_io_events(image.as_ptr(), self.batch.as_mut_ptr(), most) };
        self.listed = 0..usize::try_from(count).unwrap_or(0);
        self.more = self.listed.len() == self.batch.len();
    }

    /// Takes an operation out of its entry, and whether somebody still wants to hear of it.
    fn take(&mut self, image: &Image, number: usize, completion: sys::rbd_completion_t) -> (Reaped, bool) {
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
        // SAFETY: its operation has ended, so librbd has left the entry, and no other reference is made.
        let entry = unsafe { &mut *self.entries[number].get() };
        self.free.push(number as u32);
        let wanted = !self.expiry.end(number);
        if result >= 0 {
            image.shared().target.header.was_read(entry.changes);
        }
        let result = check_len(result).and_then(|count| finish(entry, count));
        let result = match result {
            Err(Errno::EILSEQ) if entry.request == Request::CompareAndWrite => {
                let differs = |unit| Some(Compare::Differs(differs_at(entry.offset, entry.differs, unit)));
                image.stripe_unit().map(differs)
            }
            other => other,
        };
        let Entry { token, request, offset, len, .. } = *entry;
        let buffer = std::mem::take(&mut entry.buffer);
        (Reaped { token, request, offset, len, buffer, end: End::Ended(result) }, wanted)
    }

    /// Waits until there may be something to reap, or room again. Blocks, at most for the timeout if there is one; not if nothing
    /// is in flight that somebody waits for and there is room.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> RawResult<bool> {
        if self.in_flight() == 0 {
            return if self.room() > 0 { Ok(self.has_taken()) } else { self.wait_for_librbd(timeout) };
        }
        let Some(earliest) = self.next_deadline() else { return self.wait_for_librbd(timeout) };
        let rest = earliest.saturating_duration_since(Instant::now());
        match timeout {
            Some(timeout) if timeout < rest => self.wait_for_librbd(Some(timeout)),
            // Either way there is something.
            _ => self.wait_for_librbd(Some(rest)).map(|_| true),
        }
    }

    /// Waits until the descriptor announces something, for instance the end of what was given up on.
    pub(crate) fn wait_for_librbd(&mut self, timeout: Option<Duration>) -> RawResult<bool> {
        if !self.has_taken() && !self.heard {
            self.heard = self.waiter.wait(timeout)?;
        }
        Ok(self.has_taken() || self.heard)
    }

    /// Something was taken from librbd and not handed out.
    fn has_taken(&self) -> bool {
        !self.listed.is_empty() || self.more || !self.drained.is_empty()
    }
}

impl AsFd for Entries {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.callbacks.event().as_fd()
    }
}
