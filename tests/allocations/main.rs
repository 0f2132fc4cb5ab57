//! Counts allocations per operation, over all threads of the process, and calls of librbd per batch
//! of a queue. C++ does not allocate through Rust's allocator, so librbd's allocations are not
//! counted.

#![allow(missing_docs, clippy::pedantic)]

mod raw;

use std::alloc::System;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{Image, Queue, queue::Buffer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 200;

/// Returns the allocations and the allocated bytes of a round. All of many rounds must be equal.
fn each(name: &str, mut round: impl FnMut(u64)) -> (usize, usize) {
    (0..20).for_each(&mut round);
    let region = Region::new(GLOBAL);
    (0..ROUNDS as u64).for_each(&mut round);
    let change = region.change();
    let (count, bytes) = (change.allocations + change.reallocations, change.bytes_allocated);
    println!(
        "{name}: {:.2} allocations, {:.0} bytes",
        count as f64 / ROUNDS as f64,
        bytes as f64 / ROUNDS as f64
    );
    assert_eq!(count % ROUNDS, 0, "{name}: {count} allocations in {ROUNDS} rounds");
    (count / ROUNDS, bytes / ROUNDS)
}

fn open(name: &str) -> Image {
    let cluster =
        rbd::Cluster::builder().ignore_environment(true).conf_file(rbd_testcluster::shared().conf());
    let pool = cluster.connect().unwrap().ioctx("rbd").unwrap();
    let name = format!("{name}-{}", std::process::id());
    pool.create(&name, 16 << 20).run().unwrap();
    pool.open(&name).run().unwrap()
}

fn remove(pool: &rbd::IoCtx, name: &str) {
    pool.remove(name).run().unwrap();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A minimal executor.
fn wait_for<T>(waker: &Waker, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits until `count` completions are announced, without reaping them.
fn announced(queue: &Queue, count: usize) {
    let info = format!("/proc/self/fdinfo/{}", queue.as_raw_fd());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let info = std::fs::read_to_string(&info).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).expect("an eventfd");
        if usize::from_str_radix(line.trim(), 16).unwrap() >= count {
            return;
        }
        assert!(Instant::now() < end, "not all have ended within 30 s: {line} of {count:x}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reaps all operations in flight.
fn drain(queue: &mut Queue, mut back: impl FnMut(Buffer)) {
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        while let Some(end) = queue.reap() {
            end.result.unwrap();
            back(end.buffer);
        }
    }
}

/// A single test, so that nothing else allocates meanwhile.
#[test]
fn one_for_a_future_and_none_for_the_queue() {
    let image = open("futures");
    let aio = image.aio();
    let data = Bytes::from(vec![7; 4096]);

    let mut buffer = BytesMut::with_capacity(4096);
    let (count, bytes) = each("read into a buffer", |round| {
        buffer.clear();
        buffer = aio.read_into(round * 4096, 4096, std::mem::take(&mut buffer)).wait().unwrap();
    });
    assert!(count <= 1 && bytes < 512, "the operation");

    let (count, bytes) = each("write", |round| aio.write(round * 4096, data.clone()).wait().unwrap());
    assert!(count <= 1 && bytes < 512, "the operation, and no copy");

    let (count, bytes) = each("read", |round| drop(aio.read(round * 4096, 4096).wait().unwrap()));
    assert!(count <= 2 && bytes < 4096 + 512, "the operation and its result");

    let (count, bytes) = each("read 4 MiB", |_| drop(aio.read(0, 4 << 20).wait().unwrap()));
    assert!(count <= 2 && bytes < (4 << 20) + 512, "the operation and its result, which was not copied");

    let big = Bytes::from(vec![7; 4 << 20]);
    let (count, bytes) = each("write 4 MiB", |_| aio.write(0, big.clone()).wait().unwrap());
    assert!(count <= 1 && bytes < 512, "the operation, and no copy");

    // A call on another thread would allocate more.
    let mut own = vec![0; 4096];
    let (count, bytes) = each("blocking read", |round| image.read_exact_at(&mut own, round * 4096).unwrap());
    assert!(count <= 2 && bytes < 4096 + 512, "the operation and a buffer that it owns");
    let (count, bytes) = each("blocking write", |round| image.write_all_at(&own, round * 4096).unwrap());
    assert!(count <= 2 && bytes < 4096 + 512, "the operation and a copy that it owns");

    let mut buffers = vec![BytesMut::zeroed(512); 8];
    let (count, bytes) = each("read of eight buffers", |round| {
        buffers = aio.read_vectored(round * 4096, std::mem::take(&mut buffers)).wait().unwrap();
    });
    assert!(count <= 1 && bytes < 1024, "the operation, with the list of addresses in it");

    // The timeout is long, so it is set and then removed.
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (count, bytes) = each("awaited with a deadline", |round| {
        let write = aio.write(round * 4096, data.clone()).timeout(Duration::from_secs(600));
        wait_for(&waker, write).unwrap();
    });
    assert!(count <= 1 && bytes < 512, "the operation, and nothing for the deadline");

    let (count, _) = each("flush", |_| aio.flush().wait().unwrap());
    assert!(count <= 1);
    let (count, _) = each("discard", |round| aio.discard(round * 65536, 65536).wait().unwrap());
    assert!(count <= 1);
    let (count, _) = each("write zeroes", |round| aio.write_zeroes(round * 4096, 4096).wait().unwrap());
    assert!(count <= 1);
    let sector = data.slice(..512);
    let (count, _) = each("compare and write", |_| {
        let _ = aio.compare_and_write(0, sector.clone(), sector.clone()).wait().unwrap();
    });
    assert!(count <= 1);
    let (count, _) = each("write same", |round| {
        aio.write_same(round * 4096, 4096, sector.clone()).wait().unwrap();
    });
    assert!(count <= 1);
    // The caller allocates the list of the buffers.
    let (count, _) = each("write of eight buffers", |_| {
        aio.write_vectored(0, vec![data.clone(); 8]).wait().unwrap();
    });
    assert!(count <= 2);

    let mut buffers = vec![BytesMut::with_capacity(4096); 16];
    buffers.iter_mut().for_each(|buffer| buffer.reserve(4096));
    let mut queue = Queue::new(open("queue"), 16).unwrap();
    let (count, bytes) = each("16 operations of a queue", |round| {
        for (token, mut buffer) in buffers.drain(..).enumerate() {
            if token % 2 == 0 {
                buffer.clear();
                queue.read(token as u64, round * 4096, 4096, buffer).unwrap();
            } else {
                queue.write(token as u64, round * 4096, buffer).unwrap();
            }
        }
        drain(&mut queue, |buffer| match buffer {
            Buffer::BytesMut(buffer) => buffers.push(buffer),
            other => panic!("{other:?}"),
        });
        // In the order of the tokens, a buffer would always be used for reads or always for writes.
        // So mix them.
        buffers.rotate_left(1);
    });
    assert_eq!((count, bytes), (0, 0));

    let mut lists: Vec<Vec<BytesMut>> = (0..16).map(|_| vec![BytesMut::zeroed(512); 12]).collect();
    let sector = Bytes::from(vec![0; 512]);
    let (count, bytes) = each("16 vectored and conditional operations of a queue", |round| {
        // Lists of up to twelve buffers. Each soon uses every entry of the queue.
        for (token, list) in lists.drain(..).enumerate() {
            let offset = (round * 16 + token as u64) * 512;
            match token % 2 {
                0 => queue.read_vectored(token as u64, offset, list).unwrap(),
                _ => queue.write_vectored(token as u64, offset, list).unwrap(),
            }
        }
        drain(&mut queue, |buffer| match buffer {
            Buffer::BytesMutVec(list) => lists.push(list),
            other => panic!("{other:?}"),
        });
        lists.rotate_left(1);
        for token in 0..16 {
            match token % 2 {
                0 => queue.write_same(token, token << 16, 8192, sector.clone()).unwrap(),
                _ => queue.compare_and_write(token, token << 16, sector.clone(), sector.clone()).unwrap(),
            }
        }
        drain(&mut queue, drop);
    });
    assert_eq!((count, bytes), (0, 0));

    // From here on with a timeout.
    queue.set_timeout(Duration::from_secs(600));
    let (count, bytes) = each("8 flushes and 8 discards of a queue", |round| {
        for token in 0..16 {
            match token % 2 {
                0 => queue.flush(token).unwrap(),
                _ => queue.discard(token, (round % 8) << 16, 65536).unwrap(),
            }
        }
        drain(&mut queue, drop);
    });
    assert_eq!((count, bytes), (0, 0));

    // Completions are fetched in one batch, not one by one. A late announcement of earlier
    // operations may be counted here, but not in every round.
    let calls_for_16 = || {
        thread::sleep(Duration::from_millis(200));
        assert!(queue.reap().is_none());
        for token in 0..16 {
            queue.write(token, token * 4096, data.clone()).unwrap();
        }
        announced(&queue, 16);
        let before = raw::polls();
        while let Some(end) = queue.reap() {
            end.result.unwrap();
        }
        let calls = raw::polls() - before;
        drain(&mut queue, drop);
        calls
    };
    let calls: Vec<_> = std::iter::repeat_with(calls_for_16).take(3).collect();
    assert!(calls.contains(&1), "{calls:?}");

    let (pool, names) = (image.ioctx().clone(), [image.name().unwrap(), queue.image().name().unwrap()]);
    image.close().unwrap();
    queue.close().unwrap();
    names.iter().for_each(|name| remove(&pool, name));
}
