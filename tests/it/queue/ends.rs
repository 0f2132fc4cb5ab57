//! Difficult ends of operations and of the queue.

use std::panic::resume_unwind;

use super::*;

/// The owner of a buffer, with a closure that runs when it is freed.
struct Owner<F: FnMut()>(Vec<u8>, F);

impl<F: FnMut()> AsRef<[u8]> for Owner<F> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<F: FnMut()> Drop for Owner<F> {
    fn drop(&mut self) {
        self.1();
    }
}

/// A panic while the queue is dropped must not free memory that librbd still reads.
#[test]
fn a_buffer_that_panics_when_it_is_dropped() {
    let freezer = Freezer::get();
    for close in [false, true] {
        let mut queue = Queue::new(freezer.image(), 4).unwrap();
        let tracked = Tracked::default();
        // From here on it has the exclusive lock, so only data operations wait.
        queue.image().write_all_at(&[1], 0).unwrap();
        let frozen = freezer.freeze();
        queue.write_vectored(0, 0, vec![tracked.bytes(4096)]).unwrap();
        for token in 1..3 {
            // Ends at once, because it is empty.
            let owner = Owner(vec![], || resume_unwind(Box::new("a buffer's owner that panics")));
            queue.write(token, 0, Bytes::from_owner(owner)).unwrap();
        }
        assert!(queue.wait(LIMIT).unwrap());
        let (sender, gone) = channel();
        let dropper = std::thread::spawn(move || {
            if close {
                queue.close().unwrap();
            } else {
                drop(queue);
            }
            sender.send(()).unwrap();
        });
        assert!(gone.recv_timeout(Duration::from_millis(300)).is_err(), "it waits for the write");
        assert!(!dropper.is_finished() && !tracked.is_freed());
        drop(frozen);
        gone.recv_timeout(LIMIT).unwrap();
        dropper.join().unwrap();
        assert!(tracked.is_freed());
    }
}

