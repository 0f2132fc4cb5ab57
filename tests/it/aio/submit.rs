//! Submitting takes no time, whatever state the image and the cluster are in.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{ErrorKind, Image, OpenImage, Queue};

use super::wakers::InPlace;
use super::{Freezer, eventually, within};
use crate::support::Space;

const LIMIT: Duration = Duration::from_secs(60);

/// A change of the header by another client makes librbd read it again at the next call, which is not ours to wait for.
#[test]
fn a_changed_header_holds_up_no_submission() {
    let freezer = Freezer::get();
    changed_header(&freezer, |image| {
        image.aio().read(0, 4096).wait().unwrap();
        image
    });
    changed_header(&freezer, |image| reopened(image, |open| open.run().unwrap()));
    changed_header(&freezer, |image| reopened(image, |open| open.start().wait().unwrap()));
}

fn reopened(image: Image, open: fn(OpenImage<'_>) -> Image) -> Image {
    let (name, pool) = (image.name().unwrap(), image.ioctx().clone());
    image.close().unwrap();
    open(pool.open(&name))
}

fn changed_header(freezer: &Freezer, prepare: impl FnOnce(Image) -> Image) {
    let image = freezer.image();
    let (name, pool) = (image.name().unwrap(), image.ioctx().clone());
    image.write_all_at(&[1; 4096], 0).unwrap();
    let (image, queued) = (prepare(image), pool.open(&name).run().unwrap());
    let mut queue = Queue::new(queued, 1).unwrap();
    let other = freezer.connect().ioctx("rbd").unwrap().open(&name).run().unwrap();
    other.create_snapshot("changed").run().unwrap();
    let frozen = freezer.freeze();
    // So that a submission that waits fails the test instead of hanging it.
    let (sender, submitted) = channel();
    let submitter = std::thread::spawn(move || {
        let start = Instant::now();
        let ops = (image.aio().read(0, 4096), image.aio().write(4096, Bytes::from(vec![2; 4096])));
        queue.read(0, 0, 4096, BytesMut::new()).unwrap();
        sender.send(start.elapsed()).unwrap();
        (image, ops, queue)
    });
    let took = submitted.recv_timeout(Duration::from_secs(10));
    drop(frozen);
    let (image, (read, write), queue) = within(LIMIT, || submitter.join().unwrap());
    assert!(took.is_ok_and(|took| took < Duration::from_secs(2)), "{took:?}");
    assert_eq!(within(LIMIT, || read.wait()).unwrap(), [1; 4096][..]);
    within(LIMIT, || write.wait()).unwrap();
    image.close().unwrap();
    other.close().unwrap();
    within(LIMIT, || queue.close()).unwrap();
}

/// librbd reads the header with the threads that wakes run on: waiting for it there might be for ever.
#[test]
fn nothing_waits_for_a_new_size_inside_a_wake() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    image.aio().read(0, 4096).wait().unwrap();
    let name = image.name().unwrap();
    let other = freezer.connect().ioctx("rbd").unwrap().open(&name).run().unwrap();
    let (sender, news) = channel();
    let sender = Mutex::new(sender);
    let tell = move || sender.lock().unwrap().send(()).unwrap_or(());
    let watch = image.watch_updates(tell).unwrap();
    other.resize(16 << 20).run().unwrap();
    news.recv_timeout(LIMIT).unwrap();
    let frozen = freezer.freeze();
    let (sender, said) = channel();
    let inside = Arc::clone(&image);
    let task = async move {
        let stuck = inside.aio().read(0, 4096).deadline(Duration::from_secs(1));
        assert!(stuck.await.unwrap_err().is_timed_out());
        // This is the wake of the timer.
        let outcomes = (inside.aio().read(8 << 20, 4096).await, inside.aio().read(16 << 20, 1).await);
        sender.send(outcomes).unwrap();
    };
    // Not from this thread, which would wait if it took so long to poll once that this is no wake.
    std::thread::spawn(|| InPlace::spawn(task));
    let said = said.recv_timeout(Duration::from_secs(10));
    drop(frozen);
    let (grown, beyond) = said.expect("it does not wait");
    for error in [grown.unwrap_err(), beyond.unwrap_err()] {
        assert!(error.to_string().contains("another client has changed it"), "{error}");
    }
    drop(watch);
    let read = image.aio().read(8 << 20, 4096);
    assert_eq!(within(LIMIT, || read.wait()).unwrap(), [0; 4096][..]);
    other.close().unwrap();
    within(LIMIT, || drop(image));
}

fn refused(outcome: rbd::Result<()>) -> u64 {
    let error = outcome.unwrap_err();
    let ErrorKind::OutOfRange { size, .. } = error.kind() else { panic!("{error}") };
    *size
}

#[test]
fn the_size_follows_what_this_handle_does() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let data = || Bytes::from(vec![1; 4096]);
    image.aio().write((8 << 20) - 4096, data()).wait().unwrap();
    image.create_snapshot("big").run().unwrap();
    for _ in 0..3 {
        image.resize((4 << 20) + 100).allow_shrink(true).run().unwrap();
        assert_eq!(refused(image.aio().write(4 << 20, data()).wait()), (4 << 20) + 100);
        image.resize(16 << 20).run().unwrap();
        image.aio().write((16 << 20) - 4096, data()).wait().unwrap();
    }
    image.rollback("big").run().unwrap();
    assert_eq!(refused(image.aio().write(8 << 20, data()).wait()), 8 << 20);
    assert_eq!(image.aio().read((8 << 20) - 4096, 4096).wait().unwrap(), data());
}

#[test]
fn the_size_follows_what_others_do() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let (image, other) = (space.open("foo").run().unwrap(), space.open("foo").run().unwrap());
    let data = || Bytes::from(vec![1; 4096]);
    image.aio().write(0, data()).wait().unwrap();
    other.resize(16 << 20).run().unwrap();
    // Beyond the old size, so the new one is asked for.
    eventually("it has grown", || image.aio().write((16 << 20) - 4096, data()).wait().is_ok());
    other.resize((4 << 20) + 100).allow_shrink(true).run().unwrap();
    // The news is on its way, and an operation has to end after it came.
    eventually("it has shrunk", || {
        image.aio().read(0, 512).wait().unwrap();
        image.aio().write(4 << 20, data()).wait().is_err()
    });
    assert_eq!(refused(image.aio().write(4 << 20, data()).wait()), (4 << 20) + 100);
}
