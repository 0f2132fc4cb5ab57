//! Completions instead of librbd's, and operations that end on request.
//!
//! The functions below have the names of librbd's, and the linker prefers the program's own
//! functions.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;

use librbd_sys::{rbd_callback_t, rbd_completion_t};
use rbd::bench_internals::{Counter, Submitted};

struct Completion {
    callback: rbd_callback_t,
    arg: *mut c_void,
    result: isize,
}

#[unsafe(no_mangle)]
extern "C" fn rbd_aio_create_completion(
    arg: *mut c_void,
    callback: rbd_callback_t,
    out: *mut rbd_completion_t,
) -> c_int {
    let completion = Box::into_raw(Box::new(Completion { callback, arg, result: 0 }));
    // SAFETY: an out pointer, as librbd demands.
    unsafe { *out = completion.cast() };
    0
}

#[unsafe(no_mangle)]
extern "C" fn rbd_aio_get_return_value(completion: rbd_completion_t) -> isize {
    // SAFETY: made above and not released, as librbd demands.
    unsafe { (*completion.cast::<Completion>()).result }
}

#[unsafe(no_mangle)]
extern "C" fn rbd_aio_release(completion: rbd_completion_t) {
    // SAFETY: made above and released once, as librbd demands.
    drop(unsafe { Box::from_raw(completion.cast::<Completion>()) });
}

/// The other end of an operation in flight.
pub struct Pending(rbd_completion_t);

// SAFETY: librbd ends operations on its own threads; nothing here belongs to a thread.
unsafe impl Send for Pending {}

impl Pending {
    /// Ends the operation on this thread.
    pub fn end(self, result: isize) {
        let completion = self.0.cast::<Completion>();
        // SAFETY: only its holder ends it, and it lives until the callback releases it.
        unsafe {
            (*completion).result = result;
            if let Some(callback) = (*completion).callback {
                callback(self.0, (*completion).arg);
            }
        }
    }
}

/// Submits an operation of this library.
pub fn submit(counter: Counter) -> (Submitted, Pending) {
    let taken = Cell::new(ptr::null_mut());
    // SAFETY: the completion is taken, and `Pending` ends it at most once.
    let submitted = unsafe {
        Submitted::new(counter, |completion| {
            taken.set(completion);
            0
        })
    };
    (submitted.unwrap(), Pending(taken.get()))
}

unsafe extern "C" fn release(completion: rbd_completion_t, _arg: *mut c_void) {
    rbd_aio_release(completion);
}

/// Returns an operation whose callback does nothing, which shows the cost of the stub.
pub fn bare() -> Pending {
    let mut completion = ptr::null_mut();
    rbd_aio_create_completion(ptr::null_mut(), Some(release), &raw mut completion);
    Pending(completion)
}
