//! Callbacks that C makes during a blocking call: a break becomes -ECANCELED, a panic is stored and
//! resumed afterwards.

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

/// A callback on its way through one C call, which may make it from any thread: they take turns.
pub(crate) struct Callback<F>(Mutex<State<F>>);

impl<F: Send> Callback<F> {
    /// Makes the C call: `call` gets the argument that the C function hands back to
    /// [`enter`](Self::enter).
    ///
    /// # Safety
    /// The C function must not use the argument after it returned, and give it to nothing but
    /// callbacks that [`enter`](Self::enter) it with this `F`.
    pub(crate) unsafe fn during(callback: F, call: impl FnOnce(*mut c_void) -> c_int) -> RawResult<c_int> {
        let state = Callback(Mutex::new(State { callback, stopped: false, panic: None }));
        let code = call((&raw const state).cast_mut().cast());
        let state = state.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = state.panic {
            resume_unwind(panic);
        }
        // librbd turns our -ECANCELED into other numbers in places; what the caller asked for
        // decides. Success stays success: a break that came too late stopped nothing.
        check(code).map_err(|errno| if state.stopped { Errno::ECANCELED } else { errno })
    }

    /// What the C callback does: runs `each` with the callback and tells C whether to go on.
    ///
    /// # Safety
    /// `arg` must be the argument of a [`during`](Self::during) with the same `F` that is still
    /// going on.
    pub(crate) unsafe fn enter(arg: *mut c_void, each: impl FnOnce(&mut F) -> ControlFlow<()>) -> c_int {
        let _mark = CallbackMark::set();
        // SAFETY: the caller says that it is this type and alive. Only shared references are made
        // of it.
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
