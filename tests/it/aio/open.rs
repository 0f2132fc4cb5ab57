//! Asynchronous opening, completed or abandoned.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rbd::{ErrorKind, ObjectKind};

use super::wakers::once;
use super::{Freezer, eventually, within};
use crate::support::{Space, unique};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn by_name_by_id_and_read_only() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").start().wait().unwrap();
    image.aio().write(0, vec![5; 512]).wait().unwrap();
    let id = image.id().unwrap();
    let by_id = space.open_by_id(&id).start().wait().unwrap();
    assert_eq!(by_id.aio().read(0, 512).wait().unwrap(), [5; 512][..]);
    for read_only in [space.open("foo").read_only(true), space.open_by_id(&id).read_only(true)] {
        let read_only = read_only.start().wait().unwrap();
        assert!(read_only.is_read_only());
        assert!(read_only.write_all_at(&[1], 0).unwrap_err().is_read_only());
    }
    by_id.start_close().wait().unwrap();
    assert_eq!(image.watchers().unwrap().len(), 1);
    image.start_close().wait().unwrap();
    assert!(space.open("foo").read_only(true).run().unwrap().watchers().unwrap().is_empty());
}

#[test]
fn at_a_snapshot() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&[5; 512], 0).unwrap();
    image.snapshots().create("s").run().unwrap();
    image.write_all_at(&[6; 512], 0).unwrap();
    image.resize(2 << 20).run().unwrap();
    let id = image.id().unwrap();
    for open in [space.open("foo").snapshot("s"), space.open_by_id(&id).snapshot("s")] {
        let then = open.start().wait().unwrap();
        assert_eq!((then.is_read_only(), then.snapshot()), (true, Some("s")));
        assert_eq!(then.aio().read(0, 512).wait().unwrap(), [5; 512][..]);
        let error = then.aio().read(1 << 20, 512).wait().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::OutOfRange { offset: 1 << 20, len: 512, size: 1 << 20 });
        assert!(then.aio().write(0, vec![7; 512]).wait().unwrap_err().is_read_only());
        then.start_close().wait().unwrap();
    }
    assert_eq!(image.aio().read(0, 512).wait().unwrap(), [6; 512][..]);
}

#[test]
fn what_is_missing_is_told_apart() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let missing = |name: &str, snapshot: Option<&str>| {
        let open = space.open(name);
        let open = if let Some(snapshot) = snapshot { open.snapshot(snapshot) } else { open };
        let error = open.start().wait().unwrap_err();
        let ErrorKind::NotFound { what } = error.kind() else { panic!("{error}") };
        *what
    };
    assert_eq!(missing("bar", None), ObjectKind::Image);
    assert_eq!(missing("bar", Some("s")), ObjectKind::Image);
    assert_eq!(missing("foo", Some("s")), ObjectKind::Snapshot);
    let error = space.open("").start().wait().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    let error = space.open("a\0b").start().wait().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_missing_namespace_is_named() {
    let space = Space::new();
    let missing = space.with_namespace("nowhere").unwrap();
    for open in
        [missing.open("foo"), missing.open("foo").snapshot("s"), missing.open_by_id("1234").read_only(true)]
    {
        let error = open.clone().start().wait().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Namespace }, "{error}");
        let blocking = open.run().unwrap_err();
        assert_eq!(error.to_string(), blocking.to_string());
    }
}

/// Returns how often this thread has slept.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn no_poll_sleeps_while_a_failure_is_looked_into() {
    let space = Space::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let fewest = (0..20).map(|_| {
        let mut opening = space.open("foo").start();
        let mut slept = 0;
        let error = runtime.block_on(std::future::poll_fn(|context| {
            let before = sleeps();
            let outcome = std::pin::Pin::new(&mut opening).poll(context);
            slept += sleeps() - before;
            outcome
        }));
        let error = error.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        slept
    });
    // The fewest of several rounds, because other threads sometimes hold a lock.
    assert_eq!(fewest.min(), Some(0));
}

/// After a change of the header, librbd reads it again before it returns the size. Neither taking
/// the image nor using it may wait for that.
#[test]
fn an_opening_that_has_ended_gives_the_image_at_once() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let (name, pool) = (image.name().unwrap(), freezer.connect().ioctx("rbd").unwrap());
    image.write_all_at(&[7; 4096], 0).unwrap();
    image.flush().unwrap();
    let mut opening = pool.open(&name).start();
    let (sender, woken) = channel();
    let waker = once(move || sender.send(()).unwrap());
    assert!(Pin::new(&mut opening).poll(&mut Context::from_waker(&waker)).is_pending());
    woken.recv_timeout(LIMIT).unwrap();
    image.snapshots().create("changed").run().unwrap();
    let frozen = freezer.freeze();
    // On another thread, so that a poll that blocks fails the test instead of hanging it.
    let (sender, polled) = channel();
    std::thread::spawn(move || {
        let polled = Pin::new(&mut opening).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(opened) = polled else { panic!("it has woken somebody") };
        let opened = opened.unwrap();
        let read = opened.aio().read(0, 4096);
        sender.send((opened, read)).unwrap();
    });
    let taken = polled.recv_timeout(Duration::from_secs(10));
    drop(frozen);
    let (opened, read) = taken.expect("nothing waits");
    assert_eq!(within(LIMIT, || read.wait()).unwrap(), [7; 4096][..]);
    within(LIMIT, || opened.start_close().wait()).unwrap();
    within(LIMIT, || image.close()).unwrap();
}

/// In another binding this hangs the process forever.
#[test]
fn an_opening_that_is_dropped_closes_what_it_opens() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let watchers = || space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len();
    for wait in [0, 1, 5, 20, 100] {
        // A separate connection, whose last reference the opening has.
        let cluster = crate::support::builder().connect().unwrap();
        let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let opening = ioctx.open("foo").start();
        drop((cluster, ioctx));
        std::thread::sleep(Duration::from_millis(wait));
        drop(opening);
        eventually("it is closed", || watchers() == 0);
    }
}

#[test]
fn a_stuck_opening_can_be_given_up_on() {
    let freezer = Freezer::get();
    let pool = freezer.connect().ioctx("rbd").unwrap();
    let name = unique("frozen");
    pool.create(&name, 1 << 20).run().unwrap();
    let frozen = freezer.freeze();
    let start = Instant::now();
    let error = pool.open(&name).start().timeout(Duration::from_millis(200)).wait().unwrap_err();
    assert!(
        error.is_timed_out() && start.elapsed() < Duration::from_secs(5),
        "{error} after {:?}",
        start.elapsed()
    );
    drop(pool.open(&name).start());
    drop(frozen);
    let watchers = || pool.open(&name).read_only(true).run().unwrap().watchers().unwrap().len();
    std::thread::sleep(Duration::from_millis(300));
    eventually("both are closed", || watchers() == 0);
    within(LIMIT, move || pool.open(&name).start().wait().unwrap().start_close().wait()).unwrap();
}
