//! Allocations per operation, counted over all threads of the process. C++ does not allocate through Rust's allocator, so
//! these are ours alone.

#![allow(missing_docs, clippy::pedantic)]

use std::alloc::System;

use bytes::{Bytes, BytesMut};
use rbd::{Buffer, Image, Queue};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 200;

/// Allocations and bytes allocated of each of many rounds, which must all be alike.
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
    let cluster = rbd::Cluster::builder().ignore_environment().conf_file(rbd_testcluster::shared().conf());
    let pool = cluster.connect().unwrap().ioctx("rbd").unwrap();
    let name = format!("{name}-{}", std::process::id());
    pool.create(&name, 16 << 20).run().unwrap();
    pool.open(&name).run().unwrap()
}

fn remove(pool: &rbd::IoCtx, name: &str) {
    pool.remove(name).run().unwrap();
}

/// Reaps all that is in flight.
fn drain(queue: &mut Queue, mut back: impl FnMut(Buffer)) {
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        while let Some(end) = queue.reap() {
            end.result.unwrap();
            back(end.buffer);
        }
    }
}

/// One test, so that nothing else allocates meanwhile.
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
    // The list of the buffers is the caller's.
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
        // In the order of the tokens a buffer would always be read into or always be written: mix them.
        buffers.rotate_left(1);
    });
    assert_eq!((count, bytes), (0, 0));

    let mut lists: Vec<Vec<BytesMut>> = (0..16).map(|_| vec![BytesMut::zeroed(512); 12]).collect();
    let sector = Bytes::from(vec![0; 512]);
    let (count, bytes) = each("16 vectored and conditional operations of a queue", |round| {
        // Lists of up to twelve buffers, each in every place of the queue before long.
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

    let (pool, names) = (image.ioctx().clone(), [image.name().unwrap(), queue.image().name().unwrap()]);
    image.close().unwrap();
    queue.close().unwrap();
    names.iter().for_each(|name| remove(&pool, name));
}
