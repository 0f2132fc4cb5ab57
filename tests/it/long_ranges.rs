//! Ranges of so many objects that their requests would not fit into memory.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rbd::{Features, Image, Queue};

use crate::support::{Space, alone, has_object};

/// Returns the peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

const MUCH: u64 = 512 << 20;
const WHILE: Duration = Duration::from_secs(1);

fn huge(space: &Space) -> Image {
    // A failure must not take the memory of the whole machine.
    let pid = std::process::id().to_string();
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, "--data=4294967296"]).status();
    assert!(limited.unwrap().success());
    space.create("huge", i64::MAX as u64).features(Features::LAYERING).run().unwrap();
    space.open("huge").run().unwrap()
}

#[test]
fn futures_over_a_huge_image() {
    if alone("long_ranges::futures_over_a_huge_image") {
        let space = Space::new();
        let image = huge(&space);
        // Removing it would take as long.
        std::mem::forget(space);
        let aio = image.aio();
        for len in [i64::MAX as u64, 1 << 46] {
            for op in [aio.discard(0, len), aio.write_zeroes(0, len), aio.write_zeroes(len / 2, len / 2)] {
                let _ = op.timeout(WHILE).wait();
                assert!(peak() < MUCH, "{} bytes of memory", peak());
            }
        }
        // An abandoned operation ends after its current part.
        let start = Instant::now();
        let error = image.close().unwrap_err();
        assert!(error.to_string().contains("after a part of it was done"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

#[test]
fn a_queue_over_a_huge_image() {
    if alone("long_ranges::a_queue_over_a_huge_image") {
        let space = Space::new();
        let mut queue = Queue::new(huge(&space), 4).unwrap();
        std::mem::forget(space);
        queue.set_timeout(WHILE);
        queue.discard(1, 0, i64::MAX as u64).unwrap();
        queue.write_zeroes(2, 0, 1 << 46).unwrap();
        while queue.in_flight() > 0 {
            queue.wait(None).unwrap();
            while queue.reap().is_some() {}
        }
        assert!(peak() < MUCH, "{} bytes of memory", peak());
        let start = Instant::now();
        let error = queue.close().unwrap_err();
        assert!(error.to_string().contains("after a part of it was done"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

/// 12,288 objects. Some contain data: those at the ends of all parts into which the range is split.
const SMALL_OBJECTS: u64 = 4096 * 12_288;

fn with_data(space: &Space) -> Image {
    let image = space.create("small", SMALL_OBJECTS).object_size(4096).features(Features::LAYERING);
    image.run().unwrap();
    let image = space.open("small").run().unwrap();
    for at in (0..SMALL_OBJECTS).step_by(2 << 20) {
        image.write_all_at(&[1; 8192], at.saturating_sub(4096)).unwrap();
    }
    image
}

fn is_empty(image: &Image) {
    let (mut block, zeros) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..SMALL_OBJECTS).step_by(block.len()) {
        image.read_exact_at(&mut block, at).unwrap();
        assert!(block == zeros, "at {at}");
    }
    assert!(!has_object(image, 1 << 12), "the object was given back");
}

#[test]
fn all_of_a_split_range_is_discarded() {
    let space = Space::new();
    let image = with_data(&space);
    let other = image.ioctx().open("small").read_only(true).run().unwrap();
    image.aio().discard(0, SMALL_OBJECTS).wait().unwrap();
    is_empty(&other);
    image.write_all_at(&[1; 4096], SMALL_OBJECTS - 4096).unwrap();
    image.aio().write_zeroes(10, SMALL_OBJECTS - 10).wait().unwrap();
    is_empty(&other);
    image.write_all_at(&[1; 4096], SMALL_OBJECTS - 4096).unwrap();
    let mut queue = Queue::new(image, 4).unwrap();
    queue.discard(7, 0, SMALL_OBJECTS).unwrap();
    queue.write_zeroes(8, 0, SMALL_OBJECTS).unwrap();
    queue.read(9, 0, 4096, BytesMut::new()).unwrap();
    let mut ended = Vec::new();
    while queue.in_flight() > 0 {
        assert!(queue.wait(Duration::from_secs(120)).unwrap());
        while let Some(end) = queue.reap() {
            end.result.unwrap();
            ended.push(end.token);
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [7, 8, 9], "each is told of once");
    is_empty(&other);
}
