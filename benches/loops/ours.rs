//! The same loops with this library.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rbd::{Buffer, Image, Queue};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::work::Work;

/// `depth` tasks on one thread, each with one operation in flight at a time.
pub fn futures(runtime: &Runtime, image: &Arc<Image>, work: &Arc<Work>) {
    let tasks = LocalSet::new();
    let next = Rc::new(Cell::new(0));
    for _ in 0..work.depth {
        let (image, work, next) = (Arc::clone(image), Arc::clone(work), Rc::clone(&next));
        tasks.spawn_local(async move {
            let data = Bytes::from(vec![0x5A; work.block]);
            let mut buffer = BytesMut::with_capacity(work.block);
            loop {
                let at = next.replace(next.get() + 1);
                let Some(offset) = work.offsets.get(at) else { return };
                if work.writes[at] {
                    image.aio().write(*offset, data.clone()).await.unwrap();
                } else {
                    buffer.clear();
                    buffer = image.aio().read_into(*offset, work.block, buffer).await.unwrap();
                }
            }
        });
    }
    runtime.block_on(tasks);
}

/// One thread and a queue.
pub fn queue(queue: &mut Queue, work: &Work) {
    let mut next = 0;
    let mut submit = |queue: &mut Queue, mut buffer: BytesMut| {
        let Some(offset) = work.offsets.get(next) else { return };
        if work.writes[next] {
            buffer.resize(work.block, 0x5A);
            queue.write(0, *offset, buffer).unwrap();
        } else {
            buffer.clear();
            queue.read(0, *offset, work.block, buffer).unwrap();
        }
        next += 1;
    };
    for _ in 0..work.depth {
        submit(queue, BytesMut::with_capacity(work.block));
    }
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        while let Some(end) = queue.reap() {
            end.result.unwrap();
            let Buffer::BytesMut(buffer) = end.buffer else { unreachable!() };
            submit(queue, buffer);
        }
    }
}

/// One thread, one operation at a time.
pub fn blocking(image: &Image, work: &Work) {
    let mut buffer = vec![0x5A; work.block];
    for (offset, write) in work.offsets.iter().zip(&work.writes) {
        if *write {
            image.write_all_at(&buffer, *offset).unwrap();
        } else {
            image.read_exact_at(&mut buffer, *offset).unwrap();
        }
    }
}
