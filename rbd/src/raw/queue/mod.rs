//! Queues: completions that are reaped in batches from librbd's queue, which a file descriptor
//! announces.
//!
//! Once an image reports to such a queue, all its completions go there, even those with callbacks.
//! librbd would hand out a completion that its callback has already released. So an image has
//! either a queue or callbacks, never both. The exceptions, which never go there and therefore need
//! a callback or another thread, are in the module `callback_completions`.

mod callback_completions;
mod entry;
mod event_waiter;
mod expiry;
mod reaped;

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use librbd_sys as sys;
use rustix::event::EventfdFlags;

use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, system_errno};
use crate::raw::image::Image;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::{Fault, Next, Request};
use crate::raw::op::target::Target;
use callback_completions::{CallbackCompletions, Taken};
use entry::{Entry, EntryCell, Submission};
use event_waiter::EventWaiter;
use expiry::Expiry;
pub(crate) use reaped::{End, Reaped};

/// How many completions one call requests. librbd puts an array of this size onto the stack.
const MOST: usize = 512;

/// The requests of a queue, and the completions that were reaped but not returned yet. The image is
/// not closed before this is dropped.
pub(crate) struct Entries {
    /// Twice the depth, so that as many requests can time out as the queue is deep. The number
    /// never changes, because librbd has pointers into the entries in flight. So no exclusive
    /// reference to the whole slice is made, and only reaping makes one to an entry in flight.
    entries: Box<[EntryCell]>,
    depth: usize,
    /// The numbers of the free entries.
    free: Vec<u32>,
    /// The timeout of submitted requests.
    timeout: Option<Duration>,
    expiry: Expiry,
    /// The first change or flush that was given up and then failed.
    late: Option<Reaped>,
    batch: Box<[Address<c_void>]>,
    /// The rest of the batch.
    listed: std::ops::Range<usize>,
    /// The batch was full, so librbd may have more completions.
    more: bool,
    /// The last batch was not empty, and the descriptor was not read since.
    again: bool,
    /// There was an announcement, and librbd was not asked since.
    heard: bool,
    /// The completions that librbd does not put into its queue.
    callbacks: Arc<CallbackCompletions>,
    /// The rest of those taken from the stack.
    taken: Taken,
    waiter: EventWaiter,
    target: Arc<Target>,
}

impl Drop for Entries {
    fn drop(&mut self) {
        if self.is_idle() {
            self.callbacks.stop_collecting();
            Arc::clone(&self.target).detach_queue();
        } else {
            // librbd has some of them. The image stays open as well.
            std::mem::forget(std::mem::take(&mut self.entries));
        }
    }
}

impl Entries {
    /// Makes the image report its completions here, for good. Fails with `EBUSY` while operations
    /// are in flight, or if the image had a queue before.
    pub(crate) fn new(image: &Image, depth: u32) -> RawResult<Entries> {
        let target = image.shared();
        if !target.begin_queue() {
            return Err(Errno::EBUSY);
        }
        Entries::begin(Arc::clone(target), depth).inspect_err(|_| target.cancel_queue())
    }

