//! The queue for event loops.

mod data;
mod deadlines;
mod ends;
mod events;
mod foreign;
mod reactor;
mod shared;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{
    ErrorKind, Queue,
    queue::{Buffer, Completion},
};

use crate::aio::{Freezer, Tracked, eventually, within};
use crate::support::Space;

const LIMIT: Duration = Duration::from_secs(60);

fn queue(space: &Space, depth: usize) -> Queue {
    space.create("foo", 16 << 20).run().unwrap();
    Queue::new(space.open("foo").run().unwrap(), depth).unwrap()
}

/// Waits for all operations in flight. Returns them in the order of their tokens.
fn finish(queue: &mut Queue) -> Vec<Completion> {
    let mut ends = Vec::new();
    while queue.in_flight() > 0 {
        assert!(queue.wait(LIMIT).unwrap(), "within the time");
        while let Some(end) = queue.reap() {
            ends.push(end);
        }
    }
    ends.sort_by_key(|end| end.token);
    ends
}

fn data(end: &Completion) -> &[u8] {
    match &end.buffer {
        Buffer::BytesMut(data) => data,
        other => panic!("{other:?}"),
    }
}

/// Returns whether the descriptor becomes readable within so many milliseconds.
fn readable(queue: &Queue, millis: i32) -> bool {
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(queue.as_fd(), rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(millis) * 1_000_000 };
    rustix::event::poll(&mut polled, Some(&timeout)).unwrap() == 1
}

#[test]
fn what_is_written_is_read() {
    let space = Space::new();
    let mut queue = queue(&space, 16);
    for n in 0..16_u64 {
        let data = vec![n as u8 + 1; 4096];
        match n % 2 {
            0 => queue.write(n, n * 4096, Bytes::from(data)).unwrap(),
            _ => queue.write(n, n * 4096, BytesMut::from(&data[..])).unwrap(),
        }
    }
    assert_eq!((queue.room(), queue.in_flight()), (0, 16));
    let ends = finish(&mut queue);
    assert_eq!(ends.iter().map(|end| end.token).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    for end in ends {
        end.result.unwrap();
    }
    for n in 0..16 {
        queue.read(n, n * 4096, 4096, BytesMut::new()).unwrap();
    }
    for end in finish(&mut queue) {
        assert_eq!(data(&end), [end.token as u8 + 1; 4096]);
    }
    queue.write_zeroes(1, 0, 4096).unwrap();
    queue.discard(2, 16 << 20, 0).unwrap();
    queue.flush(3).unwrap();
    queue.read(4, 16 << 20, 0, BytesMut::new()).unwrap();
    assert!(finish(&mut queue).into_iter().all(|end| end.result.is_ok()));
    let mut first = [1; 4096];
    queue.image().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 4096]);
    queue.close().unwrap();
}

#[test]
fn discarded_objects_read_as_zeros() {
    let space = Space::new();
    let mut queue = queue(&space, 4);
    let object = 4 << 20;
    for n in 0..4 {
        queue.write(n, n * object, Bytes::from(vec![n as u8 + 1; 8192])).unwrap();
    }
    assert!(finish(&mut queue).into_iter().all(|end| end.result.is_ok()));
    queue.discard(7, object, 2 * object).unwrap();
    let end = finish(&mut queue).remove(0);
    end.result.unwrap();
    assert_eq!((end.token, end.buffer), (7, Buffer::None));
    for n in 0..4 {
        queue.read(n, n * object, 8192, BytesMut::new()).unwrap();
    }
    for end in finish(&mut queue) {
        let wanted = if matches!(end.token, 1 | 2) { 0 } else { end.token as u8 + 1 };
        assert!(data(&end) == [wanted; 8192], "object {}", end.token);
    }
}

#[test]
fn a_flush_ends_after_the_writes_before_it() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 4).unwrap();
    // From here on it has the exclusive lock, so only data operations wait.
    queue.image().write_all_at(&[1], 0).unwrap();
    queue.flush(0).unwrap();
    finish(&mut queue).remove(0).result.unwrap();
    let frozen = freezer.freeze();
    queue.write(1, 0, Bytes::from(vec![1; 4096])).unwrap();
    queue.flush(2).unwrap();
    let mut early = Vec::new();
    while queue.wait(Duration::from_millis(300)).unwrap() {
        early.extend(queue.reap());
    }
    drop(frozen);
    // The write itself may have ended in librbd's cache.
    assert!(early.iter().all(|end| end.token == 1), "{early:?}");
    early.extend(finish(&mut queue));
    assert_eq!(early.len(), 2);
    assert!(early.into_iter().all(|end| end.result.is_ok()));
}

/// Also operations whose future was dropped. They would complete in the queue, which does not know
/// them.
#[test]
fn an_image_with_operations_in_flight_is_refused() {
    let freezer = Freezer::get();
    for kept in [true, false] {
        let image = freezer.image();
        let (sender, made) = channel();
        let frozen = freezer.freeze();
        let read = Some(image.aio().read(0, 4096)).filter(|_| kept);
        // The refusal closes the image, which waits for the read. If a queue is made by mistake, it
        // is leaked.
        let maker = std::thread::spawn(move || {
            sender.send(None).unwrap();
            sender.send(Some(Queue::new(image, 4).map(std::mem::forget))).unwrap();
        });
        assert!(made.recv_timeout(LIMIT).unwrap().is_none());
        let early = made.recv_timeout(Duration::from_millis(500));
        drop(frozen);
        assert!(early.is_err(), "it did not wait: {early:?}");
        let error = made.recv_timeout(LIMIT).unwrap().unwrap().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("it has operations in flight"), "{error}");
        maker.join().unwrap();
        if let Some(read) = read {
            assert_eq!(within(LIMIT, || read.wait()).unwrap(), [0; 4096][..]);
        }
    }
}

