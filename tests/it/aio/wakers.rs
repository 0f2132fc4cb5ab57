//! Wakers: foreign code on librbd's threads.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use rbd::{Image, aio::Op};

use super::{Freezer, eventually, within};
use crate::support::{Space, builder};

const LIMIT: Duration = Duration::from_secs(60);

/// A waker that runs a closure once.
struct Once(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Once {
    fn wake(self: Arc<Self>) {
        let run = self.0.lock().unwrap().take();
        if let Some(run) = run {
            run();
        }
    }
}

pub(super) fn once(run: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(Once(Mutex::new(Some(Box::new(run))))))
}

/// Polls once with this waker. The operation must be pending.
fn register<T>(op: &mut Op<T>, waker: &Waker) {
    assert!(Pin::new(op).poll(&mut Context::from_waker(waker)).is_pending());
}

fn own_image(space: &Space) -> Image {
    space.create("foo", 8 << 20).run().unwrap();
    let cluster = builder().connect().unwrap();
    cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap()
}

/// The waker has the last reference to the image, and thereby to the connection. Closing either on
/// librbd's thread would hang forever.
#[test]
fn the_last_reference_dropped_in_a_wake() {
    let freezer = Freezer::get();
    for explicit in [false, true] {
        let image = freezer.image();
        let pool = image.ioctx().with_namespace("").unwrap();
        let name = image.name().unwrap();
        let watcher = image.watchers().unwrap().remove(0);
        drop(pool);
        let (sender, closed) = channel();
        let frozen = freezer.freeze();
        let mut read = image.aio().read(0, 4096);
        register(
            &mut read,
            &once(move || {
                let thread = std::thread::current().name().unwrap_or_default().to_owned();
                if explicit {
                    // It cannot wait for the flush there, so it cannot say Ok.
                    let error = image.close().unwrap_err();
                    assert_eq!(error.errno(), Some(rbd::Errno::EDEADLK), "{error}");
                } else {
                    drop(image)
                }
                sender.send(thread).unwrap();
            }),
        );
        drop(frozen);
        let thread = closed.recv_timeout(LIMIT).expect("the wake does not hang");
        assert_ne!(thread, std::thread::current().name().unwrap_or_default());
        within(LIMIT, || read.wait()).unwrap();
        let other = freezer.connect().ioctx("rbd").unwrap().open(&name).read_only(true).run().unwrap();
        eventually("the image is closed", || !other.watchers().unwrap().contains(&watcher));
    }
}

/// A simple executor: the task runs where it is woken.
pub(super) struct InPlace {
    task: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    again: AtomicU32,
}

impl InPlace {
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        let task = InPlace { task: Mutex::new(Some(Box::pin(future))), again: AtomicU32::new(0) };
        Arc::new(task).wake();
    }
}

impl Wake for InPlace {
    fn wake(self: Arc<Self>) {
        if self.again.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        loop {
            let before = self.again.load(Ordering::SeqCst);
            let mut task = self.task.lock().unwrap();
            if let Some(future) = &mut *task {
                let waker = Waker::from(Arc::clone(&self));
                if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    *task = None;
                }
            }
            drop(task);
            if self.again.compare_exchange(before, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return;
            }
        }
    }
}

#[test]
fn an_executor_that_polls_inside_the_wake() {
    let space = Space::new();
    let image = own_image(&space);
    let (sender, finished) = channel();
    for task in 0..8_u64 {
        let (image, sender): (_, Sender<u64>) = (Arc::new(own_clone(&space)), sender.clone());
        InPlace::spawn(async move {
            for round in 0..50 {
                let data = Bytes::from(vec![task as u8 + 1; 4096]);
                image.aio().write(task * 65536, data.clone()).await.unwrap();
                assert_eq!(image.aio().read(task * 65536, 4096).await.unwrap(), data, "round {round}");
            }
            // The image is dropped here, on librbd's thread.
            drop(image);
            sender.send(task).unwrap();
        });
    }
    let mut tasks: Vec<u64> =
        (0..8).map(|_| finished.recv_timeout(LIMIT).expect("it runs through")).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, (0..8).collect::<Vec<_>>());
    drop(image);
}

fn own_clone(space: &Space) -> Image {
    space.open("foo").run().unwrap()
}

#[test]
fn a_panic_of_a_waker_is_caught() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    let mut bad = image.aio().read(0, 4096);
    let good = image.aio().read(4096, 4096);
    register(&mut bad, &once(|| resume_unwind(Box::new("a waker that panics"))));
    drop(frozen);
    within(LIMIT, || good.wait()).unwrap();
    assert_eq!(within(LIMIT, || bad.wait()).unwrap(), [0; 4096][..]);
    image.close().unwrap();
}

struct Bad([u8; 512], Sender<()>);

impl AsRef<[u8]> for Bad {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.1.send(()).unwrap();
        resume_unwind(Box::new("a buffer whose drop panics"));
    }
}

/// The owner of a buffer panics when it is dropped because the future is ready. The caller gets the
/// panic, once.
#[test]
fn a_buffer_that_panics_where_the_result_is_taken() {
    let space = Space::new();
    let image = own_image(&space);
    let (sender, dropped) = channel();
    for _ in 0..20 {
        let write = image.aio().write(0, Bytes::from_owner(Bad([1; 512], sender.clone())));
        assert!(std::panic::catch_unwind(AssertUnwindSafe(|| write.wait())).is_err());
        dropped.try_recv().unwrap();
    }
    assert!(dropped.try_recv().is_err(), "each was dropped once");
    image.close().unwrap();
}

/// The owner of a buffer panics on librbd's thread, because the future was dropped before.
#[test]
fn a_panic_of_a_buffers_owner_is_caught() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let (sender, dropped) = channel();
    let frozen = freezer.freeze();
    drop(image.aio().write(0, Bytes::from_owner(Bad([1; 512], sender))));
    let good = image.aio().read(4096, 4096);
    drop(frozen);
    dropped.recv_timeout(LIMIT).unwrap();
    within(LIMIT, || good.wait()).unwrap();
    within(LIMIT, || image.close()).unwrap();
}

#[test]
fn waiting_on_librbds_thread_is_refused_and_does_not_hang() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let (sender, refused) = channel();
    let frozen = freezer.freeze();
    let mut read = image.aio().read(0, 4096);
    register(
        &mut read,
        &once(move || {
            // An operation that has already ended is not refused.
            let refused = (0..1000).find_map(|_| image.aio().read(0, 4096).wait().err());
            sender.send(refused.unwrap().to_string()).unwrap();
            // An operation that needs no wait returns its result.
            let outcome = image.aio().read(9 << 20, 4096).wait();
            sender.send(outcome.unwrap_err().to_string()).unwrap();
        }),
    );
    drop(frozen);
    let text = refused.recv_timeout(LIMIT).expect("it does not hang");
    let why = "a callback or wake on a thread of librbd or of a timer cannot wait for librbd";
    assert!(text.contains(why) && text.contains("(EDEADLK 35)"), "{text}");
    let text = refused.recv_timeout(LIMIT).unwrap();
    assert!(text.contains("the image has 8388608 bytes"), "{text}");
}

#[test]
fn polling_after_the_end_panics_and_nothing_worse() {
    let space = Space::new();
    let image = own_image(&space);
    let mut context = Context::from_waker(Waker::noop());
    let mut read = image.aio().read(0, 512);
    while Pin::new(&mut read).poll(&mut context).is_pending() {
        std::thread::yield_now();
    }
    let again = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _: Poll<_> = Pin::new(&mut read).poll(&mut context);
    }));
    assert!(again.is_err());
}
