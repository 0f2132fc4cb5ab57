//! One asynchronous operation of librbd: a single block of memory that the future and the
//! completion share.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::op::slot::{Left, Slot};
use crate::raw::op::target::Target;
use crate::raw::thread::background::try_spawn_detached;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

/// What an operation owns until librbd is done with it: buffers, and where results are written to.
pub(crate) trait Payload: Send + 'static {
    type Output: 'static;

    /// Whether [`on_end`](Payload::on_end) may wait for the cluster.
    const END_MAY_BLOCK: bool = false;

    /// Runs when the operation has ended, before the future hears of it: on the thread of the
    /// completion, or one of its own if it may wait and the operation has ended well. Where no such
    /// thread can be had, it must not wait.
    fn on_end(&mut self) {}

    /// What librbd's result and the buffers amount to.
    fn finish(self, result: isize) -> RawResult<Self::Output>;
}

/// The block. The payload belongs to librbd until the slot is complete.
struct Node<P> {
    slot: Slot,
    /// Null for operations that are not counted. Not an Arc: the last reference must not die on a
    /// thread of librbd's.
    target: *const Target,
    payload: UnsafeCell<P>,
}

/// The future's share of an operation in flight. Dropping it leaves the operation to itself: there
/// is no cancel in librbd.
///
/// Typed by what comes out, not by what the operation owns.
pub(crate) struct Operation<T: 'static> {
    /// `None` once the result was taken.
    node: Option<NonNull<c_void>>,
    calls: &'static Calls<T>,
}

/// Takes the result, or leaves a waker.
pub(in crate::raw) type PollCall<T> =
    unsafe fn(&mut Option<NonNull<c_void>>, &mut Context<'_>) -> Poll<RawResult<T>>;

/// What can be done with a node of some payload by an address without its type. All demand our
/// share of it. That of `poll` is taken out when it is used up, before any foreign code runs, whose
/// panic must not leave it behind.
pub(in crate::raw) struct Calls<T: 'static> {
    pub(in crate::raw) poll: PollCall<T>,
    pub(in crate::raw) detach: unsafe fn(NonNull<c_void>),
}

// SAFETY: only payloads that are Send are put into nodes, and the slot orders the hand-over. What
// comes out is made from the payload on the thread that takes it.
unsafe impl<T> Send for Operation<T> {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl<T> Sync for Operation<T> {}

impl<T> std::fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("taken", &self.node.is_none()).finish_non_exhaustive()
    }
}

impl<T> Operation<T> {
    /// # Safety
    /// The future's share of a node that takes these calls. What is in the node is Send.
    pub(in crate::raw) unsafe fn from_share(node: NonNull<c_void>, calls: &'static Calls<T>) -> Operation<T> {
        Operation { node: Some(node), calls }
    }

    /// Submits an operation: `call` gets the payload at its final address, and the completion to
    /// pass on.
    ///
    /// The completion may run before this returns.
    ///
    /// # Safety
    /// `call` must make one librbd call that either takes the completion and returns 0, or returns
    /// a negative number and does not take it. librbd may use of the payload only what stays valid
    /// until the completion has run. The target must stay valid until all operations that entered
    /// it have left.
    pub(crate) unsafe fn submit<P: Payload<Output = T>>(
        target: Option<&Target>,
        payload: P,
        call: impl FnOnce(*mut P, sys::rbd_completion_t) -> c_int,
    ) -> RawResult<Operation<T>> {
        // SAFETY: the caller's promise.
        unsafe { Operation::submit_to::<P, RbdCompletions>(target, payload, call) }
    }

    /// [`submit`](Operation::submit) with completions of `K`.
    ///
    /// # Safety
    /// As for `submit`; the call must take the completions that `K` makes.
    pub(in crate::raw) unsafe fn submit_to<P: Payload<Output = T>, K: Completions>(
        target: Option<&Target>,
        payload: P,
        call: impl FnOnce(*mut P, *mut c_void) -> c_int,
    ) -> RawResult<Operation<T>> {
        let node = Box::new(Node {
            slot: Slot::new(),
            target: target.map_or(ptr::null(), ptr::from_ref),
            payload: UnsafeCell::new(payload),
        });
        let node = NonNull::from(Box::leak(node));
        let mut completion = ptr::null_mut();
        // SAFETY: the callback is made for this type of node; the out pointer lives through the
        // call.
        let created = check(unsafe {
            K::create_completion(node.as_ptr().cast(), completed::<P, K>, &raw mut completion)
        });
        if let Err(errno) = created {
            // SAFETY: nobody else has the node.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
            return Err(errno);
        }
        let callable = target.is_none_or(|target| target.enter());
        // SAFETY: the node lives, since our own share of it does.
        let payload = unsafe { (*node.as_ptr()).payload.get() };
        let called = if callable { check(call(payload, completion)) } else { Err(Errno::EBUSY) };
        if let Err(errno) = called {
            // SAFETY: librbd did not take the completion, so completion and node are ours alone; we
            // entered.
            unsafe {
                K::release_completion(completion);
                if let Some(target) = target {
                    Target::leave(target);
                }
                drop(Box::from_raw(node.as_ptr()));
            }
            return Err(errno);
        }
        Ok(Operation { node: Some(node.cast()), calls: Node::<P>::CALLS })
    }

