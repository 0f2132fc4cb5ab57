//! Timeouts of a queue's operations: a stuck operation keeps its buffer, but needs no room.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{
    Queue,
    queue::{Buffer, Completion},
};

use super::{LIMIT, finish, queue, readable};
use crate::aio::{Freezer, Tracked, eventually, within};
use crate::support::{Space, builder};

const SHORT: Duration = Duration::from_millis(150);

/// Waits until `count` operations were reaped, within the limit.
fn reap(queue: &mut Queue, count: usize) -> Vec<Completion> {
    let (mut ends, end) = (Vec::new(), Instant::now() + LIMIT);
    while ends.len() < count {
        assert!(Instant::now() < end, "{} of {count}", ends.len());
        queue.wait(LIMIT).unwrap();
        ends.extend(std::iter::from_fn(|| queue.reap()));
    }
    ends.sort_by_key(|end| end.token);
    ends
}

#[test]
fn a_stuck_operation_times_out_and_frees_its_buffer_when_it_ends() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 2).unwrap();
    // With the exclusive lock, no write waits for a read.
    queue.image().write_all_at(&[1], 0).unwrap();
    let tracked = Tracked::default();
    let frozen = freezer.freeze();
    let start = Instant::now();
    queue.set_timeout(SHORT * 2);
    queue.write(7, 4096, tracked.bytes(512)).unwrap();
    queue.set_timeout(SHORT);
    queue.read(8, 0, 512, BytesMut::new()).unwrap();
    assert_eq!((queue.in_flight(), queue.room(), queue.given_up()), (2, 0, 0));
    assert!(queue.reap().is_none());

    assert!(queue.wait(None).unwrap(), "the first is over");
    assert!(start.elapsed() >= SHORT);
    let read = queue.reap().unwrap();
    assert_eq!((read.token, &read.buffer), (8, &Buffer::None));
    let error = read.result.unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_timed_out()
            && text.contains("cannot read 512 bytes at offset 0 of image 'rbd/frozen-")
            && text.contains("it did not complete within 150ms; it continues in the background; check"),
        "{text}"
    );
    assert_eq!((queue.in_flight(), queue.room(), queue.given_up()), (1, 1, 1));

    let write = reap(&mut queue, 1).remove(0);
    assert!(start.elapsed() >= SHORT * 2);
    let text = write.result.unwrap_err().to_string();
    assert!(
        write.token == 7 && text.contains("within 300ms; it continues in the background and may still"),
        "{text}"
    );
    assert_eq!((queue.in_flight(), queue.room(), queue.given_up()), (0, 2, 2));
    assert!(queue.next_deadline().is_none() && !queue.wait(None).unwrap() && queue.reap().is_none());
    assert!(!tracked.is_freed());

    // There is room for others, which end. The two are not reported again.
    queue.set_timeout(None);
    queue.read(9, 4096, 512, BytesMut::new()).unwrap();
    drop(frozen);
    let others = finish(&mut queue);
    assert_eq!(others.len(), 1);
    assert_eq!(super::data(&others[0]), [0x77; 512], "the write took effect late");
    eventually("both have ended", || queue.reap().is_none() && queue.given_up() == 0);
    assert!(tracked.is_freed());
}

/// Up to `depth` timed-out operations leave the depth unchanged. More reduce the room until they
/// end.
#[test]
fn stuck_operations_finally_take_room() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 3).unwrap();
    queue.set_timeout(SHORT);
    let tracked: Vec<_> = (0..6).map(|_| Tracked::default()).collect();
    let frozen = freezer.freeze();
    for half in 0..2 {
        assert_eq!((queue.room(), queue.given_up()), (3, half * 3));
        for (n, tracked) in tracked.iter().enumerate().skip(half * 3).take(3) {
            // In all ways in which librbd ends operations.
            let (token, offset, data) = (n as u64, n as u64 * 512, tracked.bytes(512));
            match n % 3 {
                0 => queue.write(token, offset, data).unwrap(),
                1 => queue.compare_and_write(token, offset, data, Bytes::from(vec![1; 512])).unwrap(),
                _ => queue.write_vectored(token, offset, vec![data; 2]).unwrap(),
            }
        }
        let ends = reap(&mut queue, 3);
        assert!(ends.into_iter().all(|end| end.compare.is_none() && end.result.unwrap_err().is_timed_out()));
    }
    assert_eq!((queue.room(), queue.in_flight(), queue.given_up()), (0, 0, 6));
    let refused = queue.read(9, 0, 512, BytesMut::new()).unwrap_err();
    assert!(refused.is_queue_full(), "{refused}");
    assert!(refused.to_string().contains("still has 6 that were given up after their timeout"), "{refused}");
    // A loop that waits for room does not spin.
    let start = Instant::now();
    assert!(!queue.wait(SHORT).unwrap() && start.elapsed() >= SHORT);
    assert!(!tracked.iter().any(Tracked::is_freed));
    drop(frozen);
    while queue.room() == 0 {
        assert!(queue.wait(LIMIT).unwrap() && queue.reap().is_none());
    }
    eventually("all have ended", || {
        assert!(queue.reap().is_none());
        queue.given_up() == 0
    });
    assert!(tracked.iter().all(Tracked::is_freed));
    assert_eq!(queue.room(), 3);
    queue.set_timeout(LIMIT);
    queue.read(9, 0, 512, BytesMut::new()).unwrap();
    assert_eq!(super::data(&finish(&mut queue)[0]), [0x77; 512]);
}

