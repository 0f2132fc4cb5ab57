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

/// The values that an operation owns until librbd has completed it: buffers, and places for
/// results.
pub(crate) trait Payload: Send + 'static {
    type Output: 'static;

    /// Whether [`on_end`](Payload::on_end) may wait for the cluster.
    const END_MAY_BLOCK: bool = false;

    /// Runs when the operation has ended, before the future is woken: on the thread of the
    /// completion, or on a separate thread if it may block and the operation has succeeded. If no
    /// thread can be started, it runs on the thread of the completion and must not block.
    fn on_end(&mut self) {}

    /// Makes the output from librbd's result and the buffers.
    fn finish(self, result: isize) -> RawResult<Self::Output>;
}

/// The shared block. The payload belongs to librbd until the slot is complete.
struct Node<P> {
    slot: Slot,
    /// Null for operations that are not counted. Not an Arc, because the last reference must not be
    /// dropped on a thread of librbd.
    target: *const Target,
    payload: UnsafeCell<P>,
}

/// The future's share of an operation in flight. Dropping it detaches the operation: librbd cannot
/// cancel one.
///
/// The type parameter is the output, not the payload.
pub(crate) struct Operation<T: 'static> {
    /// `None` once the result was taken.
    node: Option<NonNull<c_void>>,
    calls: &'static Calls<T>,
}

/// Takes the result, or stores a waker.
pub(in crate::raw) type PollCall<T> =
    unsafe fn(&mut Option<NonNull<c_void>>, &mut Context<'_>) -> Poll<RawResult<T>>;

/// The functions for a node whose payload type is erased. They all need the future's share. `poll`
/// sets the share to `None` before it frees the node and runs foreign code, because a panic of that
/// code must not leave a dangling share.
pub(in crate::raw) struct Calls<T: 'static> {
    pub(in crate::raw) poll: PollCall<T>,
    pub(in crate::raw) detach: unsafe fn(NonNull<c_void>),
}

// SAFETY: nodes contain only payloads that are Send, and the slot orders the hand-over. The output
// is made from the payload on the thread that takes it.
unsafe impl<T> Send for Operation<T> {}
// SAFETY: a shared reference gives no access.
unsafe impl<T> Sync for Operation<T> {}

impl<T> std::fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("taken", &self.node.is_none()).finish_non_exhaustive()
    }
}

impl<T> Operation<T> {
    /// # Safety
    /// `node` is the future's share of a node for these calls. The node's content is Send.
    pub(in crate::raw) unsafe fn from_share(node: NonNull<c_void>, calls: &'static Calls<T>) -> Operation<T> {
        Operation { node: Some(node), calls }
    }

    /// Submits an operation. `call` gets the payload at its final address, and the completion for
    /// librbd.
    ///
    /// The completion may run before this returns.
    ///
    /// # Safety
    /// `call` must make one librbd call that either takes the completion and returns 0, or returns
    /// a negative number and does not take it. librbd may use only the parts of the payload that
    /// stay valid until the completion has run. The target must stay valid until all operations
    /// that entered it have left.
    pub(crate) unsafe fn submit<P: Payload<Output = T>>(
        target: Option<&Target>,
        payload: P,
        call: impl FnOnce(*mut P, sys::rbd_completion_t) -> c_int,
    ) -> RawResult<Operation<T>> {
        // SAFETY: the caller's promise.
        unsafe { Operation::submit_to::<P, RbdCompletions>(target, payload, call) }
    }

    /// Like [`submit`](Operation::submit), with completions of `K`.
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
        // SAFETY: the callback takes this type of node; the out pointer lives through the call.
        let created = check(unsafe {
            K::create_completion(node.as_ptr().cast(), completed::<P, K>, &raw mut completion)
        });
        if let Err(errno) = created {
            // SAFETY: no other reference to the node exists.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
            return Err(errno);
        }
        let callable = target.is_none_or(|target| target.enter());
        // SAFETY: our share keeps the node alive.
        let payload = unsafe { (*node.as_ptr()).payload.get() };
        let called = if callable { check(call(payload, completion)) } else { Err(Errno::EBUSY) };
        if let Err(errno) = called {
            // SAFETY: librbd did not take the completion, so we alone own completion and node; we
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

    /// Returns whether the result was taken.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_taken(&self) -> bool {
        self.node.is_none()
    }

