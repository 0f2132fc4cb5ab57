//! An image is shrunk while others in the same process use it.
//!
//! librbd 16.2 aborts the process (`ceph_assert(object_no < m_object_map.size())`) if the object
//! map shrinks below a request in flight. So each case runs in a separate process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{ErrorKind, Image, Queue};

use crate::support::{Space, alone};

const MIB: u64 = 1 << 20;
const LARGEST: u64 = 32 * MIB;
const FOR: Duration = Duration::from_secs(4);

/// Pseudorandom numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Returns whether an operation succeeded. A shrink explains only a failure of the range.
fn succeeded<T>(outcome: rbd::Result<T>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::OutOfRange { .. }) => false,
        Err(error) => panic!("{error:#}"),
    }
}

fn create(space: &Space) -> Arc<Image> {
    space.create("foo", LARGEST).object_size(MIB).run().unwrap();
    open(space)
}

fn open(space: &Space) -> Arc<Image> {
    Arc::new(space.open("foo").run().unwrap())
}

/// Resizes the image on several threads while `work` runs on others, until both have done enough. A
/// slow machine takes longer.
fn beside(resizers: &[Arc<Image>], odd: bool, work: &[&(dyn Fn(&mut Numbers) -> bool + Sync)]) {
    let over = &AtomicBool::new(false);
    let (done, resized) = (&AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for (seed, image) in (1..).zip(resizers) {
            scope.spawn(move || {
                let mut numbers = Numbers(seed * 7919);
                while !over.load(Ordering::Relaxed) {
                    let size = 1 + numbers.below(LARGEST / MIB);
                    let size = if odd { size * MIB - numbers.below(MIB) } else { size * MIB };
                    image.resize(size).allow_shrink(true).run().unwrap();
                    resized.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (seed, work) in (1..).zip(work) {
            scope.spawn(move || {
                let mut numbers = Numbers(seed * 104_729);
                while !over.load(Ordering::Relaxed) {
                    done.fetch_add(u64::from(work(&mut numbers)), Ordering::Relaxed);
                }
            });
        }
        thread::sleep(FOR);
        let end = Instant::now() + Duration::from_secs(60);
        let enough = || done.load(Ordering::Relaxed) > 20 && resized.load(Ordering::Relaxed) > 5;
        while !enough() && Instant::now() < end {
            thread::sleep(FOR / 40);
        }
        over.store(true, Ordering::Relaxed);
    });
    let (done, resized) = (done.load(Ordering::Relaxed), resized.load(Ordering::Relaxed));
    assert!(done > 20 && resized > 5, "{done} operations beside {resized} resizings");
}

fn offset(numbers: &mut Numbers) -> u64 {
    numbers.below(LARGEST / 4096) * 4096
}

fn reads(image: &Image) -> impl Fn(&mut Numbers) -> bool + Sync {
    |numbers| {
        // No image contains nines, so Ok means that the whole buffer was read.
        let mut data = [9; 4096];
        let read = succeeded(image.read_exact_at(&mut data, offset(numbers)));
        assert!(!read || !data.contains(&9), "part of it was not read");
        read
    }
}

/// Ranges of several parts.
fn lends(image: &Image) -> impl Fn(&mut Numbers) -> bool + Sync {
    |numbers| {
        let from = offset(numbers);
        let len = (9 * MIB).min(LARGEST - from);
        succeeded(image.read_each(from, len, |_, _| ControlFlow::Continue(())))
    }
}

fn writes(image: &Image) -> impl Fn(&mut Numbers) -> bool + Sync {
    |numbers| match numbers.below(4) {
        0 => succeeded(image.discard(offset(numbers), 2 * MIB)),
        1 => succeeded(image.write_zeroes(offset(numbers), 128 << 10)),
        2 => succeeded(image.compare_and_write(offset(numbers), &[0; 512], &[0; 512])),
        _ => succeeded(image.write_all_at(&[1; 8192], offset(numbers))),
    }
}

#[test]
fn reads_beside_two_that_resize() {
    if alone("shrinking::reads_beside_two_that_resize") {
        let space = Space::new();
        let image = create(&space);
        let work: [&(dyn Fn(&mut Numbers) -> bool + Sync); 3] =
            [&reads(&image), &reads(&image), &lends(&image)];
        beside(&[Arc::clone(&image), Arc::clone(&image)], false, &work);
    }
}

#[test]
fn reads_beside_odd_sizes() {
    if alone("shrinking::reads_beside_odd_sizes") {
        let space = Space::new();
        let image = create(&space);
        beside(&[Arc::clone(&image)], true, &[&reads(&image), &reads(&image)]);
    }
}

#[test]
fn writes_and_discards() {
    if alone("shrinking::writes_and_discards") {
        let space = Space::new();
        let image = create(&space);
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&writes(&image), &writes(&image)]);
    }
}

#[test]
fn two_handles_of_one_image() {
    if alone("shrinking::two_handles_of_one_image") {
        let space = Space::new();
        let (image, one, two) = (create(&space), open(&space), open(&space));
        image.write_all_at(&[1], 0).unwrap();
        beside(&[one, two], true, &[&reads(&image), &reads(&image)]);
    }
}

/// An image that is opened during a shrink is held as the others are.
#[test]
fn handles_are_opened() {
    if alone("shrinking::handles_are_opened") {
        let space = Space::new();
        let image = create(&space);
        let opened = |numbers: &mut Numbers| {
            let other = open(&space);
            let written = succeeded(other.write_all_at(&[1; 8192], offset(numbers)));
            succeeded(other.read_exact_at(&mut [0; 4096], offset(numbers))) | written
        };
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&opened, &opened, &opened]);
    }
}

