//! The slot alone: in order on one thread, and in every order of two threads under loom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Count, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use super::{Left, Slot};

#[derive(Default)]
struct Wakes(Count);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn waker() -> (Arc<Wakes>, Waker) {
    let wakes = Arc::new(Wakes::default());
    (Arc::clone(&wakes), Waker::from(wakes))
}

#[cfg(not(loom))]
mod in_order {
    use super::*;

    fn complete(slot: &Slot, result: isize) -> Left {
        // SAFETY: the reference is valid, and each test completes once.
        unsafe { Slot::complete(slot, result) }
    }

    fn detach(slot: &Slot) -> Left {
        // SAFETY: the reference is valid, and each test detaches once.
        unsafe { Slot::detach(slot) }
    }

    #[test]
    fn complete_first_then_poll() {
        let (wakes, waker) = waker();
        let slot = Slot::new();
        assert!(matches!(complete(&slot, 7), Left::First(None)));
        assert_eq!(slot.poll(&mut Context::from_waker(&waker)), Poll::Ready(7));
        assert_eq!(wakes.0.load(SeqCst), 0);
        assert!(matches!(detach(&slot), Left::Last));
    }

    #[test]
    fn the_last_waker_is_woken_and_the_one_before_let_go() {
        let (first_wakes, first) = waker();
        let (second_wakes, second) = waker();
        let slot = Slot::new();
        assert!(slot.poll(&mut Context::from_waker(&first)).is_pending());
        assert_eq!(Arc::strong_count(&first_wakes), 3);
        assert!(slot.poll(&mut Context::from_waker(&second)).is_pending());
        assert!(slot.poll(&mut Context::from_waker(&second)).is_pending());
        assert_eq!((Arc::strong_count(&first_wakes), Arc::strong_count(&second_wakes)), (2, 3));
        let Left::First(Some(woken)) = complete(&slot, -5) else { panic!("no waker") };
        woken.wake();
        assert_eq!((first_wakes.0.load(SeqCst), second_wakes.0.load(SeqCst)), (0, 1));
        assert_eq!(slot.poll(&mut Context::from_waker(&second)), Poll::Ready(-5));
    }

    #[test]
    fn leaving_lets_the_waker_go_and_makes_the_completion_the_last() {
        let (wakes, waker) = waker();
        let slot = Slot::new();
        assert!(slot.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(matches!(detach(&slot), Left::First(None)));
        assert_eq!(Arc::strong_count(&wakes), 2);
        assert!(matches!(complete(&slot, 0), Left::Last));
        assert_eq!(wakes.0.load(SeqCst), 0);
    }

    /// A waker whose clone panics.
    mod broken {
        use std::task::{RawWaker, RawWakerVTable, Waker};

        const VTABLE: RawWakerVTable = RawWakerVTable::new(|_| panic!("clone"), |_| {}, |_| {}, |_| {});

        pub(in crate::raw) fn waker() -> Waker {
            // SAFETY: no function of the table uses the data.
            unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) }
        }
    }

    #[test]
    fn a_waker_that_panics_costs_nothing_but_itself() {
        let slot = Slot::new();
        let bad = broken::waker();
        let poll = || {
            let _ = slot.poll(&mut Context::from_waker(&bad));
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
        let (wakes, waker) = waker();
        assert!(slot.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(matches!(complete(&slot, 1), Left::First(Some(_))));
        assert_eq!(Arc::strong_count(&wakes), 2);
        assert!(matches!(detach(&slot), Left::Last));
    }
}

#[cfg(loom)]
mod in_every_order {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A slot on the heap, which only the party that left last frees.
    struct Shared {
        slot: Slot,
        /// Records the drop. loom's Arc reports leaks and races itself.
        _freed: Freed,
    }

    struct Freed(Arc<loom::sync::atomic::AtomicUsize>);

    impl Drop for Freed {
        fn drop(&mut self) {
            assert_eq!(self.0.fetch_add(1, SeqCst), 0, "freed twice");
        }
    }

    struct Pointer(*mut Shared);
    // SAFETY: this is what the tests check.
    unsafe impl Send for Pointer {}

    impl Pointer {
        fn free(self) {
            // SAFETY: the last of the two parties frees it.
            drop(unsafe { Box::from_raw(self.0) });
        }
    }

    fn model(future: impl Fn(&Slot) -> bool + Sync + Send + Clone + 'static) {
        loom::model(move || {
            let freed = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let shared =
                Box::into_raw(Box::new(Shared { slot: Slot::new(), _freed: Freed(Arc::clone(&freed)) }));
            let completion = Pointer(shared);
            let completer = thread::spawn(move || {
                let completion = completion;
                // SAFETY: valid until one of the parties frees it.
                match unsafe { Slot::complete(&raw const (*completion.0).slot, 42) } {
                    Left::First(Some(waker)) => waker.wake(),
                    Left::First(None) => {}
                    Left::Last => completion.free(),
                }
            });
            // SAFETY: valid until `detach`.
            let finished = future(unsafe { &(*shared).slot });
            // SAFETY: as above.
            let left = unsafe { Slot::detach(&raw const (*shared).slot) };
            if finished {
                assert!(matches!(left, Left::Last), "the result was there, so the completion had left");
            }
            if matches!(left, Left::Last) {
                Pointer(shared).free();
            }
            completer.join().unwrap();
            assert_eq!(freed.load(SeqCst), 1, "not freed");
        });
    }

    #[test]
    fn dropped_before_the_first_poll() {
        model(|_| false);
    }

    #[test]
    fn dropped_after_polls_with_two_wakers() {
        model(|slot| {
            let ((_, first), (_, second)) = (waker(), waker());
            slot.poll(&mut Context::from_waker(&first)).is_ready()
                || slot.poll(&mut Context::from_waker(&second)).is_ready()
        });
    }

    /// A waker for which loom can wait.
    struct Bell(loom::sync::Notify);

    impl Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify();
        }
    }

    /// Polls only after a wake. A lost wake is a deadlock, which loom reports.
    fn to_the_end(slot: &Slot) -> bool {
        let bell = std::sync::Arc::new(Bell(loom::sync::Notify::new()));
        let waker = Waker::from(std::sync::Arc::clone(&bell));
        loop {
            if let Poll::Ready(result) = slot.poll(&mut Context::from_waker(&waker)) {
                assert_eq!(result, 42);
                return true;
            }
            bell.0.wait();
            thread::yield_now();
        }
    }

    #[test]
    fn no_wake_is_lost() {
        model(to_the_end);
    }

    /// Polls with one waker and then, woken or not, with another one. The last waker must be woken.
    #[test]
    fn the_newest_waker_is_woken() {
        model(|slot| {
            let (_, first) = waker();
            slot.poll(&mut Context::from_waker(&first)).is_ready() || to_the_end(slot)
        });
    }
}