/// Nobody has reaped the results. A failed change or flush is told nevertheless.
#[test]
fn closing_returns_the_first_failure_that_was_not_reaped() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    for completed in [false, true] {
        let mut queue = Queue::new(space.open("foo").read_only(true).run().unwrap(), 4).unwrap();
        queue.read(0, 0, 512, BytesMut::new()).unwrap();
        queue.write(1, 4096, Bytes::from_static(&[1; 512])).unwrap();
        queue.discard(2, 0, 1 << 20).unwrap();
        if completed {
            assert!(queue.wait(LIMIT).unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
        let error = queue.close().unwrap_err();
        assert!(error.is_read_only(), "{error}");
    }
    let mut queue = Queue::new(space.open("foo").read_only(true).run().unwrap(), 4).unwrap();
    queue.write(1, 0, Bytes::from_static(&[1; 512])).unwrap();
    let ended = loop {
        assert!(queue.wait(LIMIT).unwrap());
        if let Some(ended) = queue.reap() {
            break ended;
        }
    };
    assert!(ended.result.is_err(), "it is told once");
    queue.close().unwrap();
}

/// Their timeout did not say whether they were done. The connection's OSD timeout ends them.
#[test]
fn closing_tells_whether_what_was_given_up_was_done() {
    let freezer = Freezer::get();
    let name = freezer.image().name().unwrap();
    let open = |timeout: Option<Duration>| {
        let builder = rbd::Cluster::builder().ignore_environment(true).conf_file(freezer.conf());
        let pool = builder.osd_timeout(timeout).connect().unwrap().ioctx("rbd").unwrap();
        let image = pool.open(&name).run().unwrap();
        // From here on it has the exclusive lock, so only data operations wait.
        image.write_all_at(&[1], 0).unwrap();
        Queue::new(image, 4).unwrap()
    };
    // (the write is reaped as given up, its end as well)
    for (told, ended) in [(false, false), (true, false), (true, true)] {
        let what = format!("told: {told}, ended: {ended}");
        let mut queue = open(Some(Duration::from_secs(4)));
        queue.set_timeout(Duration::from_millis(1));
        let frozen = freezer.freeze();
        queue.write(1, 4096, Bytes::from_static(&[3; 512])).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if told {
            assert!(queue.reap().unwrap().result.unwrap_err().is_timed_out());
        }
        if ended {
            eventually("it has failed", || queue.reap().is_none() && queue.given_up() == 0);
        }
        let closer = std::thread::spawn(move || queue.close());
        std::thread::sleep(Duration::from_millis(if ended { 0 } else { 5000 }));
        drop(frozen);
        let error = closer.join().unwrap().expect_err(&what);
        assert!(error.is_timed_out(), "{what}: {error}");
        assert!(error.to_string().contains("cannot write 512 bytes at offset 4096"), "{what}: {error}");
    }
    for told in [false, true] {
        let mut queue = open(None);
        queue.set_timeout(Duration::from_millis(1));
        let frozen = freezer.freeze();
        let written = vec![5 + u8::from(told); 512];
        queue.write(1, 8192, Bytes::from(written.clone())).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if told {
            assert!(queue.reap().unwrap().result.unwrap_err().is_timed_out());
        }
        drop(frozen);
        queue.close().expect("it was done late");
        let image = freezer.connect().ioctx("rbd").unwrap().open(&name).run().unwrap();
        let mut read = vec![0; 512];
        image.read_exact_at(&mut read, 8192).unwrap();
        assert_eq!(read, written);
    }
}

/// What is longer than 1 GiB is done in parts, and is not continued after it was given up.
#[test]
fn closing_tells_of_a_discard_that_was_done_in_part() {
    let freezer = Freezer::get();
    let pool = freezer.connect().ioctx("rbd").unwrap();
    let name = crate::support::unique("frozen");
    pool.create(&name, 4 << 30).run().unwrap();
    for ended in [true, false] {
        let image = pool.open(&name).run().unwrap();
        // The OSD has objects of the first part. Without one, librbd ends the part at once.
        image.write_all_at(&[1; 512], 0).unwrap();
        image.write_all_at(&[1; 512], 3 << 30).unwrap();
        let mut queue = Queue::new(image, 4).unwrap();
        queue.set_timeout(Duration::from_millis(1));
        let frozen = freezer.freeze();
        queue.discard(1, 0, 4 << 30).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(queue.reap().unwrap().result.unwrap_err().is_timed_out());
        drop(frozen);
        if ended {
            eventually("its part has ended", || queue.reap().is_none() && queue.given_up() == 0);
        }
        let closed = queue.close();
        let mut read = [0; 512];
        pool.open(&name).run().unwrap().read_exact_at(&mut read, 3 << 30).unwrap();
        let error = closed.unwrap_err();
        assert!(error.to_string().contains("after a part of it was done"), "{error}");
        assert_eq!(read, [1; 512]);
    }
}

/// As for an image: if a drop must not wait, a separate thread does.
#[test]
fn in_the_background_a_drop_waits_for_nothing() {
    let freezer = Freezer::get();
    let mut image = freezer.image();
    image.set_close_in_background(true);
    image.write_all_at(&[1], 0).unwrap();
    let pool = image.ioctx().clone();
    let name = image.name().unwrap();
    let mut queue = Queue::new(image, 1).unwrap();
    let (tracked, frozen) = (Tracked::default(), freezer.freeze());
    queue.write(0, 0, tracked.bytes(4096)).unwrap();
    let (sender, dropped) = channel();
    let dropper = std::thread::spawn(move || {
        drop(queue);
        sender.send(()).unwrap();
    });
    let soon = dropped.recv_timeout(Duration::from_secs(5));
    let freed = tracked.is_freed();
    drop(frozen);
    dropper.join().unwrap();
    assert!(soon.is_ok() && !freed, "{soon:?}");
    eventually("the buffer is freed", || tracked.is_freed());
    eventually("the image is closed", || {
        pool.open(&name).read_only(true).run().unwrap().watchers().unwrap().is_empty()
    });
}

/// A program with edge-triggered epoll sees each announcement once, and gets all completions if it
/// reaps then. An announcement may come without a completion (it was reaped before: seen with
/// librbd 1.18), but no completion comes without an announcement.
#[test]
fn an_end_is_there_when_it_was_announced() {
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 8).unwrap();
    let edge = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&edge, &queue, EventData::new_u64(0), EventFlags::IN | EventFlags::ET).unwrap();
    let announced = || {
        let mut events = Vec::with_capacity(1);
        let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        epoll::wait(&edge, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).unwrap() == 1
    };
    let ends = |queue: &mut Queue, token: u64, looks_again: bool| {
        queue.read(token, 0, 0, BytesMut::new()).unwrap();
        let end = loop {
            assert!(announced(), "it has ended, and nothing says so");
            if let Some(end) = queue.reap() {
                break end;
            }
        };
        assert_eq!(end.token, token);
        assert!(!looks_again || queue.reap().is_none());
    };
    // Nothing else is in flight.
    for token in 0..4 {
        ends(&mut queue, token, token % 2 == 0);
    }
    let frozen = freezer.freeze();
    queue.read(100, 0, 4096, BytesMut::new()).unwrap();
    for token in 0..4 {
        ends(&mut queue, token, token % 2 == 0);
    }
    drop(frozen);
    assert_eq!(finish(&mut queue)[0].token, 100);
}

