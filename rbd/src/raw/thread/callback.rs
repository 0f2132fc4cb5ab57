//! Callbacks during a blocking C call. A break becomes -ECANCELED. A panic is stored, and resumed
//! after the call.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::thread::mark::CallbackMark;

struct State<F> {
    callback: F,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// A callback that is passed through one C call. C may call it from any thread; the calls take
/// turns.
pub(crate) struct Callback<F>(Mutex<State<F>>);

impl<F: Send> Callback<F> {
    /// Makes the C call. `call` gets the argument that the C function passes to
    /// [`enter`](Self::enter).
    ///
    /// # Safety
    /// The C function must not use the argument after it has returned, and must pass it only to
    /// callbacks that [`enter`](Self::enter) it with this `F`.
    pub(crate) unsafe fn during(callback: F, call: impl FnOnce(*mut c_void) -> c_int) -> RawResult<c_int> {
        let state = Callback(Mutex::new(State { callback, stopped: false, panic: None }));
        let code = call((&raw const state).cast_mut().cast());
        let state = state.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = state.panic {
            resume_unwind(panic);
        }
        // librbd sometimes replaces our -ECANCELED, so the caller's break decides. Success stays
        // success: a late break stopped nothing.
        check(code).map_err(|errno| if state.stopped { Errno::ECANCELED } else { errno })
    }

    /// Runs `each` with the callback, and returns to C whether to continue.
    ///
    /// # Safety
    /// `arg` must be the argument of a [`during`](Self::during) with the same `F` that is still
    /// running.
    pub(crate) unsafe fn enter(arg: *mut c_void, each: impl FnOnce(&mut F) -> ControlFlow<()>) -> c_int {
        let _mark = CallbackMark::set();
        // SAFETY: the caller promises that it has this type and is alive. Only shared references to
        // it are made.
        let state = unsafe { &*arg.cast::<Callback<F>>() };
        let mut state = state.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopped || state.panic.is_some() {
            return -libc::ECANCELED;
        }
        match catch_unwind(AssertUnwindSafe(|| each(&mut state.callback))) {
            Ok(ControlFlow::Continue(())) => return 0,
            Ok(ControlFlow::Break(())) => state.stopped = true,
            Err(panic) => state.panic = Some(panic),
        }
        -libc::ECANCELED
    }
}
