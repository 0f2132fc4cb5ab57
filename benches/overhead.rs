//! `cargo bench --bench overhead`: the cost of this library's completions per operation, without a
//! cluster: the memory that future and librbd share, the wake and the poll, but neither the checks
//! of a request nor its buffers.
//!
//! Completions are stubs: no librbd, no network. Subtract `stub` from the figures of one thread,
//! and `stub-cross-thread` from `cross-thread`. There, another thread ends the operation and its
//! wake unparks this one, as with librbd.
//!
//! `blocking-call` is what a blocking call pays for its timeout: it runs on a thread of the pool,
//! and this one waits for it.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

#[path = "raw/stub.rs"]
mod stub;

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use rbd::bench_internals::{Counter, on_a_thread};

/// A waker that counts its wakes, so that a bench notices one.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Starts a thread that ends operations and then runs `then`. It ends with its sender.
fn finisher(then: impl Fn() + Send + 'static) -> mpsc::Sender<stub::Pending> {
    let (sender, receiver) = mpsc::channel::<stub::Pending>();
    thread::spawn(move || {
        for pending in receiver {
            pending.end(black_box(7));
            then();
        }
    });
    sender
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let counter = Counter::new();
    let task = Arc::new(Task::default());
    let waker = Waker::from(Arc::clone(&task));
    let mut context = Context::from_waker(&waker);
    let mut group = criterion.benchmark_group("overhead");
    group.throughput(Throughput::Elements(1));

    group.bench_function("stub", |bencher| bencher.iter(|| stub::bare().end(black_box(7))));

    group.bench_function("submit-complete-poll", |bencher| {
        bencher.iter(|| {
            let (operation, pending) = stub::submit(counter);
            pending.end(black_box(7));
            assert_eq!(pin!(operation).poll(&mut context), Poll::Ready(Ok(7)));
        });
    });

    group.bench_function("submit-poll-complete-wake-poll", |bencher| {
        bencher.iter(|| {
            let (operation, pending) = stub::submit(counter);
            let mut operation = pin!(operation);
            assert_eq!(operation.as_mut().poll(&mut context), Poll::Pending);
            let before = task.0.load(Ordering::Relaxed);
            pending.end(black_box(7));
            assert_eq!(task.0.load(Ordering::Relaxed), before + 1);
            assert_eq!(operation.poll(&mut context), Poll::Ready(Ok(7)));
        });
    });

    group.bench_function("submit-drop-complete", |bencher| {
        bencher.iter(|| {
            let (operation, pending) = stub::submit(counter);
            drop(operation);
            pending.end(black_box(7));
        });
    });

    let ended = Arc::new(AtomicBool::new(false));
    let (flag, here) = (Arc::clone(&ended), thread::current());
    let bare = finisher(move || {
        flag.store(true, Ordering::Release);
        here.unpark();
    });
    group.bench_function("stub-cross-thread", |bencher| {
        bencher.iter(|| {
            bare.send(stub::bare()).unwrap();
            while !ended.swap(false, Ordering::Acquire) {
                thread::park();
            }
        });
    });

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let finisher = finisher(|| ());
    group.bench_function("cross-thread", |bencher| {
        bencher.iter(|| {
            let (operation, pending) = stub::submit(counter);
            let mut operation = pin!(operation);
            assert_eq!(operation.as_mut().poll(&mut context), Poll::Pending);
            finisher.send(pending).unwrap();
            let result = loop {
                thread::park();
                if let Poll::Ready(result) = operation.as_mut().poll(&mut context) {
                    break result;
                }
            };
            assert_eq!(result, Ok(7));
        });
    });

    group.bench_function("blocking-call", |bencher| {
        bencher.iter(|| assert_eq!(on_a_thread(|| black_box(7)), Some(7)));
    });

    group.finish();
    criterion.final_summary();
}
