//! Submitting never blocks, whatever the state of image and cluster.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{
    ErrorKind, Image, Queue,
    image::{Compare, OpenImage, UpdateWatch},
};

use super::wakers::InPlace;
use super::{Freezer, eventually, within};
use crate::support::Space;

const LIMIT: Duration = Duration::from_secs(60);

/// After another client has changed the header, librbd reads it again at the next call. A
/// submission must not wait for that.
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
    image.write_all_at(&[1; BLOCKS * 4096], 0).unwrap();
    let (image, queued) = (prepare(image), pool.open(&name).run().unwrap());
    let mut queue = Queue::new(queued, 16).unwrap();
    let other = freezer.connect().ioctx("rbd").unwrap().open(&name).run().unwrap();
    other.snapshots().create("changed").run().unwrap();
    let frozen = freezer.freeze();
    // On another thread, so that a submission that blocks fails the test instead of hanging it.
    let (sender, submitted) = channel();
    let submitter = std::thread::spawn(move || {
        let submit = |what: &'static str, submit: &mut dyn FnMut()| {
            let start = Instant::now();
            submit();
            sender.send((what, start.elapsed())).unwrap();
        };
        let ended = of_each_kind(&image, &submit);
        queue_each_kind(&mut queue, &submit);
        (image, ended, queue)
    });
    let end = Instant::now() + Duration::from_secs(10);
    let mut took = Vec::new();
    let held_up = loop {
        match submitted.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(one) => took.push(one),
            Err(error) => break error == RecvTimeoutError::Timeout,
        }
    };
    drop(frozen);
    let (image, ended, mut queue) = within(LIMIT, || submitter.join().unwrap());
    assert!(!held_up, "after {took:?}");
    assert!(took.iter().all(|(_, took)| *took < Duration::from_secs(2)), "{took:?}");
    within(LIMIT, move || ended.into_iter().for_each(|ended| ended()));
    let image = within(LIMIT, move || {
        let mut end = [9; BLOCKS * 4096];
        image.read_exact_at(&mut end, 0).unwrap();
        let firsts: Vec<u8> = end.chunks(4096).map(|block| block[511]).collect();
        // Such small ranges are not discarded.
        assert_eq!(firsts, [1, 2, 3, 4, 1, 0, 0, 5]);
        image
    });
    let mut ends = 0;
    while queue.in_flight() > 0 {
        assert!(queue.wait(LIMIT).unwrap());
        while let Some(end) = queue.reap() {
            end.result.unwrap();
            ends += 1;
        }
    }
    assert_eq!(ends, 9);
    within(LIMIT, || image.close()).unwrap();
    other.close().unwrap();
    within(LIMIT, || queue.close()).unwrap();
}

/// The number of blocks that [`of_each_kind`] uses.
const BLOCKS: usize = 8;

