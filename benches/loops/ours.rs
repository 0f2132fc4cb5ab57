//! The loops of this library.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rbd::{Image, Queue, queue::Buffer};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::work::Work;

/// Buffers that are reused in each run, as in C.
#[derive(Default)]
pub struct Buffers(Vec<BytesMut>);

impl Buffers {
    /// Returns a buffer of the length of a block.
    fn take(&mut self, block: usize) -> BytesMut {
        let mut buffer = self.0.pop().unwrap_or_default();
        buffer.resize(block, 0x5A);
        buffer
    }
}

/// Runs `depth` tasks on one thread, each with one operation in flight.
pub fn futures(runtime: &Runtime, image: &Arc<Image>, work: &Arc<Work>, buffers: &mut Buffers) {
    let kept = Rc::new(RefCell::new(std::mem::take(buffers)));
    let tasks = LocalSet::new();
    let next = Rc::new(Cell::new(0));
    let data = if work.writes.contains(&true) { Bytes::from(vec![0x5A; work.block]) } else { Bytes::new() };
    for _ in 0..work.depth {
        let (image, work, next) = (Arc::clone(image), Arc::clone(work), Rc::clone(&next));
        let kept = Rc::clone(&kept);
        let data = data.clone();
        tasks.spawn_local(async move {
            let mut buffer = kept.borrow_mut().take(work.block);
            loop {
                let at = next.replace(next.get() + 1);
                let Some(offset) = work.offsets.get(at) else { break };
                if work.writes[at] {
                    image.aio().write(*offset, data.clone()).await.unwrap();
                } else {
                    buffer.clear();
                    buffer = image.aio().read_into(*offset, work.block, buffer).await.unwrap();
                }
            }
            kept.borrow_mut().0.push(buffer);
        });
    }
    runtime.block_on(tasks);
    *buffers = kept.take();
}

/// Runs one thread with a queue.
pub fn queue(queue: &mut Queue, work: &Work, buffers: &mut Buffers) {
    let mut next = 0;
    let mut kept = std::mem::take(buffers);
    let mut submit = |queue: &mut Queue, mut buffer: BytesMut| {
        let Some(offset) = work.offsets.get(next) else { return buffers.0.push(buffer) };
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
        let buffer = kept.take(work.block);
        submit(queue, buffer);
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

/// Runs one thread with one operation at a time.
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
