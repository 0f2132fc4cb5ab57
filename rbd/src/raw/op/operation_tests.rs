//! Operations whose completions are stubs, which a test runs when it wants.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Wake, Waker};

use super::*;
use crate::errno::Errno;
use crate::raw::ffi::address::Address;
use crate::raw::thread::mark::in_callback;

/// A completion of the tests: a block with the callback and its argument.
struct Stub;

struct Block {
    callback: CompletionCallback,
    arg: *mut c_void,
    result: Cell<isize>,
}

/// Returns how many stubs this thread has not released.
fn unreleased(change: isize) -> isize {
    thread_local! {
        static COUNT: Cell<isize> = const { Cell::new(0) };
    }
    COUNT.with(|count| {
        count.set(count.get() + change);
        count.get()
    })
}

// SAFETY: `end` makes the one call.
unsafe impl Completions for Stub {
    unsafe fn create_completion(
        arg: *mut c_void,
        callback: CompletionCallback,
        out: *mut *mut c_void,
    ) -> c_int {
        unreleased(1);
        let block = Box::into_raw(Box::new(Block { callback, arg, result: Cell::new(0) }));
        // SAFETY: `out` is valid, by the contract.
        unsafe { *out = block.cast() };
        0
    }

    unsafe fn result_of(completion: *mut c_void) -> isize {
        // SAFETY: made by `create_completion`, and not released yet.
        unsafe { (*completion.cast::<Block>()).result.get() }
    }

    unsafe fn release_completion(completion: *mut c_void) {
        unreleased(-1);
        // SAFETY: made by `create_completion`, and released once.
        drop(unsafe { Box::from_raw(completion.cast::<Block>()) });
    }
}

/// Ends the operation as the library would.
fn end(completion: *mut c_void, result: isize) {
    let block = completion.cast::<Block>();
    // SAFETY: each test ends a completion that was taken once.
    unsafe {
        (*block).result.set(result);
        ((*block).callback)(completion, (*block).arg);
    }
}

/// A payload whose drop a test can observe.
struct Owner(Arc<()>);

impl Payload for Owner {
    type Output = (isize, Arc<()>);

    fn finish(self, result: isize) -> RawResult<(isize, Arc<()>)> {
        assert!(!in_callback(), "the result is made where it is taken");
        if result < 0 { Err(Errno::EIO) } else { Ok((result, self.0)) }
    }
}

type OwnerOp = Operation<(isize, Arc<()>)>;

fn submit(owned: &Arc<()>, call: impl FnOnce(*mut c_void) -> c_int) -> RawResult<OwnerOp> {
    // SAFETY: a call that returns 0 ends the completion once, and none uses the payload.
    unsafe {
        Operation::submit_to::<Owner, Stub>(None, Owner(Arc::clone(owned)), |_, completion| call(completion))
    }
}

fn poll(op: &mut OwnerOp, waker: &Waker) -> Poll<RawResult<(isize, Arc<()>)>> {
    op.poll(&mut Context::from_waker(waker))
}

#[test]
fn a_completion_inside_of_the_submission() {
    let owned = Arc::new(());
    let inside = |completion| {
        end(completion, 7);
        0
    };
    let mut op = submit(&owned, inside).unwrap();
    let Poll::Ready(Ok((7, back))) = poll(&mut op, Waker::noop()) else { panic!("not ready at once") };
    drop((op, back));
    drop(submit(&owned, inside).unwrap());
    assert_eq!((Arc::strong_count(&owned), unreleased(0)), (1, 0));
}

#[test]
fn a_refused_submission_frees_everything_without_a_callback() {
    let owned = Arc::new(());
    // SAFETY: the image is never used.
    let target = unsafe { Target::new(Address::NULL, ()) };
    // SAFETY: the call does not take the completion.
    let refused =
        unsafe { Operation::submit_to::<Owner, Stub>(Some(&target), Owner(Arc::clone(&owned)), |_, _| -22) };
    assert_eq!(refused.unwrap_err(), Errno::EINVAL);
    assert!(target.is_empty());
    assert_eq!((Arc::strong_count(&owned), unreleased(0)), (1, 0));
}

