//! Asynchronous closing.

use std::time::{Duration, Instant};

use super::{Freezer, Tracked, eventually, within};
use crate::support::Space;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_closing_comes_after_what_is_in_flight() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    let write = image.aio().write(0, vec![3; 4096]);
    let start = Instant::now();
    let closing = image.start_close();
    let error = closing.timeout(Duration::from_millis(200)).wait().unwrap_err();
    assert!(error.is_timed_out() && start.elapsed() < Duration::from_secs(5), "{error}");
    drop(frozen);
    within(LIMIT, || write.wait()).unwrap();
}

#[test]
fn a_dropped_closing_continues() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let watchers = || space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len();
    for busy in [false, true] {
        let cluster = crate::support::builder().connect().unwrap();
        let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let image = ioctx.open("foo").run().unwrap();
        let tracked = Tracked::default();
        drop((cluster, ioctx));
        if busy {
            drop(image.aio().write(0, tracked.bytes(4096)));
        }
        drop(image.start_close());
        eventually("it is closed", || watchers() == 0);
        eventually("the buffer is freed", || tracked.is_freed() == busy);
    }
}

#[test]
fn many_images_open_and_close_at_once() {
    let space = Space::new();
    for n in 0..8 {
        space.create(&format!("image-{n}"), 1 << 20).run().unwrap();
    }
    let names: Vec<String> = (0..8).map(|n| format!("image-{n}")).collect();
    let openings: Vec<_> = names.iter().map(|name| space.open(name).start()).collect();
    let images: Vec<_> = openings.into_iter().map(|opening| opening.wait().unwrap()).collect();
    let reads: Vec<_> = images.iter().map(|image| image.aio().read(0, 4096)).collect();
    let closings: Vec<_> = images.into_iter().map(|image| image.start_close()).collect();
    for closing in closings {
        closing.wait().unwrap();
    }
    for read in reads {
        read.wait().unwrap();
    }
}