/// `wait` returns true as long as there is something to reap.
#[test]
fn two_waits_for_the_same_end_return() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    queue.flush(0).unwrap();
    assert!(queue.wait(LIMIT).unwrap());
    let start = Instant::now();
    assert!(queue.wait(LIMIT).unwrap() && start.elapsed() < LIMIT / 2);
    assert_eq!(finish(&mut queue).len(), 1);
}

/// librbd puts an operation into its queue before it announces it, so it may be reaped in between.
#[test]
fn a_late_announcement_does_not_keep_the_loop_busy() {
    let space = Space::new();
    let mut queue = queue(&space, 8);
    queue.flush(0).unwrap();
    finish(&mut queue);
    rustix::io::write(queue.as_fd(), &1_u64.to_ne_bytes()).unwrap();
    assert!(readable(&queue, 0) && queue.reap().is_none());
    assert!(!readable(&queue, 0), "nothing is in flight, and nobody else takes it back");
}

/// There it would wait for itself, or delay operations for which others wait.
#[test]
fn no_waiting_on_librbds_thread() {
    let space = Space::new();
    space.create("other", 8 << 20).run().unwrap();
    let other = space.open("other").run().unwrap();
    let freezer = Freezer::get();
    let image = freezer.image();
    let name = image.name().unwrap();
    let mut queue = Queue::new(image, 4).unwrap();
    let tracked = Tracked::default();
    let frozen = freezer.freeze();
    queue.write(0, 0, tracked.bytes(512)).unwrap();
    let (sender, done) = channel();
    let (here, queue) = (std::thread::current().id(), Arc::new(Mutex::new(Some(queue))));
    let (waited, closed) = loop {
        let (sender, queue) = (sender.clone(), queue.clone());
        let on_librbds_thread = move || {
            // On a busy machine, the write may end before its future is dropped here.
            let taken = queue.lock().unwrap().take_if(|_| std::thread::current().id() != here);
            let ended = taken.map(|mut queue| (queue.wait(None), queue.close()));
            sender.send(ended).unwrap();
        };
        drop(other.aio().write(0, Bytes::from_owner(Owner(vec![1; 4 << 20], on_librbds_thread))));
        if let Some(ended) = done.recv_timeout(LIMIT).expect("neither blocks") {
            break ended;
        }
    };
    let error = waited.unwrap_err();
    assert!(error.to_string().contains("wait on another thread"), "{error}");
    let error = closed.unwrap_err();
    assert!(error.to_string().contains("nobody hears whether that succeeds"), "{error}");
    assert!(!tracked.is_freed());
    drop(frozen);
    eventually("the write has ended", || tracked.is_freed());
    let again = freezer.connect().ioctx("rbd").unwrap().open(&name).read_only(true).run().unwrap();
    eventually("the image is closed", || again.watchers().unwrap().is_empty());
}

/// A callback reports its end, so the queue and its descriptor must outlive the callback.
#[test]
fn a_compare_and_write_in_flight_at_the_end() {
    let freezer = Freezer::get();
    for close in [false, true] {
        let mut queue = Queue::new(freezer.image(), 4).unwrap();
        let tracked = [Tracked::default(), Tracked::default()];
        queue.image().write_all_at(&[0x77; 4096], 0).unwrap();
        let frozen = freezer.freeze();
        let bytes = |which: usize| tracked[which].bytes(512);
        queue.compare_and_write(0, 0, bytes(0), Bytes::from(vec![1; 512])).unwrap();
        queue.compare_and_write(1, 512, Bytes::from(vec![1; 512]), bytes(1)).unwrap();
        queue.read(2, 512, 512, BytesMut::new()).unwrap();
        assert!(!queue.wait(Duration::from_millis(100)).unwrap() && queue.reap().is_none());
        let dropper = std::thread::spawn(move || if close { queue.close().unwrap() } else { drop(queue) });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!dropper.is_finished() && !tracked.iter().any(Tracked::is_freed));
        drop(frozen);
        within(LIMIT, || dropper.join().unwrap());
        assert!(tracked.iter().all(Tracked::is_freed));
    }
}
