//! Futures, images and connections dropped while operations are in flight.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::Image;

use super::wakers::InPlace;
use super::{Freezer, Tracked, eventually, within};
use crate::support::{Space, builder};

const LIMIT: Duration = Duration::from_secs(60);

fn poll_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_dropped_future_leaves_its_buffer_to_the_operation() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let (unpolled, polled) = (Tracked::default(), Tracked::default());
    let frozen = freezer.freeze();
    drop(image.aio().write(0, unpolled.bytes(4096)));
    let mut op = image.aio().write(4096, polled.bytes(4096));
    assert!(!poll_once(&mut op));
    drop(op);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!unpolled.is_freed() && !polled.is_freed(), "librbd still has them");
    drop(frozen);
    eventually("the buffers are freed", || unpolled.is_freed() && polled.is_freed());
    // A buffer freed too early would have been overwritten before it was sent: see `Tracked`.
    image.aio().flush().wait().unwrap();
    let mut data = [0; 8192];
    image.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(data, [0x77; 8192]);
}

#[test]
fn a_future_can_be_dropped_at_every_point() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let mut finished = 0;
    for round in 0..600_u64 {
        let tracked = Tracked::default();
        let mut read = image.aio().read(round * 4096, 4096);
        let mut write = image.aio().write(round * 4096, tracked.bytes(512));
        let vector = image.aio().read_vectored(0, vec![BytesMut::zeroed(512); 12]);
        let mut probe = image.aio().read(0, 512);
        if round % 3 > 0 {
            poll_once(&mut read);
            poll_once(&mut write);
        }
        if round % 3 > 1 {
            std::thread::sleep(Duration::from_micros(round * 10));
        }
        drop(vector);
        let mut ended = poll_once(&mut probe);
        if round % 10 == 9 {
            // A busy machine ends few operations so early.
            eventually("the read ends", || ended || poll_once(&mut probe));
            ended = true;
        }
        finished += u32::from(ended);
        drop((read, write));
    }
    assert!(
        finished > 20 && finished < 580,
        "{finished} of 600 were dropped late: both sides are meant to occur"
    );
}

#[test]
fn closing_waits_for_operations_in_flight() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    let writes: Vec<_> = (0..10).map(|n| image.aio().write(n * 4096, vec![3; 4096])).collect();
    let closer = std::thread::spawn(move || image.close());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!closer.is_finished());
    drop(frozen);
    within(LIMIT, || closer.join().unwrap()).unwrap();
    for write in writes {
        write.wait().unwrap();
    }
}

/// librbd's own close does not wait for these operations: the limit holds them in its queue.
#[test]
fn closing_waits_for_operations_that_a_limit_delays() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    for background in [false, true] {
        let slow = builder().option("rbd_qos_iops_limit", "20").option("rbd_qos_iops_burst", "0");
        let ioctx = slow.connect().unwrap().ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let mut image = ioctx.open("foo").run().unwrap();
        image.set_close_in_background(background);
        drop(ioctx);
        let start = Instant::now();
        let reads: Vec<_> = (0..40).map(|n| image.aio().read(n * 4096, 4096)).collect();
        drop(image);
        assert_eq!(start.elapsed() < Duration::from_millis(500), background, "{:?}", start.elapsed());
        for read in reads {
            assert_eq!(within(LIMIT, || read.wait()).unwrap(), [0; 4096][..]);
        }
        assert!(start.elapsed() > Duration::from_millis(500), "the limit had no effect");
    }
}

#[test]
fn the_connection_outlives_the_last_name_for_it() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let cluster = builder().connect().unwrap();
    let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = ioctx.open("foo").run().unwrap();
    drop((cluster, ioctx));
    let write = image.aio().write(0, Bytes::from_static(b"still here"));
    let read = image.aio().read(100, 4096);
    drop(image);
    write.wait().unwrap();
    read.wait().unwrap();
}

#[test]
fn in_the_background_a_drop_does_not_block() {
    let freezer = Freezer::get();
    let mut image = freezer.image();
    image.set_close_in_background(true);
    let (tracked, frozen) = (Tracked::default(), freezer.freeze());
    let write = image.aio().write(0, tracked.bytes(4096));
    let start = Instant::now();
    drop(image);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    // A stuck close does not delay another one.
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let mut other = space.open("foo").run().unwrap();
    other.set_close_in_background(true);
    drop(other);
    let watchers = || space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len();
    eventually("the other image is closed", || watchers() == 0);
    drop(frozen);
    within(LIMIT, || write.wait()).unwrap();
    eventually("the buffer is freed", || tracked.is_freed());
}

/// A wake drops the last reference to an image, together with its watch. If that has to wait, the
/// next drop does not.
#[test]
fn a_stuck_image_dropped_in_a_wake_holds_up_no_other() {
    let freezer = Freezer::get();
    let (clock, stuck) = (freezer.image(), Arc::new(freezer.image()));
    stuck.write_all_at(&[1], 0).unwrap();
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let (healthy, other) = (Arc::new(space.open("foo").run().unwrap()), space.open("foo").run().unwrap());
    let frozen = freezer.freeze();
    let write = stuck.aio().write(0, Bytes::from(vec![1; 4096]));
    dropped_in_a_wake(&clock, stuck);
    dropped_in_a_wake(&clock, healthy);
    let watchers = || other.watchers().unwrap().len();
    eventually("only the other watches", || watchers() == 1);
    drop(frozen);
    within(LIMIT, || write.wait()).unwrap();
}

/// Drops `image` in a wake. `clock` has stuck operations.
fn dropped_in_a_wake(clock: &Image, image: Arc<Image>) {
    let watch = image.watch_updates(|| ()).unwrap();
    drop(image);
    let late = clock.aio().read(0, 4096).timeout(Duration::from_secs(1));
    let (sender, is_dropped) = channel();
    InPlace::spawn(async move {
        late.await.unwrap_err();
        drop(watch);
        sender.send(()).unwrap();
    });
    is_dropped.recv_timeout(LIMIT).unwrap();
}
