//! The entries of a queue: requests that librbd has.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use super::callback_completions::{CallbackCompletions, on_completion};
use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::op::answer::Answer;
use crate::raw::op::kept::Later;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::{Next, Request};
use crate::raw::op::target::Target;

/// An entry: one of the fixed number of requests that librbd may have.
pub(super) struct Entry {
    pub(super) token: u64,
    pub(super) request: Request,
    /// The completion of a call whose end a callback reports. Null if this crate reports it.
    pub(super) completion: Address<c_void>,
    /// The next step, if it was looked up in the background.
    pub(super) answered: Option<Next>,
}

impl Entry {
    pub(super) fn free() -> Entry {
        Entry { token: 0, request: Request::empty(), completion: Address::NULL, answered: None }
    }
}

/// The place of an entry. The queue knows who owns the entry; a reference to the place gives no
/// access.
pub(super) struct EntryCell(UnsafeCell<Entry>);

// SAFETY: entries are Send, and one thread at a time owns one.
unsafe impl Sync for EntryCell {}

impl EntryCell {
    pub(super) fn free() -> EntryCell {
        EntryCell(UnsafeCell::new(Entry::free()))
    }

    pub(super) fn entry(&self) -> Address<Entry> {
        // SAFETY: as for `Sync`.
        unsafe { Address::new(self.0.get()) }
    }
}

/// An entry on its way to librbd or another thread, with all values needed there. The queue does
/// not move the entry until a completion or a report gives it back.
pub(super) struct Submission {
    pub(super) entry: Address<Entry>,
    pub(super) number: u32,
    pub(super) callbacks: Arc<CallbackCompletions>,
    pub(super) target: Arc<Target>,
}

impl Submission {
    /// Submits the rest of the request, or keeps it while the image is held.
    ///
    /// # Safety
    /// The entry is valid, its request is prepared, and the image is open, until the entry is given
    /// back. Nothing else uses the entry until then. If this fails, the entry is given back at
    /// once.
    pub(super) unsafe fn start(self) -> RawResult<()> {
        self.callbacks.count_submission();
        let target = Arc::clone(&self.target);
        let mut this = Some(self);
        let later = || -> Later {
            let this = this.take().expect("called once");
            // It is counted again when it is submitted.
            this.callbacks.uncount_submission();
            // SAFETY: by the contract: the queue still waits for the entry.
            Box::new(move || unsafe { this.start_or_report() })
        };
        let kept = target.keep_for_later(later);
        let Some(this) = this.filter(|_| !kept) else { return Ok(()) };
        // SAFETY: we own the entry.
        let request = unsafe { &mut (*this.entry.get()).request };
        if !request.is_judged(&target) {
            let _ = target.enter();
            // SAFETY: entered above.
            unsafe { target.ask(false, move |answer| this.start_judged(answer)) };
            return Ok(());
        }
        if request.is_refused() {
            // SAFETY: we own the entry, and librbd does not get it.
            unsafe { report(this.entry, this.number, &this.callbacks, Next::Ended) };
            return Ok(());
        }
        // SAFETY: by the contract.
        let called = unsafe { this.call() };
        called.inspect_err(|_| this.callbacks.uncount_submission())
    }

    /// # Safety
    /// As for [`start`](Submission::start).
    unsafe fn start_or_report(self) {
        let (entry, number, callbacks) = (self.entry, self.number, Arc::clone(&self.callbacks));
        // SAFETY: by the contract. If it fails, librbd did not take the request.
        unsafe {
            if let Err(errno) = self.start() {
                callbacks.count_submission();
                (*entry.get()).request.fail(errno);
                report(entry, number, &callbacks, Next::Ended);
            }
        }
    }

    /// Continues with the size against which the range is checked.
    ///
    /// # Safety
    /// As for [`start`](Submission::start); the target was entered, and the submission counted.
    unsafe fn start_judged(self, answer: &Answer) {
        // SAFETY: by the contract. If the call fails, librbd did not take the request.
        unsafe {
            let entry = self.entry;
            let is_within = (*entry.get()).request.is_within(&self.target, answer);
            let called = if is_within { self.call() } else { Err(Errno::EINVAL) };
            if let Err(errno) = called {
                (*entry.get()).request.fail(errno);
                report(entry, self.number, &self.callbacks, Next::Ended);
            }
            Target::leave(Arc::as_ptr(&self.target));
        }
    }

    /// # Safety
    /// As for [`start`](Submission::start).
    unsafe fn call(&self) -> RawResult<()> {
        // SAFETY: by the contract.
        let entry = unsafe { &mut *self.entry.get() };
        // An empty compare-and-write is submitted as a read.
        let reported = entry.request.kind == Kind::CompareAndWrite && entry.request.len > 0;
        let (arg, callback): (_, sys::rbd_callback_t) = if reported {
            (self.callbacks.arg(self.number), Some(on_completion))
        } else {
            (ptr::without_provenance_mut(self.number as usize), None)
        };
        let mut completion = ptr::null_mut();
        // SAFETY: without a callback, only we use the argument: the number of the entry. With a
        // callback, the stack is freed after the image is closed, and closing waits until the
        // target is empty.
        check(unsafe { sys::rbd_aio_create_completion(arg, callback, &raw mut completion) })?;
        // SAFETY: a completion may be used from any thread.
        entry.completion = unsafe { Address::new(completion) };
        if reported {
            let _ = self.target.enter();
        }
        let request: *mut Request = &raw mut entry.request;
        // SAFETY: by the contract.
        let code: c_int = unsafe { Request::call(request, &self.target, completion) };
        check(code).map(drop).inspect_err(|_| {
            // SAFETY: librbd did not take it, so no callback will leave the target.
            unsafe {
                sys::rbd_aio_release(completion);
                if reported {
                    Target::leave(Arc::as_ptr(&self.target));
                }
            }
        })
    }

    /// Looks up in the background what the end of a call means, and then reports the entry.
    ///
    /// # Safety
    /// As for [`start`](Submission::start); librbd has ended the call.
    pub(super) unsafe fn ask(self, cause: bool, wanted: bool) {
        // It will be reported once more.
        self.callbacks.count_submission();
        let _ = self.target.enter();
        let target = Arc::clone(&self.target);
        let then = move |answer: &Answer| {
            let this = self;
            // SAFETY: we own the entry until it is reported.
            unsafe {
                let next = (*this.entry.get()).request.answered(&this.target, answer, wanted);
                report(this.entry, this.number, &this.callbacks, next);
                Target::leave(Arc::as_ptr(&this.target));
            }
        };
        // SAFETY: entered above.
        unsafe { target.ask(cause, then) };
    }
}

/// Gives an entry back to its queue.
///
/// # Safety
/// The caller owns the entry.
unsafe fn report(entry: Address<Entry>, number: u32, callbacks: &CallbackCompletions, next: Next) {
    // SAFETY: by the contract.
    unsafe { (*entry.get()).answered = Some(next) };
    callbacks.report(number);
}
