//! Update watches.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Space, builder};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_watch_reports_changes_by_others_until_it_is_dropped() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = Arc::new(space.open("foo").run().unwrap());
    let (sender, changes) = channel();
    let sender = Mutex::new(sender);
    let watch = image.watch_updates(move || sender.lock().unwrap().send(()).unwrap()).unwrap();
    let other = builder().connect().unwrap();
    let theirs =
        other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    theirs.resize(2 << 20).run().unwrap();
    changes.recv_timeout(SOON).expect("told of the resize");
    drop(watch);
    theirs.resize(3 << 20).run().unwrap();
    while changes.recv_timeout(SOON).is_ok() {}
    assert_eq!(changes.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "the callback is freed");
}

#[test]
fn a_watch_may_be_dropped_by_its_own_callback_and_may_panic() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = Arc::new(space.open("foo").run().unwrap());
    let slot = Arc::new(Mutex::new(None));
    let (sender, told) = channel();
    let (own, sender) = (Arc::clone(&slot), Mutex::new(sender));
    let watch = image
        .watch_updates(move || {
            drop(own.lock().unwrap().take());
            sender.lock().unwrap().send(()).unwrap();
            resume_unwind(Box::new("this goes no further"));
        })
        .unwrap();
    *slot.lock().unwrap() = Some(watch);
    image.resize(2 << 20).run().unwrap();
    told.recv_timeout(SOON).expect("told");
    while told.recv_timeout(SOON).is_ok() {}
    assert_eq!(told.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "the callback is freed");
    assert_eq!(image.size().unwrap(), 2 << 20);
}

/// A callback may block, whatever it waits for: closing an image does not wait for it.
#[test]
fn a_blocking_callback_delays_only_its_own_watch() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    space.create("bar", 1 << 20).run().unwrap();
    let image = Arc::new(space.open("foo").run().unwrap());
    let (sender, called) = channel();
    let (go, goes) = channel::<()>();
    let inside = Mutex::new((sender, goes));
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let watch = image.watch_updates(move || {
        let (sender, goes) = &*inside.lock().unwrap();
        count.fetch_add(1, Ordering::SeqCst);
        sender.send(()).unwrap();
        let _ = goes.recv_timeout(SOON);
    });
    let watch = watch.unwrap();
    image.snapshots().create("one").run().unwrap();
    called.recv_timeout(SOON).expect("told");
    let (closed, is_closed) = channel();
    let bar = space.open("bar").run().unwrap();
    std::thread::spawn(move || {
        // librbd reports the client's own changes on the same thread.
        bar.snapshots().create("two").run().unwrap();
        bar.close().unwrap();
        closed.send(()).unwrap();
    });
    is_closed.recv_timeout(SOON / 2).expect("closed while the callback runs");
    // A drop waits for the callback, and no event follows.
    image.snapshots().create("three").run().unwrap();
    let (dropped, is_dropped) = channel();
    let dropper = std::thread::spawn(move || {
        drop(watch);
        dropped.send(()).unwrap();
    });
    assert!(is_dropped.recv_timeout(Duration::from_millis(500)).is_err(), "it waits");
    go.send(()).unwrap();
    is_dropped.recv_timeout(SOON).expect("dropped");
    dropper.join().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