#[test]
fn buffers_come_back_and_are_used_again() {
    let space = Space::new();
    let mut queue = queue(&space, 4);
    let mut buffers: Vec<BytesMut> = (0..4).map(|_| BytesMut::with_capacity(4096)).collect();
    let addresses = |buffers: &[BytesMut]| {
        let mut addresses: Vec<usize> = buffers.iter().map(|buffer| buffer.as_ptr() as usize).collect();
        addresses.sort_unstable();
        addresses
    };
    let before = addresses(&buffers);
    for round in 0..50 {
        for buffer in buffers.drain(..) {
            queue.read(0, round * 4096, 4096, buffer).unwrap();
        }
        for end in finish(&mut queue) {
            end.result.unwrap();
            let Buffer::BytesMut(mut buffer) = end.buffer else { panic!() };
            assert_eq!(buffer.len(), 4096);
            buffer.clear();
            buffers.push(buffer);
        }
        assert_eq!(addresses(&buffers), before);
    }
}

#[test]
fn one_too_many_is_refused_with_its_buffer() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    queue.flush(0).unwrap();
    queue.flush(1).unwrap();
    let mut refused = queue.write(2, 0, Bytes::from_static(b"later")).unwrap_err();
    assert!(refused.is_queue_full());
    assert!(refused.to_string().contains("all 2 entries of the queue are in flight"), "{refused}");
    finish(&mut queue);
    queue.write(2, 0, refused.take_buffer()).unwrap();
    finish(&mut queue).remove(0).result.unwrap();
    let mut back = [0; 5];
    queue.image().read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"later");
}

#[test]
fn wrong_requests_are_refused() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    let size = 16 << 20;
    let refused = queue.read(0, size, 1, BytesMut::new()).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::OutOfRange { offset: size, len: 1, size });
    assert!(!refused.is_queue_full());
    assert!(queue.discard(0, u64::MAX, 2).is_err());
    let error = queue.image().aio().read(0, 1).wait().unwrap_err();
    assert!(error.to_string().contains("completions go to a Queue"), "{error}");
    drop(queue);
    for depth in [0, 65537] {
        let error = Queue::new(space.open("foo").run().unwrap(), depth).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn a_refusal_of_librbd_returns_the_buffer() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let mut queue = Queue::new(space.open("foo").read_only(true).run().unwrap(), 1).unwrap();
    queue.write(7, 512, Bytes::from_static(b"no")).unwrap();
    let end = finish(&mut queue).remove(0);
    let error = end.result.unwrap_err();
    assert!(error.is_read_only() && error.to_string().contains("write 2 bytes at offset 512"), "{error}");
    assert_eq!((end.token, end.buffer), (7, Buffer::Bytes(Bytes::from_static(b"no"))));
}

/// Like an event loop: the descriptor becomes readable, and is no longer readable when all
/// operations are reaped.
#[test]
fn the_descriptor_announces_ends() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 8).unwrap();
    assert!(!readable(&queue, 0) && !queue.wait(None).unwrap());
    let frozen = freezer.freeze();
    for n in 0..8 {
        queue.read(n, n * 4096, 4096, BytesMut::new()).unwrap();
    }
    assert!(!readable(&queue, 100) && queue.reap().is_none());
    let start = Instant::now();
    assert!(!queue.wait(Duration::from_millis(100)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(100));
    drop(frozen);
    assert!(readable(&queue, 900) || queue.wait(LIMIT).unwrap());
    assert_eq!(finish(&mut queue).len(), 8);
    assert!(!readable(&queue, 0));
    assert!(queue.as_raw_fd() >= 0);
}

#[test]
fn dropping_waits_for_operations_in_flight() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 8).unwrap();
    let tracked = Tracked::default();
    let frozen = freezer.freeze();
    for n in 0..4 {
        queue.write(n, n * 4096, tracked.bytes(4096)).unwrap();
    }
    let dropper = std::thread::spawn(move || drop(queue));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!dropper.is_finished() && !tracked.is_freed());
    drop(frozen);
    within(LIMIT, || dropper.join().unwrap());
    assert!(tracked.is_freed());
}

/// The last owner of a queue is a buffer that is dropped on librbd's thread.
#[test]
fn dropped_on_librbds_thread() {
    struct Owner(Option<Queue>, std::sync::mpsc::Sender<()>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &[5; 512]
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            drop(self.0.take());
            self.1.send(()).unwrap();
        }
    }
    let freezer = Freezer::get();
    let image = freezer.image();
    let queued = freezer.image();
    let name = queued.name().unwrap();
    let mut queue = Queue::new(queued, 8).unwrap();
    let (sender, dropped) = channel();
    let frozen = freezer.freeze();
    queue.read(0, 0, 4096, BytesMut::new()).unwrap();
    drop(image.aio().write(0, Bytes::from_owner(Owner(Some(queue), sender))));
    drop(frozen);
    dropped.recv_timeout(LIMIT).expect("it does not hang");
    let other = freezer.connect().ioctx("rbd").unwrap().open(&name).read_only(true).run().unwrap();
    eventually("the image is closed", || other.watchers().unwrap().is_empty());
}

#[test]
fn a_queue_moves_between_threads() {
    let space = Space::new();
    let mut queue = queue(&space, 32);
    for round in 0..4 {
        queue = std::thread::spawn(move || {
            for n in 0..32 {
                queue.write(n, n * 512, Bytes::from(vec![round + 1; 512])).unwrap();
            }
            queue
        })
        .join()
        .unwrap();
        assert!(finish(&mut queue).into_iter().all(|end| end.result.is_ok()));
    }
}
