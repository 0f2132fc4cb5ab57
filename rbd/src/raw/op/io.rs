//! A request as an asynchronous operation: the block of memory that its future and its completions
//! share.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll};

use librbd_sys as sys;

use crate::buffer::Buffer;
use crate::compare::Compare;
use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::op::answer::Answer;
use crate::raw::op::hold::Entered;
use crate::raw::op::kept::Later;
use crate::raw::op::operation::{Calls, Operation};
use crate::raw::op::request::{Fault, Next, Request};
use crate::raw::op::slot::{Left, Slot};
use crate::raw::op::target::Target;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

/// The result of a request.
pub(crate) type Outcome = (Buffer, Result<Option<Compare>, Fault>);

/// The shared block. The request belongs to librbd until the slot is complete.
struct Node {
    slot: Slot,
    /// Valid while the operation counts as in flight. Afterwards only `unit` is used.
    target: *const Target,
    unit: u64,
    request: UnsafeCell<Request>,
}

/// The completion's share of a node on its way to another thread.
#[derive(Clone, Copy)]
struct Share(*mut Node);

// SAFETY: a request is Send, and the slot is Sync.
unsafe impl Send for Share {}

/// Submits a checked request. While the image is held, the request is kept and submitted later.
///
/// # Safety
/// The image of the target must be open. Until all operations have left, the image must not be
/// closed and the target must not be freed.
pub(in crate::raw) unsafe fn submit(
    target: &Target,
    mut request: Request,
) -> Result<Operation<Outcome>, Fault> {
    request.prepare(&mut Request::empty(), &[])?;
    let unit = target.stripe_unit();
    let node = Node { slot: Slot::new(), target, unit, request: UnsafeCell::new(request) };
    let node = Box::into_raw(Box::new(node));
    // SAFETY: the node is new, and the target is valid. Both shares are passed on: one here, one
    // below.
    if let Err(errno) = unsafe { start(node) } {
        // SAFETY: no other reference to the node exists.
        drop(unsafe { Box::from_raw(node) });
        return Err(errno.into());
    }
    // SAFETY: the remaining share is that of the future.
    Ok(unsafe { Operation::from_share(NonNull::new_unchecked(node.cast()), &CALLS) })
}

/// Submits the rest of the request, or keeps it if the image is held.
///
/// # Safety
/// The caller owns the completion's share of the node, whose target is valid and whose image is
/// open. If this fails, the caller still owns the share.
unsafe fn start(node: *mut Node) -> RawResult<()> {
    // SAFETY: valid, by the contract.
    let target = unsafe { &*(*node).target };
    let share = Share(node);
    let later = || -> Later {
        Box::new(move || {
            let share = share;
            // SAFETY: the hold that kept it keeps the image open until this has run.
            unsafe { start(share.0).unwrap_or_else(|errno| fail(share.0, errno)) };
        })
    };
    match target.begin(later) {
        Entered::Now => {}
        Entered::Later => return Ok(()),
        Entered::Queued => return Err(Errno::EBUSY),
    }
    // SAFETY: librbd does not have the request.
    let request = unsafe { &mut *(*node).request.get() };
    if !request.is_judged(target) {
        let share = Share(node);
        // SAFETY: entered above.
        unsafe { target.ask(false, move |answer| start_judged(share, answer)) };
        return Ok(());
    }
    if request.is_refused() {
        request.note_failure(target);
        // SAFETY: entered above, and we own the completion's share.
        unsafe {
            Target::leave(target);
            complete(node);
        }
        return Ok(());
    }
    // SAFETY: entered above; the rest is the contract of this function.
    unsafe { launch(node, target) }
}

/// Continues with the size against which the range is checked.
///
/// # Safety
/// As for [`start`]; the operation is in flight.
unsafe fn start_judged(share: Share, answer: &Answer) {
    let node = share.0;
    // SAFETY: by the contract.
    unsafe {
        let target = (*node).target;
        if !(*(*node).request.get()).is_within(&*target, answer) {
            (*(*node).request.get()).note_failure(&*target);
            Target::leave(target);
            complete(node);
        } else if let Err(errno) = launch(node, &*target) {
            fail(node, errno);
        }
    }
}

