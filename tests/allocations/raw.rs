//! Counts the calls of a function of librbd.
//!
//! The function below has the same name, and the linker prefers the program's own functions.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use librbd_sys::{rbd_completion_t, rbd_image_t};

type Poll = unsafe extern "C" fn(rbd_image_t, *mut rbd_completion_t, c_int) -> c_int;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Returns how often completions were requested.
pub(super) fn polls() -> usize {
    CALLS.load(Ordering::SeqCst)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rbd_poll_io_events(
    image: rbd_image_t,
    completions: *mut rbd_completion_t,
    most: c_int,
) -> c_int {
    static THEIRS: OnceLock<Poll> = OnceLock::new();
    let theirs = THEIRS.get_or_init(|| {
        // SAFETY: the name is a C string.
        let theirs = unsafe { libc::dlsym(libc::RTLD_NEXT, c"rbd_poll_io_events".as_ptr()) };
        assert!(!theirs.is_null(), "librbd is loaded after the program");
        // SAFETY: the type that librbd.h gives it.
        unsafe { std::mem::transmute::<*mut libc::c_void, Poll>(theirs) }
    });
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the caller's promise to librbd.
    unsafe { theirs(image, completions, most) }
}