    fn begin(target: Arc<Target>, depth: u32) -> RawResult<Entries> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).map_err(system_errno)?;
        let waiter = EventWaiter::of(event.as_fd())?;
        let (descriptor, kind) = (event.as_raw_fd(), sys::EVENT_TYPE_EVENTFD as c_int);
        // SAFETY: the image is open. The target keeps the descriptor open until the image is
        // closed.
        check(unsafe { sys::rbd_set_image_notification(target.image(), descriptor, kind) })?;
        let count = depth * 2;
        let callbacks = CallbackCompletions::new(&target, event, count);
        target.keep(callbacks.clone());
        Ok(Entries {
            entries: (0..count).map(|_| EntryCell::free()).collect(),
            depth: depth as usize,
            free: (0..count).rev().collect(),
            timeout: None,
            expiry: Expiry::new(count as usize),
            late: None,
            batch: vec![Address::NULL; MOST.min(count as usize)].into(),
            listed: 0..0,
            more: false,
            again: false,
            heard: false,
            callbacks,
            taken: Taken::none(),
            waiter,
            target,
        })
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns how many requests are in flight, without timed-out ones.
    pub(crate) fn in_flight(&self) -> usize {
        self.entries.len() - self.free.len() - self.expiry.left()
    }

    pub(crate) fn given_up(&self) -> usize {
        self.expiry.left()
    }

    pub(crate) fn room(&self) -> usize {
        self.free.len().min(self.depth - self.in_flight())
    }

    /// Returns whether librbd has no request.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.expiry.earliest().filter(|_| self.in_flight() > 0)
    }

    /// Begins the end: nothing times out any more, and requests that were given up are reaped, too,
    /// but not continued. Returns the first of those that has failed before, except for reads.
    pub(crate) fn end(&mut self) -> Option<Reaped> {
        self.expiry.stop();
        self.late.take()
    }

    fn submission(&self, number: u32) -> Submission {
        let (callbacks, target) = (Arc::clone(&self.callbacks), Arc::clone(&self.target));
        Submission { entry: self.entries[number as usize].entry(), number, callbacks, target }
    }

    /// Submits a request whose range was checked. If it is refused, the error contains the buffer.
    /// There must be a free entry.
    pub(crate) fn submit(&mut self, token: u64, request: Request) -> Result<(), (Fault, Buffer)> {
        // SAFETY: no memory of the caller is used.
        unsafe { self.submit_on_memory(token, request, &[]) }
    }

    /// Like [`submit`](Entries::submit), for a read or write without a buffer, on memory of the
    /// caller. It never times out.
    ///
    /// # Safety
    /// Each part must be valid until the request has ended: for writes if it is a read, otherwise
    /// for reads.
    pub(crate) unsafe fn submit_on_memory(
        &mut self,
        token: u64,
        mut request: Request,
        parts: &[*mut [u8]],
    ) -> Result<(), (Fault, Buffer)> {
        let Some(&number) = self.free.last() else { return Err((Errno::EAGAIN.into(), request.buffer)) };
        // SAFETY: the entry is free, so neither librbd nor another reference uses it.
        let entry = unsafe { &mut *self.entries[number as usize].entry().get() };
        if let Err(failure) = request.prepare(&mut entry.request, parts) {
            return Err((failure.into(), request.buffer));
        }
        let timeout = self.timeout.filter(|_| parts.is_empty());
        *entry = Entry { token, request, completion: Address::NULL, answered: None };
        // SAFETY: the entry does not move while it is not free. The image is open while this lives,
        // and also afterwards if not all entries are free.
        match unsafe { self.submission(number).start() } {
            Ok(()) => {
                self.free.pop();
                self.expiry.begin(number as usize, timeout);
                Ok(())
            }
            Err(errno) => {
                // SAFETY: the entry is free again.
                let entry = unsafe { &mut *self.entries[number as usize].entry().get() };
                Err((errno.into(), std::mem::take(&mut entry.request.buffer)))
            }
        }
    }

    /// Returns the next request that has ended or timed out, if there is one. Never blocks.
    pub(crate) fn reap(&mut self) -> Option<Reaped> {
        while let Some((number, completion)) = self.next_completed() {
            if let Some(reaped) = self.take(number, completion) {
                return Some(reaped);
            }
        }
        // A completion wins over a timeout.
        let (number, after) = self.expiry.next()?;
        let entry = self.entries[number].entry().get();
        // SAFETY: librbd does not use these fields, and no reference is made to the entry, which
        // librbd has.
        let (token, kind, offset, len) = unsafe {
            let request = &raw const (*entry).request;
            ((*entry).token, (*request).kind, (*request).offset, (*request).len)
        };
        Some(Reaped { token, kind, offset, len, end: End::GivenUp(after) })
    }

    /// Returns the next entry whose call has ended, and its completion, which is not released yet.
    /// The completion is null if this crate reported the entry.
    fn next_completed(&mut self) -> Option<(usize, Address<c_void>)> {
        let mut looked = false;
        loop {
            for next in self.listed.by_ref() {
                let completion = self.batch[next];
                // SAFETY: librbd has handed it out, and it is not released yet.
                let number = unsafe { sys::rbd_aio_get_arg(completion.get()) }.addr();
                // Otherwise it is the address of a link, which is reported separately.
                if number < self.entries.len() {
                    return Some((number, completion));
                }
            }
            if self.more {
                self.ask();
                continue;
            }
            if let Some(number) = self.taken.pop(&self.callbacks) {
                return Some((number as usize, self.completion_of(number)));
            }
            if looked || !self.look() {
                return None;
            }
            looked = true;
        }
    }

    /// Returns the completion of a reported call; null if this crate reported it.
    fn completion_of(&self, number: u32) -> Address<c_void> {
        // SAFETY: it was reported, so nothing else uses the entry.
        let entry = unsafe { &*self.entries[number as usize].entry().get() };
        if entry.answered.is_some() { Address::NULL } else { entry.completion }
    }

    /// Looks for completions. Returns false if there can be none.
    fn look(&mut self) -> bool {
        // After a batch, looks again without the system call: later announcements remain, and a
        // later look resets them. The same applies after this queue's own wait, which sees each
        // announcement once whether it is reset or not. Not when all requests are reaped, because
        // then no look would follow.
        let (again, heard) = (std::mem::take(&mut self.again), std::mem::take(&mut self.heard));
        if !(again || heard) || self.is_idle() {
            self.callbacks.acknowledge();
        }
        if self.is_idle() {
            return false;
        }
        self.taken = self.callbacks.take();
        for number in self.taken.numbers(&self.callbacks) {
            let completion = self.completion_of(number);
            if completion != Address::NULL {
                // This takes a moment. A release that also puts these into its queue has done so by
                // then, and they are skipped when they are listed. Later would be too late, because
                // they are released when they are returned.
                // SAFETY: its callback has run, and the completion is not released yet.
                unsafe { sys::rbd_aio_wait_for_complete(completion.get()) };
            }
        }
        self.ask();
        self.again = !self.listed.is_empty() || !self.taken.is_empty();
        true
    }

    /// Asks librbd for a batch.
    fn ask(&mut self) {
        let most = self.batch.len() as c_int;
        let _alone = self.callbacks.keep_collector_out(&self.taken);
        // SAFETY: this value keeps the image open, which reports to us; the array has room for
        // `most` completions.
        let count =
            unsafe { sys::rbd_poll_io_events(self.target.image(), self.batch.as_mut_ptr().cast(), most) };
        self.listed = 0..usize::try_from(count).unwrap_or(0);
        let listed = self.batch[self.listed.clone()].iter();
        // SAFETY: librbd has handed them out, and they are not released yet.
        let numbers = listed.map(|completion| unsafe { sys::rbd_aio_get_arg(completion.get()) }.addr());
        self.callbacks.count_ends(numbers.filter(|number| *number < self.entries.len()).count());
        self.more = self.listed.len() == self.batch.len();
    }

    /// Takes a request whose call has ended out of its entry. Returns `None` if the request
    /// continues, or has timed out before.
    fn take(&mut self, number: usize, completion: Address<c_void>) -> Option<Reaped> {
        // SAFETY: its call has ended, so librbd does not use the entry, and no other reference
        // exists.
        let entry = unsafe { &mut *self.entries[number].entry().get() };
        let wanted = !self.expiry.is_left(number);
        let next = if let Some(next) = entry.answered.take() {
            next
        } else {
            // SAFETY: we created it, its call has ended, and it is released here, once.
            let result = unsafe {
                let result = sys::rbd_aio_get_return_value(completion.get());
                if result < 0 {
                    // librbd's close does not wait for a request that librbd refused, and librbd's
                    // thread may still be using our descriptor.
                    sys::rbd_aio_wait_for_complete(completion.get());
                }
                sys::rbd_aio_release(completion.get());
                result
            };
            entry.request.settle(&self.target, result, wanted)
        };
        match next {
            Next::Ended => {}
            // SAFETY: as in `submit`.
            Next::Part => match unsafe { self.submission(number as u32).start() } {
                Ok(()) => return None,
                // SAFETY: librbd did not take it.
                Err(errno) => unsafe { (*self.entries[number].entry().get()).request.fail(errno) },
            },
            Next::Ask { cause } => {
                // SAFETY: as in `submit`.
                unsafe { self.submission(number as u32).ask(cause, wanted) };
                return None;
            }
        }
        // SAFETY: nothing else uses the entry.
        let entry = unsafe { &mut *self.entries[number].entry().get() };
        self.free.push(number as u32);
        let wanted = !self.expiry.end(number);
        let (token, request) = (entry.token, &mut entry.request);
        let (kind, offset, len) = (request.kind, request.offset, request.len);
        let (buffer, outcome) = request.finish(self.target.stripe_unit());
        if wanted {
            return Some(Reaped { token, kind, offset, len, end: End::Ended((buffer, outcome)) });
        }
        if outcome.is_err() && self.late.is_none() && kind != Kind::Read {
            self.late = Some(Reaped { token, kind, offset, len, end: End::Ended((Buffer::None, outcome)) });
        }
        None
    }

    /// Waits until there may be something to reap, or a free entry. Blocks at most for the timeout,
    /// if there is one. Does not block if an entry is free and nothing is in flight except
    /// timed-out requests.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> RawResult<bool> {
        if self.in_flight() == 0 {
            return if self.room() > 0 { Ok(self.has_taken()) } else { self.wait_for_librbd(timeout) };
        }
        let Some(earliest) = self.next_deadline() else { return self.wait_for_librbd(timeout) };
        let rest = earliest.saturating_duration_since(Instant::now());
        match timeout {
            Some(timeout) if timeout < rest => self.wait_for_librbd(Some(timeout)),
            // A completion or a timeout: there is something to reap.
            _ => self.wait_for_librbd(Some(rest)).map(|_| true),
        }
    }

    /// Waits until the descriptor announces something, for instance the end of a timed-out request.
    pub(crate) fn wait_for_librbd(&mut self, timeout: Option<Duration>) -> RawResult<bool> {
        if !self.has_taken() && !self.heard {
            self.heard = self.waiter.wait(timeout)?;
        }
        Ok(self.has_taken() || self.heard)
    }

    /// Returns whether completions were taken from librbd and not returned yet.
    fn has_taken(&self) -> bool {
        !self.listed.is_empty() || self.more || !self.taken.is_empty()
    }
}

impl AsFd for Entries {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.callbacks.event().as_fd()
    }
}