/// Even with a zero timeout, because the queue was not reaped before the operation had ended.
#[test]
fn a_completion_wins_over_a_timeout() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    queue.set_timeout(Duration::ZERO);
    queue.write(1, 0, Bytes::from_static(&[3; 512])).unwrap();
    queue.compare_and_write(2, 512, Bytes::from(vec![0; 512]), Bytes::from(vec![3; 512])).unwrap();
    // Each end is announced.
    let mut told = 0;
    eventually("both have ended", || {
        let mut count = [0; 8];
        if readable(&queue, 5) && rustix::io::read(std::os::fd::AsFd::as_fd(&queue), &mut count).is_ok() {
            told += u64::from_ne_bytes(count);
        }
        told >= 2
    });
    let ends: Vec<_> = std::iter::from_fn(|| queue.reap()).collect();
    assert!(ends.len() == 2 && ends.iter().all(|end| end.result.is_ok()), "{ends:?}");
    assert_eq!(queue.next_deadline(), None);
}

/// For programs with their own wait: the deadline is known, and the descriptor does not announce
/// it.
#[test]
fn a_loop_of_ones_own_knows_when_to_look() {
    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 4).unwrap();
    let frozen = freezer.freeze();
    queue.read(0, 0, 512, BytesMut::new()).unwrap();
    assert_eq!(queue.next_deadline(), None);
    let before = Instant::now();
    for (token, after) in [(1, LIMIT), (2, SHORT), (3, LIMIT)] {
        queue.set_timeout(after);
        queue.read(token, 0, 512, BytesMut::new()).unwrap();
    }
    let first = queue.next_deadline().unwrap();
    assert!(first >= before + SHORT && first < before + LIMIT / 2);
    assert!(!queue.wait(SHORT / 10).unwrap(), "its own timeout comes first");
    assert!(queue.reap().is_none());
    while Instant::now() < first {
        assert!(!readable(&queue, 20));
    }
    assert_eq!(queue.reap().unwrap().token, 2);
    assert!(queue.reap().is_none() && queue.next_deadline().unwrap() >= before + LIMIT);
    drop(frozen);
    assert_eq!(finish(&mut queue).iter().map(|end| end.token).collect::<Vec<_>>(), [0, 1, 3]);
}

/// Closing waits for timed-out operations, or leaves that to a thread.
#[test]
fn the_end_of_a_queue_with_stuck_operations() {
    let freezer = Freezer::get();
    for background in [false, true] {
        let mut image = freezer.image();
        image.set_close_in_background(background);
        image.write_all_at(&[1], 0).unwrap();
        let (pool, name) = (image.ioctx().clone(), image.name().unwrap());
        let mut queue = Queue::new(image, 1).unwrap();
        queue.set_timeout(Duration::from_millis(1));
        let tracked = Tracked::default();
        let frozen = freezer.freeze();
        queue.write(0, 0, tracked.bytes(512)).unwrap();
        assert!(reap(&mut queue, 1)[0].result.is_err());
        let (sender, dropped) = channel();
        let dropper = std::thread::spawn(move || {
            drop(queue);
            sender.send(()).unwrap();
        });
        let soon = dropped.recv_timeout(if background { LIMIT } else { SHORT });
        assert_eq!(soon.is_ok(), background);
        assert!(!tracked.is_freed());
        drop(frozen);
        within(LIMIT, || dropper.join().unwrap());
        eventually("the buffer is freed", || tracked.is_freed());
        eventually("the image is closed", || {
            pool.open(&name).read_only(true).run().unwrap().watchers().unwrap().is_empty()
        });
    }
}

/// librbd's close would not wait for these operations.
#[test]
fn closing_waits_for_operations_that_a_limit_delays() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let slow = builder().option("rbd_qos_iops_limit", "20").option("rbd_qos_iops_burst", "0");
    let ioctx = slow.connect().unwrap().ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let mut queue = Queue::new(ioctx.open("foo").run().unwrap(), 40).unwrap();
    queue.set_timeout(Duration::from_millis(1));
    let start = Instant::now();
    for token in 0..40 {
        queue.read(token, token * 4096, 512, BytesMut::new()).unwrap();
    }
    assert_eq!(reap(&mut queue, 40).len(), 40);
    assert!(queue.given_up() > 0 && queue.in_flight() == 0);
    queue.close().unwrap();
    assert!(start.elapsed() > Duration::from_millis(500), "nothing was held up, or not waited for");
}
