//! Progress callbacks across C: a break becomes -ECANCELED, a panic is stored and resumed afterwards.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use super::RawResult;
use super::call::check;
use super::thread::CallbackMark;
use crate::errno::Errno;
use crate::progress::Progress;

/// The function pointer of librbd's progress callbacks.
pub(crate) type ProgressFn = unsafe extern "C" fn(u64, u64, *mut c_void) -> c_int;

struct State<'a> {
    progress: Progress<'a>,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// Makes a C call that reports progress: `call` gets the function and the argument to pass on.
///
/// The C call must not use them after it returned, which holds for all of librbd's `…_with_progress`: they block.
pub(crate) fn with_progress(
    progress: Progress<'_>,
    call: impl FnOnce(ProgressFn, *mut c_void) -> c_int,
) -> RawResult<c_int> {
    let state = Mutex::new(State { progress, stopped: false, panic: None });
    let code = call(report, (&raw const state).cast_mut().cast());
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(panic) = state.panic {
        resume_unwind(panic);
    }
    // librbd turns our -ECANCELED into other numbers in places; what the caller asked for decides.
    check(code).map_err(|errno| if state.stopped { Errno::ECANCELED } else { errno })
}

unsafe extern "C" fn report(done: u64, total: u64, arg: *mut c_void) -> c_int {
    let _mark = CallbackMark::set();
    // SAFETY: `with_progress` passes a State that outlives the C call, whose lifetime no reference here survives. The
    // mutex serialises librbd's threads.
    let state = unsafe { &*arg.cast::<Mutex<State<'_>>>() };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let state = &mut *state;
    if state.stopped || state.panic.is_some() {
        return -libc::ECANCELED;
    }
    let Some(callback) = &mut state.progress.0 else { return 0 };
    match catch_unwind(AssertUnwindSafe(|| callback(done, total))) {
        Ok(ControlFlow::Continue(())) => return 0,
        Ok(ControlFlow::Break(())) => state.stopped = true,
        Err(panic) => state.panic = Some(panic),
    }
    -libc::ECANCELED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(progress: Progress<'_>) -> RawResult<c_int> {
        with_progress(progress, |report, arg| {
            for done in 0..10 {
                // SAFETY: as librbd would call it.
                let code = unsafe { report(done, 10, arg) };
                if code < 0 {
                    return -libc::EIO;
                }
            }
            0
        })
    }

    #[test]
    fn break_reaches_the_caller_as_cancelled_and_is_not_asked_again() {
        let mut calls = 0;
        let result = drive(Progress::new(|done, _| {
            calls += 1;
            if done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }));
        assert_eq!(result, Err(Errno::ECANCELED));
        assert_eq!(calls, 4);
        assert_eq!(drive(Progress::default()), Ok(0));
    }

    #[test]
    fn a_panic_crosses_c_as_a_value() {
        let caught = catch_unwind(|| drive(Progress::new(|_, _| panic!("in the callback"))));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in the callback");
    }
}