/// Makes the call. Leaves the target if the call fails.
///
/// # Safety
/// As for [`start`]; the operation is in flight.
unsafe fn launch(node: *mut Node, target: &Target) -> RawResult<()> {
    let mut completion = ptr::null_mut();
    // SAFETY: the callback takes nodes; the out pointer lives through the call.
    let created =
        check(unsafe { sys::rbd_aio_create_completion(node.cast(), Some(completed), &raw mut completion) });
    let called = created.and_then(|_| {
        // SAFETY: the node has its final address, and the request is not touched until the
        // completion has run.
        check(unsafe { Request::call((*node).request.get(), target, completion) }).inspect_err(|_| {
            // SAFETY: librbd did not take it.
            unsafe { sys::rbd_aio_release(completion) };
        })
    });
    if called.is_err() {
        // SAFETY: entered by `start`.
        unsafe { Target::leave(target) };
    }
    called.map(drop)
}

/// The callback for librbd: a call has completed.
///
/// # Safety
/// `arg` is the node of this completion, together with the completion's share.
unsafe extern "C" fn completed(completion: *mut c_void, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let node: *mut Node = arg.cast();
    // SAFETY: librbd passes the completion that we created, and we release it here, once. librbd no
    // longer has the request. The operation is in flight, so the target is valid.
    unsafe {
        let result = sys::rbd_aio_get_return_value(completion);
        sys::rbd_aio_release(completion);
        let wanted = !(*node).slot.is_detached();
        let next = (*(*node).request.get()).settle(&*(*node).target, result, wanted);
        go_on(node, next);
    }
}

/// # Safety
/// The caller owns the completion's share, librbd does not have the request, and the operation is
/// in flight.
unsafe fn go_on(node: *mut Node, next: Next) {
    // SAFETY: valid, by the contract. The target stays valid until we leave it.
    unsafe {
        let target = (*node).target;
        match next {
            Next::Ended => {
                (*(*node).request.get()).note_failure(&*target);
                Target::leave(target);
                complete(node);
            }
            Next::Part => {
                if let Err(errno) = start(node) {
                    fail(node, errno);
                }
                // The next part has entered separately.
                Target::leave(target);
            }
            Next::Ask { cause } => {
                let share = Share(node);
                (*target).ask(cause, move |answer| {
                    let share = share;
                    let node = share.0;
                    let wanted = !(*node).slot.is_detached();
                    let next = (*(*node).request.get()).answered(&*(*node).target, answer, wanted);
                    go_on(node, next);
                });
            }
        }
    }
}

/// # Safety
/// The caller owns the completion's share and gives it up. librbd does not have the request.
unsafe fn fail(node: *mut Node, errno: Errno) {
    // SAFETY: by the contract.
    unsafe {
        (*(*node).request.get()).fail(errno);
        complete(node);
    }
}

/// Completes the operation for the future.
///
/// # Safety
/// The caller owns the completion's share of the node and gives it up.
unsafe fn complete(node: *mut Node) {
    // SAFETY: the node lives, and this runs once.
    match unsafe { Slot::complete(&raw const (*node).slot, 0) } {
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

const CALLS: Calls<Outcome> = Calls { poll, detach };

/// # Safety
/// `share` is the future's share of a node. It becomes `None` when the node is freed.
unsafe fn poll(share: &mut Option<NonNull<c_void>>, context: &mut Context<'_>) -> Poll<RawResult<Outcome>> {
    let node = share.expect("polled after it was ready").cast::<Node>();
    // SAFETY: our share keeps the node alive. Only the slot is borrowed, because librbd may have
    // the request.
    match unsafe { &(*node.as_ptr()).slot }.poll(context) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => {
            *share = None;
            // SAFETY: the completion has left, so we alone own the node.
            let mut node = unsafe { Box::from_raw(node.as_ptr()) };
            Poll::Ready(Ok(node.request.get_mut().finish(node.unit)))
        }
    }
}

/// # Safety
/// The caller owns the future's share of the node and gives it up.
unsafe fn detach(node: NonNull<c_void>) {
    let node = node.cast::<Node>().as_ptr();
    // SAFETY: our share keeps the node alive, and is given up here, once.
    if let Left::Last = unsafe { Slot::detach(&raw const (*node).slot) } {
        // SAFETY: the completion has left before, so we alone own the node.
        drop(unsafe { Box::from_raw(node) });
    }
}
