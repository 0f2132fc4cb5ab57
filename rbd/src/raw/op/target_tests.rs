//! Counting, holding and closing, with operations that a test ends when it wants.

use super::*;
use crate::raw::ffi::address::Address;
use crate::raw::op::hold::Entered;

fn new() -> Target {
    // SAFETY: the image is never used.
    unsafe { Target::new(Address::NULL, ()) }
}

#[cfg(not(loom))]
mod plain {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Returns a closure, and how often it ran.
    fn counted() -> (impl FnOnce() + Send + 'static, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        (
            move || {
                count.fetch_add(1, Ordering::Relaxed);
            },
            runs,
        )
    }

    #[test]
    fn a_queue_begins_once_and_with_nothing_in_flight_and_keeps_the_image_open() {
        let target = Arc::new(new());
        assert!(target.enter() && !target.begin_queue() && !target.is_queued());
        // SAFETY: entered above; the target outlives them.
        unsafe { Target::leave(&raw const *target) };
        assert!(target.begin_queue() && target.is_queued() && target.is_empty());
        assert!(!target.enter() && !target.begin_queue());
        assert_eq!(target.begin(|| unreachable!()), Entered::Queued);
        let (close, runs) = counted();
        // SAFETY: as above.
        unsafe {
            Target::close(&raw const *target, close);
            Target::leave(&raw const *target);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 0);
        Arc::clone(&target).detach_queue();
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        target.cancel_queue();
        assert!(!target.is_queued());
    }

    /// The counts of operations and of blocking calls share one word.
    #[test]
    fn no_number_of_operations_looks_like_none() {
        let target = Arc::new(new());
        for shift in 0..36 {
            target.state.fetch_add(ONE << shift, Ordering::Relaxed);
            assert!(!target.has_calls() && !target.is_empty(), "{shift}");
            assert!(!target.begin_queue(), "{shift}");
            let hold = Arc::clone(&target).hold().unwrap();
            assert!(!hold.is_drained(), "{shift}");
            drop(hold);
            target.state.fetch_sub(ONE << shift, Ordering::Relaxed);
        }
        assert!(target.begin_queue());
    }

    /// The drop of an image does not wait for such an operation.
    #[test]
    fn an_operation_that_was_given_up_may_never_end() {
        let target = new();
        assert!(target.enter());
        assert!(!target.has_calls());
        target.give_up();
        assert!(target.has_calls());
        // SAFETY: it is valid, and entered above.
        unsafe { Target::leave(&raw const target) };
        assert!(!target.has_calls());
    }

    #[test]
    fn closing_waits_for_the_last() {
        let target = Box::into_raw(Box::new(new())).cast_const();
        let (close, runs) = counted();
        let address = target as usize;
        // SAFETY: the target lives until the closer frees it, after the second leave.
        unsafe {
            assert!((*target).enter() && (*target).enter());
            Target::close(target, move || {
                close();
                drop(Box::from_raw(address as *mut Target));
            });
            Target::leave(target);
            assert_eq!(runs.load(Ordering::Relaxed), 0);
            Target::leave(target);
        }
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_hold_waits_for_what_came_before_and_keeps_what_comes_after() {
        let target = Arc::new(new());
        assert_eq!(target.begin(|| unreachable!()), Entered::Now);
        let passage = target.pass().unwrap();
        let (one, two) = (Arc::clone(&target).hold().unwrap(), Arc::clone(&target).hold().unwrap());
        let (later, runs) = counted();
        assert_eq!(target.begin(|| Box::new(later)), Entered::Later);
        assert!(!one.is_drained());
        // SAFETY: begun above.
        unsafe { Target::leave(&raw const *target) };
        assert!(!one.is_drained());
        drop(passage);
        assert!(one.is_drained() && two.is_drained());
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| target.pass().is_ok());
            drop(one);
            assert!(two.is_drained() && runs.load(Ordering::Relaxed) == 0);
            drop(two);
            waits.join().unwrap()
        });
        assert!(waits && runs.load(Ordering::Relaxed) == 1);
        assert!(target.is_empty() && target.begin(|| unreachable!()) == Entered::Now);
    }

    #[test]
    fn closing_waits_for_a_hold_and_for_what_it_kept() {
        let target = Arc::new(new());
        let hold = Arc::clone(&target).hold().unwrap();
        let submits = Arc::clone(&target);
        assert_eq!(target.begin(|| Box::new(move || assert!(submits.enter()))), Entered::Later);
        let (close, runs) = counted();
        // SAFETY: the Arc keeps it valid.
        unsafe { Target::close(&raw const *target, close) };
        let second = Arc::clone(&target).hold().expect("it is still open");
        drop(hold);
        assert_eq!(runs.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(runs.load(Ordering::Relaxed), 0, "one is in flight");
        // SAFETY: entered by the operation that was kept.
        unsafe { Target::leave(&raw const *target) };
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert!(Arc::clone(&target).hold().is_none());
    }

    #[test]
    fn nothing_waits_for_a_hold_on_a_thread_of_librbd() {
        let target = Arc::new(new());
        let hold = Arc::clone(&target).hold().unwrap();
        let mark = crate::raw::thread::mark::CallbackMark::set();
        assert_eq!(target.pass().unwrap_err(), crate::errno::Errno::EDEADLK);
        drop((mark, hold));
        assert!(target.pass().is_ok());
    }

    #[test]
    fn handles_of_one_image_are_recognised_by_its_id() {
        let target = |pool, id: &str| {
            let target = new();
            target.identify(Identity { pool, id: id.into(), stripe_unit: 4096 });
            target
        };
        assert!(target(1, "a").is_of_same_image(&target(1, "a")));
        let others = [target(2, "a"), target(1, "b"), new()];
        assert!(others.iter().all(|other| !target(1, "a").is_of_same_image(other)));
        let old = target(1, "");
        assert!(old.is_of_same_image(&old) && !old.is_of_same_image(&target(1, "")), "of the old format");
    }

    #[test]
    fn long_ranges_are_split_where_stripe_units_end() {
        let target = new();
        target.identify(Identity { pool: 1, id: "a".into(), stripe_unit: 4096 });
        let part = 4096 * 4096;
        assert_eq!(target.part(Kind::Discard, 0, u64::MAX), part);
        assert_eq!(target.part(Kind::WriteZeroes, 100, u64::MAX), part - 100);
        assert_eq!(target.part(Kind::Discard, part + 1, 7), 7);
        assert_eq!(target.part(Kind::Write, 0, part + 1), part + 1);
        let target = new();
        target.identify(Identity { pool: 1, id: "a".into(), stripe_unit: 4 << 20 });
        assert_eq!(target.part(Kind::WriteZeroesThick, 0, u64::MAX), 1 << 30);
    }
}

