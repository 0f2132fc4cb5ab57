//! Timeouts: a stuck operation keeps its buffer, but nothing waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use rbd::aio::Op;

use super::wakers::InPlace;
use super::{Freezer, Tracked, eventually, within};
use crate::support::Space;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_stuck_operation_is_given_up_on_and_its_buffer_freed_when_it_ends() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let tracked = Tracked::default();
    let frozen = freezer.freeze();
    let start = Instant::now();
    let write = image.aio().write(0, tracked.bytes(4096)).timeout(Duration::from_millis(300));
    let read = image.aio().read(0, 4096).timeout(Duration::from_millis(150));
    let error = write.wait().unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    assert!(error.is_timed_out(), "{text}");
    assert!(
        text.contains("cannot write 4096 bytes at offset 0 of image 'rbd/frozen-")
            && text.contains("it did not complete within 300ms; it continues in the background"),
        "{text}"
    );
    assert!(read.wait().unwrap_err().is_timed_out());
    assert!(!tracked.is_freed());
    drop(frozen);
    eventually("the buffer is freed", || tracked.is_freed());
    let read = image.aio().read(0, 4096).timeout(LIMIT);
    assert_eq!(within(LIMIT, || read.wait()).unwrap(), [0x77; 4096][..], "the write took effect late");
}

#[test]
fn deadlines_in_an_executor_wake_their_tasks() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let frozen = freezer.freeze();
    let start = Instant::now();
    let late = runtime.block_on(async {
        let stuck: Vec<_> = (1..6)
            .map(|n| {
                let read = image.aio().read(n * 4096, 4096).timeout(Duration::from_millis(100 * n));
                tokio::task::spawn(async move { (n, read.await, Instant::now()) })
            })
            .collect();
        let mut late = Vec::new();
        for task in stuck.into_iter().map(|task| async move { task.await.unwrap() }) {
            late.push(task.await);
        }
        late
    });
    for (n, outcome, end) in late {
        let after = end - start;
        assert!(outcome.unwrap_err().is_timed_out());
        let wanted = Duration::from_millis(100 * n);
        assert!(after >= wanted && after < wanted + Duration::from_secs(3), "{n}: {after:?}");
    }
    drop(frozen);
    within(LIMIT, || image.close()).unwrap();
}

#[test]
fn an_operation_in_time_does_not_notice() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for after in [Duration::MAX, Duration::from_secs(60)] {
        image.aio().write(0, vec![1; 512]).timeout(after).wait().unwrap();
        assert_eq!(image.aio().read(0, 512).timeout(after).wait().unwrap(), [1; 512][..]);
    }
    let error = image.aio().read(1 << 20, 1).timeout(LIMIT).wait().unwrap_err();
    assert!(!error.is_timed_out(), "{error}");
}

#[test]
fn an_operation_that_has_ended_wins_be_the_time_zero() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&[7; 4096], 0).unwrap();
    for awaited in [false, true] {
        let deadline = ended(|| image.aio().read(0, 4096)).timeout(Duration::ZERO);
        let outcome = match awaited {
            false => deadline.wait(),
            true => tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(deadline),
        };
        assert_eq!(outcome.unwrap(), [7; 4096][..], "awaited: {awaited}");
    }
    // An operation that has failed keeps its own error.
    let error = image.aio().read(1 << 20, 1).timeout(Duration::ZERO).wait().unwrap_err();
    assert!(!error.is_timed_out(), "{error}");
}

/// Returns an operation that has ended and whose result was not taken.
fn ended<T>(submit: impl Fn() -> Op<T>) -> Op<T> {
    struct Told(AtomicBool);
    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    loop {
        let told = Arc::new(Told(AtomicBool::new(false)));
        let (mut op, waker) = (submit(), Waker::from(Arc::clone(&told)));
        // Otherwise it ended at once, and its result is already taken.
        if Pin::new(&mut op).poll(&mut Context::from_waker(&waker)).is_pending() {
            eventually("it has ended", || told.0.load(Ordering::SeqCst));
            return op;
        }
    }
}

/// An executor polls inside the wake, so its task ends on the timer's thread. Its image is closed
/// there, which waits for the stuck read.
#[test]
fn a_task_that_ends_with_its_deadline_holds_up_no_other_deadline() {
    let freezer = Freezer::get();
    let (image, other) = (freezer.image(), freezer.image());
    let frozen = freezer.freeze();
    let (sender, ended) = std::sync::mpsc::channel();
    InPlace::spawn(async move {
        let stuck = image.aio().read(0, 4096).timeout(Duration::from_millis(100));
        assert!(stuck.await.unwrap_err().is_timed_out());
        let refused = image.aio().read(0, 4096).wait().unwrap_err();
        drop(image);
        sender.send(refused.to_string()).unwrap();
    });
    let start = Instant::now();
    let read = other.aio().read(0, 4096);
    // On another thread, because without the timeout it would wait forever.
    let (tell, late) = std::sync::mpsc::channel();
    InPlace::spawn(async move {
        tell.send(read.timeout(Duration::from_millis(300)).await.unwrap_err()).unwrap();
    });
    let late = late.recv_timeout(Duration::from_secs(5));
    let took = start.elapsed();
    let refused = ended.recv_timeout(Duration::from_secs(1));
    drop(frozen);
    assert!(late.unwrap().is_timed_out() && took < Duration::from_secs(3), "{took:?}");
    assert!(refused.unwrap().contains("EDEADLK"));
    within(LIMIT, || other.close()).unwrap();
}