/// Submits one operation of each kind. Those that change data use separate blocks, filled with
/// ones. The returned closure waits for the results and checks them.
fn of_each_kind(
    image: &Image,
    submit: &dyn Fn(&'static str, &mut dyn FnMut()),
) -> Vec<Box<dyn FnOnce() + Send>> {
    let mut ends: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    let aio = image.aio();
    let bytes = |byte: u8, len: usize| Bytes::from(vec![byte; len]);
    macro_rules! each {
        ($($what:literal: $op:expr => $ended:expr,)*) => {
            $(submit($what, &mut || {
                let op = $op;
                ends.push(Box::new(move || $ended(op.wait().unwrap())));
            });)*
        };
    }
    each! {
        "read": aio.read(0, 4096) => |data: Bytes| assert_eq!(data, [1; 4096][..]),
        "read into": aio.read_into(0, 4096, BytesMut::new()) => |data: BytesMut| assert_eq!(data, [1; 4096][..]),
        "read vectored": aio.read_vectored(0, vec![BytesMut::zeroed(2048); 2]) => |data: Vec<BytesMut>| {
            assert_eq!(data.concat(), [1; 4096]);
        },
        "write": aio.write(4096, bytes(2, 4096)) => |()| {},
        "write vectored": aio.write_vectored(2 * 4096, vec![bytes(3, 2048); 2]) => |()| {},
        "write same": aio.write_same(3 * 4096, 4096, bytes(4, 512)) => |()| {},
        "discard": aio.discard(4 * 4096, 4096) => |()| {},
        "write zeroes": aio.write_zeroes(5 * 4096, 4096) => |()| {},
        "write zeroes thick": aio.write_zeroes_thick(6 * 4096, 4096) => |()| {},
        "compare and write": aio.compare_and_write(7 * 4096, bytes(1, 512), bytes(5, 512)) => |found| {
            assert_eq!(found, Compare::Written);
        },
        "flush": aio.flush() => |()| {},
    }
    ends
}

/// Like `of_each_kind`, through a queue, beyond those blocks, where nothing was written.
fn queue_each_kind(queue: &mut Queue, submit: &dyn Fn(&'static str, &mut dyn FnMut())) {
    let bytes = |byte: u8, len: usize| Bytes::from(vec![byte; len]);
    let base = 1 << 20;
    macro_rules! each {
        ($($what:literal: $op:expr,)*) => {
            $(submit($what, &mut || $op.unwrap());)*
        };
    }
    each! {
        "queue: read": queue.read(0, base, 4096, BytesMut::new()),
        "queue: read vectored": queue.read_vectored(1, base, vec![BytesMut::zeroed(4096); 2]),
        "queue: write": queue.write(2, base, bytes(7, 4096)),
        "queue: write vectored": queue.write_vectored(3, base + 4096, vec![bytes(8, 512); 2]),
        "queue: discard": queue.discard(4, base + 2 * 4096, 4096),
        "queue: write zeroes": queue.write_zeroes(5, base + 3 * 4096, 4096),
        "queue: write same": queue.write_same(6, base + 4 * 4096, 4096, bytes(9, 512)),
        "queue: compare and write": queue.compare_and_write(7, base + 5 * 4096, bytes(0, 512), bytes(9, 512)),
        "queue: flush": queue.flush(8),
    }
}

/// Another client grows the image to 16 MiB. librbd has reported the change, but this client has
/// not read the new size yet.
fn grown_by_another(freezer: &Freezer, image: &Arc<Image>) -> (UpdateWatch, Image) {
    let other = freezer.connect().ioctx("rbd").unwrap().open(&image.name().unwrap()).run().unwrap();
    let (sender, news) = channel();
    let sender = Mutex::new(sender);
    let tell = move || sender.lock().unwrap().send(()).unwrap_or(());
    let watch = image.watch_updates(tell).unwrap();
    other.resize(16 << 20).run().unwrap();
    news.recv_timeout(LIMIT).unwrap();
    (watch, other)
}

/// librbd reads the header with the threads on which wakes run. Waiting for it there could take
/// forever.
#[test]
fn nothing_waits_for_a_new_size_inside_a_wake() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    image.aio().read(0, 4096).wait().unwrap();
    let (watch, other) = grown_by_another(&freezer, &image);
    let frozen = freezer.freeze();
    let (sender, said) = channel();
    let (told, ended) = channel();
    let inside = Arc::clone(&image);
    let task = async move {
        let stuck = inside.aio().read(0, 4096).timeout(Duration::from_secs(1));
        assert!(stuck.await.unwrap_err().is_timed_out());
        // This runs in a wake of the timer.
        let (grown, beyond) = (inside.aio().read(8 << 20, 4096), inside.aio().read(16 << 20, 1));
        sender.send(()).unwrap();
        told.send((grown.await, beyond.await)).unwrap();
    };
    // Not on this thread: if the first poll took long, the task would complete here, outside a
    // wake.
    std::thread::spawn(|| InPlace::spawn(task));
    let submitted = said.recv_timeout(Duration::from_secs(10));
    let early = ended.try_recv();
    drop(frozen);
    submitted.expect("it does not wait");
    assert!(early.is_err(), "nobody knows the size: {early:?}");
    let (grown, beyond) = ended.recv_timeout(LIMIT).expect("the size is known some time");
    assert_eq!(grown.unwrap(), [0; 4096][..]);
    assert_eq!(refused(beyond.map(drop)), 16 << 20);
    drop(watch);
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
    image.snapshots().create("big").run().unwrap();
    for _ in 0..3 {
        image.resize((4 << 20) + 100).allow_shrink(true).run().unwrap();
        assert_eq!(refused(image.aio().write(4 << 20, data()).wait()), (4 << 20) + 100);
        image.resize(16 << 20).run().unwrap();
        image.aio().write((16 << 20) - 4096, data()).wait().unwrap();
    }
    image.snapshots().rollback("big").run().unwrap();
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
    // Beyond the old size, so the new size is asked for.
    eventually("it has grown", || image.aio().write((16 << 20) - 4096, data()).wait().is_ok());
    other.resize((4 << 20) + 100).allow_shrink(true).run().unwrap();
    // The notification is on its way, and an operation must end after its arrival.
    eventually("it has shrunk", || {
        image.aio().read(0, 512).wait().unwrap();
        image.aio().write(4 << 20, data()).wait().is_err()
    });
    assert_eq!(refused(image.aio().write(4 << 20, data()).wait()), (4 << 20) + 100);
}