#[test]
fn dropped_at_every_point() {
    let owned = Arc::new(());
    let completion = Cell::new(ptr::null_mut());
    let later = |taken| {
        completion.set(taken);
        0
    };
    for polled in [false, true] {
        let mut op = submit(&owned, later).unwrap();
        if polled {
            assert!(poll(&mut op, Waker::noop()).is_pending());
        }
        drop(op);
        assert_eq!(Arc::strong_count(&owned), 2, "it is the library's still");
        end(completion.get(), 0);
        assert_eq!(Arc::strong_count(&owned), 1);

        let mut op = submit(&owned, later).unwrap();
        if polled {
            assert!(poll(&mut op, Waker::noop()).is_pending());
        }
        end(completion.get(), -5);
        drop(op);
        assert_eq!((Arc::strong_count(&owned), unreleased(0)), (1, 0));
    }
}

/// A wake may drop the operation that has just ended.
#[test]
fn an_operation_dropped_inside_of_its_own_wake() {
    struct Drops(std::sync::Mutex<Option<OwnerOp>>, AtomicUsize);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            assert!(in_callback());
            drop(self.0.lock().unwrap().take());
            self.1.fetch_add(1, SeqCst);
        }
    }
    let (owned, completion) = (Arc::new(()), Cell::new(ptr::null_mut()));
    let mut op = submit(&owned, |taken| {
        completion.set(taken);
        0
    })
    .unwrap();
    let drops = Arc::new(Drops(std::sync::Mutex::new(None), AtomicUsize::new(0)));
    assert!(poll(&mut op, &Waker::from(Arc::clone(&drops))).is_pending());
    *drops.0.lock().unwrap() = Some(op);
    end(completion.get(), 0);
    assert_eq!((drops.1.load(SeqCst), Arc::strong_count(&owned), Arc::strong_count(&drops)), (1, 1, 1));
}

/// If the owner unwinds, the operation continues, and frees its payload when it ends.
#[test]
fn dropped_by_a_panic() {
    let (owned, completion) = (Arc::new(()), Cell::new(ptr::null_mut()));
    let panics = std::panic::AssertUnwindSafe(|| {
        let _op = submit(&owned, |taken| {
            completion.set(taken);
            0
        });
        resume_unwind(Box::new("with an operation in flight"));
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(Arc::strong_count(&owned), 2);
    end(completion.get(), 0);
    assert_eq!((Arc::strong_count(&owned), unreleased(0)), (1, 0));
}

/// The drop of a buffer's owner panics while the result is taken. The future must not keep a share.
#[test]
fn a_panic_while_the_result_is_made() {
    struct Bad(Arc<()>);
    impl Payload for Bad {
        type Output = ();

        fn finish(self, _: isize) -> RawResult<()> {
            assert_eq!(Arc::strong_count(&self.0), 2);
            resume_unwind(Box::new("where the result is made"));
        }
    }
    let owned = Arc::new(());
    // SAFETY: the call ends the completion once, and does not use the payload.
    let op = unsafe {
        Operation::submit_to::<Bad, Stub>(None, Bad(Arc::clone(&owned)), |_, completion| {
            end(completion, 0);
            0
        })
    };
    let mut op = op.unwrap();
    let poll = std::panic::AssertUnwindSafe(|| {
        let _ = op.poll(&mut Context::from_waker(Waker::noop()));
    });
    assert!(std::panic::catch_unwind(poll).is_err());
    assert!(format!("{op:?}").contains("taken: true"), "{op:?}");
    drop(op);
    assert_eq!((Arc::strong_count(&owned), unreleased(0)), (1, 0));
}

/// An `on_end` that may block never runs on a thread of the library, except after a failure, when
/// it does not block.
#[test]
fn an_end_that_may_wait_has_a_thread_of_its_own() {
    struct Waits(Option<bool>);
    impl Payload for Waits {
        type Output = Option<bool>;
        const END_MAY_BLOCK: bool = true;

        fn on_end(&mut self) {
            self.0 = Some(in_callback());
        }

        fn finish(self, _: isize) -> RawResult<Option<bool>> {
            Ok(self.0)
        }
    }
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    for (result, here) in [(0, false), (-libc::EIO as isize, true)] {
        // SAFETY: the call ends the completion once, and does not use the payload.
        let op = unsafe {
            Operation::submit_to::<Waits, Stub>(None, Waits(None), |_, completion| {
                end(completion, result);
                0
            })
        };
        let mut op = op.unwrap();
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let ended = loop {
            match op.poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(ended) => break ended.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        assert_eq!((ended, unreleased(0)), (Some(here), 0));
    }
}
