//! Completions for the bench `overhead`, which replaces librbd's calls by stubs.

use std::ffi::c_int;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::op::operation::{Operation, Payload};
use crate::raw::op::target::Target;

struct Nothing;

impl Payload for Nothing {
    type Output = isize;

    fn finish(self, result: isize) -> RawResult<isize> {
        Ok(result)
    }
}

/// The count of operations in flight on an image. It lives as long as the process, so it outlives
/// them.
#[derive(Debug, Clone, Copy)]
pub struct Counter(&'static Target);

impl Counter {
    /// Allocates a count, which is never freed.
    #[allow(clippy::new_without_default)] // it leaks
    pub fn new() -> Counter {
        // SAFETY: the image is never used.
        Counter(Box::leak(Box::new(unsafe { Target::new(Address::NULL, ()) })))
    }
}

/// An operation in flight without buffers. It returns librbd's result unchanged.
#[derive(Debug)]
pub struct Submitted(Operation<isize>);

impl Submitted {
    /// Submits an operation by `call`.
    ///
    /// # Safety
    /// `call` must take the completion and return 0, or return a negative number and not take it. A
    /// taken completion must end once.
    pub unsafe fn new(
        counter: Counter,
        call: impl FnOnce(sys::rbd_completion_t) -> c_int,
    ) -> Result<Submitted, Errno> {
        // SAFETY: the caller's promise; the target is never freed.
        unsafe { Operation::submit(Some(counter.0), Nothing, |_, completion| call(completion)) }
            .map(Submitted)
    }
}

impl Future for Submitted {
    type Output = Result<isize, Errno>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}