#[cfg(loom)]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::raw::op::kept::Later;

    /// Ends two operations, each on its own thread, while the image is closed.
    fn closes_once(begin: fn(&Target), ends: [fn(&Arc<Target>); 2]) {
        loom::model(move || {
            let target = Arc::new(new());
            let runs = Arc::new(AtomicUsize::new(0));
            begin(&target);
            let enders = ends.map(|end| {
                let target = Arc::clone(&target);
                thread::spawn(move || end(&target))
            });
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; no operation enters.
            unsafe {
                Target::close(&raw const *target, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            for ender in enders {
                ender.join().unwrap();
            }
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        });
    }

    fn leave(target: &Arc<Target>) {
        // SAFETY: entered by the model; the Arc keeps it valid.
        unsafe { Target::leave(&raw const **target) }
    }

    #[test]
    fn the_last_of_two_and_closing_at_once() {
        let twice = |target: &Target| assert!(target.enter() && target.enter());
        closes_once(twice, [leave, leave]);
    }

    #[test]
    fn the_last_of_one_and_the_end_of_a_queue_and_closing_at_once() {
        let both = |target: &Target| assert!(target.begin_queue() && !target.enter());
        // SAFETY: begun by the model; the Arc keeps it valid.
        closes_once(both, [leave, |target| unsafe { Target::sub(&raw const **target, ATTACHED) }]);
    }

    #[test]
    fn the_end_of_a_hold_and_closing_at_once() {
        loom::model(|| {
            let (target, runs) = (std::sync::Arc::new(new()), Arc::new(AtomicUsize::new(0)));
            let holds = {
                let target = std::sync::Arc::clone(&target);
                thread::spawn(move || drop(target.hold()))
            };
            let count = Arc::clone(&runs);
            // SAFETY: the Arc keeps it valid; no operation enters.
            unsafe {
                Target::close(&raw const *target, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            holds.join().unwrap();
            assert_eq!(runs.load(Ordering::Relaxed), 1);
        });
    }

    /// In every order: while the hold is drained no operation is inside, and in the end all have
    /// run.
    #[test]
    fn a_hold_and_two_that_begin() {
        loom::model(|| {
            let target = std::sync::Arc::new(new());
            let (inside, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let submits = {
                let (target, inside, ran) =
                    (std::sync::Arc::clone(&target), Arc::clone(&inside), Arc::clone(&ran));
                thread::spawn(move || {
                    let count = Arc::clone(&ran);
                    let later: Later = Box::new(move || {
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                    if target.begin(|| later) == Entered::Now {
                        inside.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        ran.fetch_add(1, Ordering::SeqCst);
                        // SAFETY: begun above.
                        unsafe { Target::leave(&raw const *target) };
                    }
                })
            };
            let hold = std::sync::Arc::clone(&target).hold().unwrap();
            if hold.is_drained() {
                assert_eq!(inside.load(Ordering::SeqCst), 0);
                // A drained hold stays drained.
                thread::yield_now();
                assert_eq!(inside.load(Ordering::SeqCst), 0);
            }
            drop(hold);
            submits.join().unwrap();
            assert_eq!(ran.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn a_hold_and_a_blocking_call() {
        loom::model(|| {
            let target = std::sync::Arc::new(new());
            let inside = Arc::new(AtomicUsize::new(0));
            let calls = {
                let (target, inside) = (std::sync::Arc::clone(&target), Arc::clone(&inside));
                thread::spawn(move || {
                    let passage = target.pass().unwrap();
                    inside.store(1, Ordering::SeqCst);
                    inside.store(0, Ordering::SeqCst);
                    drop(passage);
                })
            };
            let hold = std::sync::Arc::clone(&target).hold().unwrap();
            if hold.is_drained() {
                assert_eq!(inside.load(Ordering::SeqCst), 0);
            }
            drop(hold);
            calls.join().unwrap();
        });
    }
}
