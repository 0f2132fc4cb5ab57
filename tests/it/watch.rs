//! Update and quiesce watches.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbd::{Errno, Quiesce};

use crate::support::{Space, builder};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_watch_tells_of_changes_by_others_until_it_is_dropped() {
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

#[test]
fn a_quiesce_watch_ends_with_the_image() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = Arc::new(space.open("foo").run().unwrap());
    let (sender, events) = channel();
    let watch = image
        .watch_quiesce(move |event| {
            sender.send(event).unwrap();
            if event == Quiesce::Freeze { Err(Errno::EBUSY) } else { Ok(()) }
        })
        .unwrap();
    drop(image);
    drop(watch);
    assert_eq!(events.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "its thread has ended");
    space.remove("foo").run().expect("nobody has it open any more");
}
