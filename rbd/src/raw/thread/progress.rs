//! Progress callbacks across C.

use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;

use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::thread::callback::Callback;

/// The type of librbd's progress callbacks.
pub(crate) type ProgressFn = unsafe extern "C" fn(u64, u64, *mut c_void) -> c_int;

/// The state of the callback.
struct Reports<'a> {
    progress: Progress<'a>,
    /// The last report.
    last: (u64, u64),
}

/// Makes a C call that reports progress. `call` gets the function and the argument for C. librbd
/// reports a step when it begins. So after a success, if there was a report, the last report is
/// (total, total).
///
/// # Safety
/// The C call must not use the argument after it has returned, and must pass it only to that
/// function. This holds for all calls `…_with_progress` of librbd, which block.
pub(crate) unsafe fn with_progress(
    progress: Progress<'_>,
    call: impl FnOnce(ProgressFn, *mut c_void) -> c_int,
) -> RawResult<c_int> {
    let state = Reports { progress, last: (0, 0) };
    let call = |arg| {
        let code = call(report, arg);
        if code >= 0 {
            let end = |reports: &mut Reports<'_>| match reports.last {
                (done, total) if done < total => reports.progress.step(total, total),
                _ => ControlFlow::Continue(()),
            };
            // SAFETY: a Callback<Reports> that is still running. After a break it is not called.
            unsafe { Callback::enter(arg, end) };
        }
        code
    };
    // SAFETY: by the contract; `report` enters its argument as this type.
    unsafe { Callback::during(state, call) }
}

unsafe extern "C" fn report(done: u64, total: u64, arg: *mut c_void) -> c_int {
    let each = |reports: &mut Reports<'_>| {
        reports.last = (done, total);
        reports.progress.step(done, total)
    };
    // SAFETY: `with_progress` passes a Callback<Reports> that outlives the C call.
    unsafe { Callback::enter(arg, each) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use std::panic::catch_unwind;

    fn drive(progress: Progress<'_>) -> RawResult<c_int> {
        // SAFETY: as librbd would call it, and not afterwards.
        unsafe {
            with_progress(progress, |report, arg| {
                if (0..10).any(|done| report(done, 10, arg) < 0) { -libc::EIO } else { 0 }
            })
        }
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
    fn the_last_report_is_the_total() {
        let mut steps = Vec::new();
        let keep = |done, total| {
            steps.push((done, total));
            ControlFlow::Continue(())
        };
        assert_eq!(drive(Progress::new(keep)), Ok(0));
        assert_eq!((steps.len(), steps.last()), (11, Some(&(10, 10))));
        // A break at the end stops nothing.
        let last =
            |done, total| if done == total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert_eq!(drive(Progress::new(last)), Ok(0));
    }

    #[test]
    fn a_panic_crosses_c_as_a_value() {
        let caught = catch_unwind(|| drive(Progress::new(|_, _| panic!("in the callback"))));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in the callback");
    }
}
