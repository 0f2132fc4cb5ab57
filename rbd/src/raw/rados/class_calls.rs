//! Several calls of the OSDs' object classes on one object, in one read operation.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ioctx::IoCtx;
use crate::raw::rados::objects::bytes;
use crate::raw::rados::omap::ReadOp;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::exit::Pending;
use crate::raw::thread::mark::CallbackMark;

/// A call of a read-only method.
#[derive(Debug)]
pub(crate) struct ClassCall {
    pub(crate) class: &'static CStr,
    pub(crate) method: &'static CStr,
    pub(crate) input: Vec<u8>,
}

/// The answers, in the order of the calls.
pub(crate) type Answers = Vec<RawResult<Vec<u8>>>;

/// Where librados writes the answer of one call.
struct CallAnswer {
    start: *mut c_char,
    len: usize,
    code: c_int,
}

impl Drop for CallAnswer {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // SAFETY: librados allocated it for us, and we alone own it.
            unsafe { sys::rados_buffer_free(self.start) }
        }
    }
}

/// The values that an operation in flight owns.
struct InFlight {
    answers: Box<[CallAnswer]>,
    /// How many bytes of an answer are copied.
    most: usize,
    shared: Arc<Shared>,
    /// Keeps the pool open until the operation has ended.
    _ioctx: Arc<IoCtx>,
    _pending: Pending,
}

#[derive(Default)]
struct State {
    outcome: Option<RawResult<Answers>>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

/// The future of an operation in flight. Dropping it does not stop the operation.
pub(crate) struct Asked(Arc<Shared>);

impl Shared {
    fn end(&self, outcome: RawResult<Answers>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Asked {
    type Output = RawResult<Answers>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl IoCtx {
    /// Makes these calls on the object in one round trip. A failed call does not stop the others.
    /// If the object does not exist, the whole operation fails with ENOENT.
    pub(crate) fn ask(self: &Arc<IoCtx>, object: &CStr, calls: &[ClassCall]) -> Asked {
        self.ask_for(object, calls, usize::MAX)
    }

    /// Like [`ask`](IoCtx::ask), and cuts off each answer behind this many bytes.
    pub(crate) fn ask_for(self: &Arc<IoCtx>, object: &CStr, calls: &[ClassCall], most: usize) -> Asked {
        let shared = Arc::new(Shared::default());
        if let Err(errno) = self.submit(object, calls, most, &shared) {
            shared.end(Err(errno));
        }
        Asked(shared)
    }

    fn submit(
        self: &Arc<IoCtx>,
        object: &CStr,
        calls: &[ClassCall],
        most: usize,
        shared: &Arc<Shared>,
    ) -> RawResult<()> {
        // EIO stands for a call that the OSD did not reach.
        let empty = || CallAnswer { start: ptr::null_mut(), len: 0, code: -libc::EIO };
        let flight = Box::into_raw(Box::new(InFlight {
            answers: calls.iter().map(|_| empty()).collect(),
            most,
            shared: Arc::clone(shared),
            _ioctx: Arc::clone(self),
            _pending: Pending::new(),
        }));
        // SAFETY: needs nothing.
        let op = ReadOp(unsafe { sys::rados_create_read_op() });
        // SAFETY: the flight was made above, and is not shared yet.
        let answers = unsafe { (*flight).answers.as_mut_ptr() };
        for (index, call) in calls.iter().enumerate() {
            // SAFETY: there are as many answers as calls. They live in the flight, which lives
            // until the completion has run. librados copies the names and the input.
            unsafe {
                let answer = answers.add(index);
                sys::rados_read_op_exec(
                    op.0,
                    call.class.as_ptr(),
                    call.method.as_ptr(),
                    call.input.as_ptr().cast(),
                    call.input.len(),
                    &raw mut (*answer).start,
                    &raw mut (*answer).len,
                    &raw mut (*answer).code,
                );
                sys::rados_read_op_set_flags(op.0, sys::LIBRADOS_OP_FLAG_FAILOK as c_int);
            }
        }
        let mut completion = ptr::null_mut();
        // SAFETY: the callback takes the flight, which is what is passed; the out pointer lives
        // through the call.
        let created = check(unsafe {
            sys::rados_aio_create_completion2(flight.cast(), Some(completed), &raw mut completion)
        });
        let submitted = created.and_then(|_| {
            // SAFETY: pool, operation and completion are valid; librados copies the name.
            let code = unsafe {
                sys::rados_aio_read_op_operate(op.0, self.as_ptr(), completion, object.as_ptr(), 0)
            };
            // SAFETY: we own this reference; librados has its own one until the callback has run.
            unsafe { sys::rados_aio_release(completion) };
            check(code)
        });
        submitted.map(drop).inspect_err(|_| {
            // SAFETY: an operation that was not submitted has no callback, so we still own the
            // flight.
            drop(unsafe { Box::from_raw(flight) });
        })
    }
}

unsafe extern "C" fn completed(completion: sys::rados_completion_t, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    catch_panic(|| {
        // SAFETY: the argument is the flight of this completion, whose callback runs once.
        let flight = unsafe { Box::from_raw(arg.cast::<InFlight>()) };
        // SAFETY: librados keeps the completion until the callback has returned.
        let code = unsafe { sys::rados_aio_get_return_value(completion) };
        let outcome =
            check(code).map(|_| flight.answers.iter().map(|answer| copy(answer, flight.most)).collect());
        flight.shared.end(outcome);
    });
}

fn copy(answer: &CallAnswer, most: usize) -> RawResult<Vec<u8>> {
    check(answer.code)?;
    // SAFETY: librados has set both: null, or at least as many bytes.
    Ok(unsafe { bytes(answer.start, answer.len.min(most)) })
}
