//! I/O on memory that no buffer owns.

use std::time::Duration;

use bytes::BytesMut;
use rbd::{ErrorKind, Queue, queue::Buffer};

use super::{LIMIT, data, finish, queue};
use crate::aio::Freezer;
use crate::support::Space;

/// Memory like that of a virtual machine: it lives until the queue is closed, and is not used while
/// an operation has it.
struct Guest(Vec<u8>);

impl Guest {
    fn part(&mut self, start: usize, len: usize) -> *mut [u8] {
        &raw mut self.0[start..start + len]
    }
}

#[test]
fn data_moves_between_memory_and_image() {
    let space = Space::new();
    let mut guest = Guest((0..64 << 10).map(|n| (n / 512) as u8).collect());
    let mut queue = queue(&space, 4);
    let parts = [(512, 512), (8192, 1024), (0, 512)].map(|(start, len)| guest.part(start, len).cast_const());
    // SAFETY: the memory lives until the queue is closed, and is not used before the operation is
    // reaped.
    unsafe { queue.write_raw(1, 4096, &parts) }.unwrap();
    let end = finish(&mut queue).remove(0);
    assert_eq!((end.token, end.buffer, end.result.is_ok()), (1, Buffer::None, true));
    queue.read(2, 4096, 2048, BytesMut::new()).unwrap();
    let wanted: Vec<u8> = [1, 16, 17, 0].into_iter().flat_map(|byte| [byte; 512]).collect();
    assert_eq!(data(&finish(&mut queue)[0]), wanted);

    let parts = [(40 << 10, 1024), (32 << 10, 1024)].map(|(start, len)| guest.part(start, len));
    // SAFETY: as above.
    unsafe { queue.read_raw(3, 4096, &parts) }.unwrap();
    let end = finish(&mut queue).remove(0);
    assert_eq!((end.token, end.buffer, end.result.is_ok()), (3, Buffer::None, true));
    queue.close().unwrap();
    assert_eq!(guest.0[40 << 10..41 << 10], wanted[..1024]);
    assert_eq!(guest.0[32 << 10..33 << 10], wanted[1024..]);
    let untouched = |at: usize| guest.0[at] == (at / 512) as u8;
    assert!([0, (32 << 10) - 1, 33 << 10, (40 << 10) - 1, 41 << 10].into_iter().all(untouched));
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let space = Space::new();
    let mut guest = Guest(vec![0; 1024]);
    let mut queue = queue(&space, 1);
    let size = queue.image().size().unwrap();
    let part = guest.part(0, 1024);
    // SAFETY: the memory outlives the queue, and only the last request is submitted.
    unsafe {
        let refused = queue.read_raw(0, size - 512, &[part]).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::OutOfRange { offset: size - 512, len: 1024, size });
        let refused = queue.write_raw(0, 0, &[]).unwrap_err();
        assert!(refused.to_string().contains("the list of buffers is empty"), "{refused}");
        let huge = std::ptr::slice_from_raw_parts_mut(part.cast::<u8>(), 1 << 62);
        let refused = queue.read_raw(0, 0, &[huge; 5]).unwrap_err();
        assert!(refused.to_string().contains("1 GiB"), "{refused}");
        queue.read_raw(0, 0, &[part]).unwrap();
        assert!(queue.read_raw(0, 0, &[part]).unwrap_err().is_queue_full());
    }
    queue.close().unwrap();
}

/// It ends only when librbd no longer uses the memory.
#[test]
fn it_is_not_given_up_on() {
    let freezer = Freezer::get();
    let mut guest = Guest(vec![9; 512]);
    let mut queue = Queue::new(freezer.image(), 2).unwrap();
    queue.set_timeout(Duration::from_millis(1));
    let frozen = freezer.freeze();
    let part = guest.part(0, 512);
    // SAFETY: the memory outlives the queue.
    unsafe { queue.read_raw(0, 0, &[part]) }.unwrap();
    queue.read(1, 0, 512, BytesMut::new()).unwrap();
    assert!(queue.wait(LIMIT).unwrap());
    assert_eq!(queue.reap().unwrap().token, 1);
    assert!(queue.next_deadline().is_none() || queue.reap().is_none());
    assert!(!queue.wait(Duration::from_millis(50)).unwrap() && queue.reap().is_none());
    drop(frozen);
    let end = finish(&mut queue).remove(0);
    assert!(end.token == 0 && end.result.is_ok());
    queue.close().unwrap();
    assert_eq!(guest.0, [0; 512]);
}
