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

/// What a request amounts to.
pub(crate) type Outcome = (Buffer, Result<Option<Compare>, Fault>);

/// The block. The request belongs to librbd until the slot is complete.
struct Node {
    slot: Slot,
    /// Valid while the operation counts as in flight; afterwards only `unit` is used.
    target: *const Target,
    unit: u64,
    request: UnsafeCell<Request>,
}

/// The completion's share of a node, on its way to another thread.
#[derive(Clone, Copy)]
struct Share(*mut Node);

// SAFETY: a request is Send, and the slot is Sync.
unsafe impl Send for Share {}

/// Submits a request that was checked. While the image is held it is kept, and submitted later.
///
/// # Safety
/// The image of the target must be open. It must not be closed, nor the target freed, before all
/// that entered has left.
pub(in crate::raw) unsafe fn submit(
    target: &Target,
    mut request: Request,
) -> Result<Operation<Outcome>, Fault> {
    request.prepare(&mut Request::empty(), &[])?;
    let unit = target.stripe_unit();
    let node = Node { slot: Slot::new(), target, unit, request: UnsafeCell::new(request) };
    let node = Box::into_raw(Box::new(node));
    // SAFETY: the node is new, and the target valid. Both shares are given away: one here, one
    // below.
    if let Err(errno) = unsafe { start(node) } {
        // SAFETY: nobody else has the node.
        drop(unsafe { Box::from_raw(node) });
        return Err(errno.into());
    }
    // SAFETY: what is left is the future's share of it.
    Ok(unsafe { Operation::from_share(NonNull::new_unchecked(node.cast()), &CALLS) })
}

/// Submits what is left of the request, or has it kept.
///
/// # Safety
/// The caller has the completion's share of the node, whose target is valid and whose image is
/// open. It keeps the share if this fails.
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
    // SAFETY: the request is ours.
    let request = unsafe { &mut *(*node).request.get() };
    if !request.is_judged(target) {
        let share = Share(node);
        // SAFETY: entered above.
        unsafe { target.ask(false, move |answer| start_judged(share, answer)) };
        return Ok(());
    }
    if request.is_refused() {
        // SAFETY: entered above, and the completion's share is ours.
        unsafe {
            Target::leave(target);
            complete(node);
        }
        return Ok(());
    }
    // SAFETY: entered above; what else is needed is this function's contract.
    unsafe { launch(node, target) }
}

/// The size is known by which the range is to be judged.
///
/// # Safety
/// As for [`start`]; the operation is in flight.
unsafe fn start_judged(share: Share, answer: &Answer) {
    let node = share.0;
    // SAFETY: by the contract.
    unsafe {
        let target = (*node).target;
        if !(*(*node).request.get()).is_within(answer) {
            Target::leave(target);
            complete(node);
        } else if let Err(errno) = launch(node, &*target) {
            fail(node, errno);
        }
    }
}

/// Makes the call. Leaves the target if this fails.
///
/// # Safety
/// As for [`start`]; the operation is in flight.
unsafe fn launch(node: *mut Node, target: &Target) -> RawResult<()> {
    let mut completion = ptr::null_mut();
    // SAFETY: the callback is made for nodes; the out pointer lives through the call.
    let created =
        check(unsafe { sys::rbd_aio_create_completion(node.cast(), Some(completed), &raw mut completion) });
    let called = created.and_then(|_| {
        // SAFETY: the node has its final address, and nobody touches the request until the
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

/// What librbd calls when a call has completed.
///
/// # Safety
/// `arg` is a node whose completion this is, with the completion's share.
unsafe extern "C" fn completed(completion: *mut c_void, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let node: *mut Node = arg.cast();
    // SAFETY: librbd gives us its completion, which we created and release here, once. The request
    // is ours again. The operation is in flight, so the target is valid.
    unsafe {
        let result = sys::rbd_aio_get_return_value(completion);
        sys::rbd_aio_release(completion);
        let wanted = !(*node).slot.is_detached();
        let next = (*(*node).request.get()).settle(&*(*node).target, result, wanted);
        go_on(node, next);
    }
}

/// # Safety
/// The caller has the completion's share and the request; the operation is in flight.
unsafe fn go_on(node: *mut Node, next: Next) {
    // SAFETY: valid, by the contract. The target stays so until it is left.
    unsafe {
        let target = (*node).target;
        match next {
            Next::Ended => {
                Target::leave(target);
                complete(node);
            }
            Next::Part => {
                if let Err(errno) = start(node) {
                    fail(node, errno);
                }
                // It has entered anew for the next part.
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
/// The caller has the completion's share and the request, and gives both up.
unsafe fn fail(node: *mut Node, errno: Errno) {
    // SAFETY: by the contract.
    unsafe {
        (*(*node).request.get()).fail(errno);
        complete(node);
    }
}

/// Tells the future of the end.
///
/// # Safety
/// The caller has the completion's share of the node, and gives it up.
unsafe fn complete(node: *mut Node) {
    // SAFETY: the node is alive, and this runs once.
    match unsafe { Slot::complete(&raw const (*node).slot, 0) } {
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

const CALLS: Calls<Outcome> = Calls { poll, detach };

/// # Safety
/// `share` is the future's share of a node. It is taken out when it is used up.
unsafe fn poll(share: &mut Option<NonNull<c_void>>, context: &mut Context<'_>) -> Poll<RawResult<Outcome>> {
    let node = share.expect("polled after it was ready").cast::<Node>();
    // SAFETY: our share keeps the node alive. Only the slot is borrowed: the request may be
    // librbd's.
    match unsafe { &(*node.as_ptr()).slot }.poll(context) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => {
            *share = None;
            // SAFETY: the completion has left, and so have we: the node is ours alone.
            let mut node = unsafe { Box::from_raw(node.as_ptr()) };
            Poll::Ready(Ok(node.request.get_mut().finish(node.unit)))
        }
    }
}

/// # Safety
/// `node` is a node of which the caller has the future's share and gives it up.
unsafe fn detach(node: NonNull<c_void>) {
    let node = node.cast::<Node>().as_ptr();
    // SAFETY: our share keeps the node alive up to here, and is given up once.
    if let Left::Last = unsafe { Slot::detach(&raw const (*node).slot) } {
        // SAFETY: the completion has left before, so the node is ours alone.
        drop(unsafe { Box::from_raw(node) });
    }
}