    /// Whether the result was taken.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_taken(&self) -> bool {
        self.node.is_none()
    }

    /// The outcome, or later a wake.
    ///
    /// # Panics
    /// When it is polled after it was ready.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<RawResult<T>> {
        // SAFETY: the type is that of the node, and what is there is our share.
        unsafe { (self.calls.poll)(&mut self.node, context) }
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            // SAFETY: we have our share, and it is not used any more.
            unsafe { (self.calls.detach)(node) }
        }
    }
}

impl<P: Payload> Node<P> {
    const CALLS: &'static Calls<P::Output> = &Calls { poll: Self::poll, detach: Self::detach };

    /// # Safety
    /// `share` is the future's share of a `Node<P>`. It is taken out when it is used up.
    unsafe fn poll(
        share: &mut Option<NonNull<c_void>>,
        context: &mut Context<'_>,
    ) -> Poll<RawResult<P::Output>> {
        let node = share.expect("polled after it was ready").cast::<Node<P>>();
        // SAFETY: our share keeps the node alive. Only the slot is borrowed: the payload may be
        // librbd's.
        match unsafe { &(*node.as_ptr()).slot }.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                *share = None;
                // SAFETY: the completion has left, and so have we: the node is ours alone.
                let node = unsafe { Box::from_raw(node.as_ptr()) };
                Poll::Ready(node.payload.into_inner().finish(result))
            }
        }
    }

    /// # Safety
    /// `node` is a `Node<P>` of which the caller has the future's share and gives it up.
    unsafe fn detach(node: NonNull<c_void>) {
        let node = node.cast::<Node<P>>();
        // SAFETY: our share keeps the node alive up to here, and is given up once.
        if let Left::Last = unsafe { Slot::detach(&raw const (*node.as_ptr()).slot) } {
            // SAFETY: the completion has left before, so the node is ours alone.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}

/// Where completions come from: librbd, or a test.
///
/// # Safety
/// A completion that `create_completion` made and a call took must end in one call of `callback`
/// with it and `arg`.
pub(in crate::raw) unsafe trait Completions {
    /// # Safety
    /// `out` must be valid, and `callback` good for `arg`.
    unsafe fn create_completion(
        arg: *mut c_void,
        callback: CompletionCallback,
        out: *mut *mut c_void,
    ) -> c_int;
    /// # Safety
    /// The completion must have ended.
    unsafe fn result_of(completion: *mut c_void) -> isize;
    /// # Safety
    /// The completion must not be used after it.
    unsafe fn release_completion(completion: *mut c_void);
}

pub(in crate::raw) type CompletionCallback = unsafe extern "C" fn(*mut c_void, *mut c_void);

pub(in crate::raw) struct RbdCompletions;

// SAFETY: so librbd.h says.
unsafe impl Completions for RbdCompletions {
    unsafe fn create_completion(
        arg: *mut c_void,
        callback: CompletionCallback,
        out: *mut *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's promise.
        unsafe { sys::rbd_aio_create_completion(arg, Some(callback), out) }
    }

    unsafe fn result_of(completion: *mut c_void) -> isize {
        // SAFETY: the caller's promise.
        unsafe { sys::rbd_aio_get_return_value(completion) }
    }

    unsafe fn release_completion(completion: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { sys::rbd_aio_release(completion) }
    }
}

/// What the library calls when an operation ends.
///
/// # Safety
/// `arg` must be the `Node<P>` that the completion was created with, whose completion did not run
/// yet.
unsafe extern "C" fn completed<P: Payload, K: Completions>(completion: *mut c_void, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let node: *mut Node<P> = arg.cast();
    // SAFETY: librbd gives us its completion, which we created and release here, once.
    let result = unsafe {
        let result = K::result_of(completion);
        K::release_completion(completion);
        result
    };
    // SAFETY: the completion's share keeps the node alive until `complete`.
    let target = unsafe { (*node).target };
    if !target.is_null() {
        // SAFETY: entered by `submit`, which was promised that the target is valid until everybody
        // has left.
        unsafe { Target::leave(target) };
    }
    let share = Share(node);
    let notify = move || {
        let share = share;
        // SAFETY: the completion's share is passed on.
        unsafe { notify(share.0, result) };
    };
    if !(P::END_MAY_BLOCK && result >= 0 && try_spawn_detached(notify)) {
        // SAFETY: the completion's share is passed on, once.
        unsafe { self::notify(node, result) };
    }
}

/// The completion's share of a node, on its way to another thread.
struct Share<P>(*mut Node<P>);

// SAFETY: payloads are Send, and the slot is Sync.
unsafe impl<P: Payload> Send for Share<P> {}

/// Tells the future of the end.
///
/// # Safety
/// The caller has the completion's share of the node, and gives it up.
unsafe fn notify<P: Payload>(node: *mut Node<P>, result: isize) {
    // SAFETY: the node is alive, and the payload is the completion's until the slot is complete.
    unsafe { (*(*node).payload.get()).on_end() };
    // SAFETY: the node is alive, and this runs once.
    match unsafe { Slot::complete(&raw const (*node).slot, result) } {
        Left::First(None) => {}
        Left::First(Some(waker)) => {
            catch_panic(|| waker.wake());
        }
        Left::Last => {
            // SAFETY: the future has left before, so the node is ours alone.
            catch_panic(|| drop(unsafe { Box::from_raw(node) }));
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "operation_tests.rs"]
mod tests;