    /// Returns the result, or stores the waker for later.
    ///
    /// # Panics
    /// Panics if it is polled after it was ready.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<RawResult<T>> {
        // SAFETY: the calls match the type of the node, and we own the share.
        unsafe { (self.calls.poll)(&mut self.node, context) }
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            // SAFETY: we own the share, and it is not used afterwards.
            unsafe { (self.calls.detach)(node) }
        }
    }
}

impl<P: Payload> Node<P> {
    const CALLS: &'static Calls<P::Output> = &Calls { poll: Self::poll, detach: Self::detach };

    /// # Safety
    /// `share` is the future's share of a `Node<P>`. It becomes `None` when the node is freed.
    unsafe fn poll(
        share: &mut Option<NonNull<c_void>>,
        context: &mut Context<'_>,
    ) -> Poll<RawResult<P::Output>> {
        let node = share.expect("polled after it was ready").cast::<Node<P>>();
        // SAFETY: our share keeps the node alive. Only the slot is borrowed, because librbd may
        // have the payload.
        match unsafe { &(*node.as_ptr()).slot }.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                *share = None;
                // SAFETY: the completion has left, so we alone own the node.
                let node = unsafe { Box::from_raw(node.as_ptr()) };
                Poll::Ready(node.payload.into_inner().finish(result))
            }
        }
    }

    /// # Safety
    /// `node` is a `Node<P>`. The caller owns the future's share and gives it up.
    unsafe fn detach(node: NonNull<c_void>) {
        let node = node.cast::<Node<P>>();
        // SAFETY: our share keeps the node alive, and is given up here, once.
        if let Left::Last = unsafe { Slot::detach(&raw const (*node.as_ptr()).slot) } {
            // SAFETY: the completion has left before, so we alone own the node.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}

/// The source of completions: librbd or a test.
///
/// # Safety
/// A completion that `create_completion` made and that a call took must end in one call of
/// `callback` with it and `arg`.
pub(in crate::raw) unsafe trait Completions {
    /// # Safety
    /// `out` must be valid, and `callback` must accept `arg`.
    unsafe fn create_completion(
        arg: *mut c_void,
        callback: CompletionCallback,
        out: *mut *mut c_void,
    ) -> c_int;
    /// # Safety
    /// The completion must have ended.
    unsafe fn result_of(completion: *mut c_void) -> isize;
    /// # Safety
    /// The completion must not be used afterwards.
    unsafe fn release_completion(completion: *mut c_void);
}

pub(in crate::raw) type CompletionCallback = unsafe extern "C" fn(*mut c_void, *mut c_void);

pub(in crate::raw) struct RbdCompletions;

// SAFETY: librbd.h documents it.
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

/// The callback for the library: an operation has ended.
///
/// # Safety
/// `arg` must be the `Node<P>` with which the completion was created, and this must be its first
/// call.
unsafe extern "C" fn completed<P: Payload, K: Completions>(completion: *mut c_void, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let node: *mut Node<P> = arg.cast();
    // SAFETY: librbd passes the completion that we created, and we release it here, once.
    let result = unsafe {
        let result = K::result_of(completion);
        K::release_completion(completion);
        result
    };
    // SAFETY: the completion's share keeps the node alive until `complete`.
    let target = unsafe { (*node).target };
    if !target.is_null() {
        // SAFETY: `submit` entered it, and its caller promised that the target is valid until all
        // operations have left.
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

/// The completion's share of a node on its way to another thread.
struct Share<P>(*mut Node<P>);

// SAFETY: payloads are Send, and the slot is Sync.
unsafe impl<P: Payload> Send for Share<P> {}

/// Completes the operation for the future.
///
/// # Safety
/// The caller owns the completion's share of the node and gives it up.
unsafe fn notify<P: Payload>(node: *mut Node<P>, result: isize) {
    // SAFETY: the node lives, and the completion owns the payload until the slot is complete.
    unsafe { (*(*node).payload.get()).on_end() };
    // SAFETY: the node lives, and this runs once.
    match unsafe { Slot::complete(&raw const (*node).slot, result) } {
        Left::First(None) => {}
        Left::First(Some(waker)) => {
            catch_panic(|| waker.wake());
        }
        Left::Last => {
            // SAFETY: the future has left before, so we alone own the node.
            catch_panic(|| drop(unsafe { Box::from_raw(node) }));
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "operation_tests.rs"]
mod tests;