#[test]
fn the_object_map_is_rebuilt() {
    if alone("shrinking::the_object_map_is_rebuilt") {
        let space = Space::new();
        let image = create(&space);
        let rebuild = |_: &mut Numbers| succeeded(image.object_map().rebuild().run());
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&rebuild, &rebuild, &writes(&image)]);
    }
}

#[test]
fn futures_that_are_polled_on_one_thread() {
    if alone("shrinking::futures_that_are_polled_on_one_thread") {
        let space = Space::new();
        let image = create(&space);
        let many = |numbers: &mut Numbers| {
            let started = Instant::now();
            let aio = image.aio();
            let reads: Vec<_> = (0..32).map(|_| aio.read(offset(numbers), 4096)).collect();
            let writes: Vec<_> =
                (0..4).map(|_| aio.write(offset(numbers), Bytes::from_static(&[1; 4096]))).collect();
            assert!(started.elapsed() < Duration::from_secs(1), "submitting does not block");
            reads.into_iter().fold(false, |some, read| succeeded(read.wait()) | some)
                | writes.into_iter().fold(false, |some, write| succeeded(write.wait()) | some)
        };
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&many, &many]);
    }
}

#[test]
fn a_queue() {
    if alone("shrinking::a_queue") {
        let space = Space::new();
        let image = create(&space);
        let queue = Mutex::new(Queue::new(Arc::clone(&image), 8).unwrap());
        let round = |numbers: &mut Numbers| {
            let mut queue = queue.lock().unwrap();
            let mut some = false;
            while queue.room() > 0 {
                let at = offset(numbers);
                let submitted = match numbers.below(4) {
                    0 => queue.write(0, at, Bytes::from_static(&[1; 4096])),
                    1 => queue.discard(0, at, 256 << 10),
                    2 => queue.compare_and_write(0, at, vec![0; 512], vec![0; 512]),
                    _ => queue.read(0, at, 4096, BytesMut::new()),
                };
                succeeded(submitted);
            }
            queue.wait(None).unwrap();
            while let Some(end) = queue.reap() {
                some |= succeeded(end.result);
            }
            some
        };
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&round]);
        // Other threads do blocking I/O on the image of the queue.
        beside(&[Arc::clone(&image)], false, &[&round, &reads(&image), &writes(&image)]);
    }
}

/// The caller can read the descriptor, too. The queue then misses these announcements.
#[test]
fn a_queue_whose_descriptor_is_read_by_others() {
    if alone("shrinking::a_queue_whose_descriptor_is_read_by_others") {
        let space = Space::new();
        let mut queue = Queue::new(create(&space), 16).unwrap();
        for block in 0..16 {
            queue.read(block, block * 4096, 4096, BytesMut::new()).unwrap();
        }
        let mut ends = 0;
        let end = Instant::now() + Duration::from_secs(60);
        while ends < 16 && Instant::now() < end {
            let mut count = [0; 8];
            ends += rustix::io::read(&queue, &mut count).map_or(0, |_| u64::from_ne_bytes(count));
        }
        queue.image().resize(MIB).allow_shrink(true).run().unwrap();
        let mut reaped = 0;
        while queue.in_flight() > 0 {
            queue.wait(None).unwrap();
            reaped += std::iter::from_fn(|| queue.reap()).map(|end| end.result.unwrap()).count();
        }
        assert_eq!((ends, reaped), (16, 16));
    }
}

/// Other threads open and close handles of the image, which a shrink also holds.
#[test]
fn handles_are_closed() {
    if alone("shrinking::handles_are_closed") {
        let space = Space::new();
        let image = create(&space);
        let round = |numbers: &mut Numbers| {
            let other = space.open("foo").run().unwrap();
            let read = other.aio().read(offset(numbers), 4096);
            let some = succeeded(other.read_exact_at(&mut [0; 4096], offset(numbers)));
            other.close().unwrap();
            succeeded(read.wait()) | some
        };
        beside(&[Arc::clone(&image), Arc::clone(&image)], true, &[&round, &round]);
    }
}

/// The owner of the queue resizes, so the queue is not reaped meanwhile.
#[test]
fn the_owner_of_a_queue_shrinks() {
    if alone("shrinking::the_owner_of_a_queue_shrinks") {
        let space = Space::new();
        let mut queue = Queue::new(create(&space), 16).unwrap();
        for round in 0..20 {
            for block in 0..16 {
                queue.read(block, block * 4096, 4096, BytesMut::new()).unwrap();
            }
            let size = if round % 2 == 0 { MIB } else { LARGEST };
            queue.image().resize(size).allow_shrink(true).run().unwrap();
            while queue.in_flight() > 0 {
                queue.wait(None).unwrap();
                while let Some(end) = queue.reap() {
                    end.result.unwrap();
                }
            }
        }
    }
}

#[test]
fn going_back_to_a_smaller_snapshot() {
    if alone("shrinking::going_back_to_a_smaller_snapshot") {
        let space = Space::new();
        let image = create(&space);
        image.resize(2 * MIB).allow_shrink(true).run().unwrap();
        image.snapshots().create("small").run().unwrap();
        let back = |_: &mut Numbers| {
            image.resize(LARGEST).run().unwrap();
            image.snapshots().rollback("small").run().unwrap();
            true
        };
        let rounds = AtomicU64::new(0);
        let end = Instant::now() + FOR;
        thread::scope(|scope| {
            for seed in 1..3 {
                let (image, end) = (&image, end);
                scope.spawn(move || {
                    let (read, write) = (reads(image), writes(image));
                    let mut numbers = Numbers(seed * 31);
                    while Instant::now() < end {
                        read(&mut numbers);
                        write(&mut numbers);
                    }
                });
            }
            while Instant::now() < end {
                back(&mut Numbers(1));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(rounds.into_inner() > 1);
    }
}
