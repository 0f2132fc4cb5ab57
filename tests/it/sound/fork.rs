//! Forks: a child has the memory of the process, but none of Ceph's threads.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rbd::{Cluster, Image, Queue};

use super::test;
use crate::support::{Space, alone, builder};

/// Runs `child` in a fork of this process. Returns false unless it succeeds within 20 s.
fn forked(child: impl FnOnce()) -> bool {
    // SAFETY: the child only makes drops and calls that must work in a fork, and ends without
    // cleaning up.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    assert!(pid > 0);
    let end = Instant::now() + Duration::from_secs(20);
    let mut status = -1;
    while Instant::now() < end {
        // SAFETY: our child; the out pointer lives through the call.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == pid {
            return status == 0;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: our child, which was not waited for yet.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, 0);
    }
    false
}

#[test]
fn a_fork_drops_what_it_inherited_and_calls_are_refused() {
    if !alone(test!("fork::a_fork_drops_what_it_inherited_and_calls_are_refused")) {
        return;
    }
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    space.create("bar", 8 << 20).run().unwrap();
    let connect = || {
        let cluster: Cluster = builder().connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        (cluster, pool)
    };
    let (cluster, pool) = connect();
    let image: Image = pool.open("foo").run().unwrap();
    image.write_all_at(&[1; 512], 0).unwrap();
    let mut background = pool.open("foo").read_only(true).run().unwrap();
    background.set_close_in_background(true);
    let shared = std::sync::Arc::new(pool.open("foo").run().unwrap());
    let watch = shared.watch_updates(|| {}).unwrap();
    let log = cluster.watch_log(rbd::cluster::LogLevel::Error, |_| {}).unwrap();
    let mut queue = Queue::new(pool.open("bar").run().unwrap(), 4).unwrap();
    queue.read(1, 0, 4096, bytes::BytesMut::new()).unwrap();
    let read = image.aio().read(0, 512);

    let mut everything = Some((read, queue, watch, shared, background, log, image, pool, cluster));
    assert!(
        forked(|| {
            let (read, mut queue, watch, shared, background, log, image, pool, cluster) =
                everything.take().unwrap();
            let error = image.features().unwrap_err().to_string();
            assert!(error.contains("fork"), "{error}");
            assert!(pool.list().is_err() && cluster.pools().list().is_err() && image.flush().is_err());
            for error in [
                image.write_at(&[1; 512], 0).unwrap_err(),
                image.read_at(&mut [0; 512], 0).unwrap_err(),
                image.discard(0, 1 << 16).unwrap_err(),
                image.write_zeroes(0, 512).unwrap_err(),
                image.write_same(0, 512, &[1; 512]).unwrap_err(),
                image.compare_and_write(0, &[1; 512], &[2; 512]).unwrap_err(),
                queue.wait(None).unwrap_err(),
                queue.close().unwrap_err(),
            ] {
                let error = error.to_string();
                assert!(error.contains("fork"), "{error}");
            }
            drop(read);
            drop(watch);
            drop(log);
            drop(shared);
            drop(background);
            drop(image);
            drop(pool);
            drop(cluster);
        }),
        "dropping hangs"
    );
    assert!(forked(|| assert!(everything.take().unwrap().6.close().is_err())), "closing hangs");
    // The parent still works.
    let (read, mut queue, _watch, shared, _background, _log, image, _pool, _cluster) =
        everything.take().unwrap();
    assert_eq!(read.wait().unwrap(), [1; 512][..]);
    assert!(queue.wait(Duration::from_secs(20)).unwrap());
    assert_eq!(queue.reap().unwrap().token, 1);
    image.write_all_at(&[2; 512], 0).unwrap();
    shared.flush().unwrap();
}

/// The thread that queries the images is not in the child.
#[test]
fn a_fork_does_not_wait_for_an_inherited_survey() {
    if !alone(test!("fork::a_fork_does_not_wait_for_an_inherited_survey")) {
        return;
    }
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let cluster: Cluster = builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let mut surveys = Some((pool.survey().run().unwrap(), pool.survey().start().unwrap()));
    assert!(
        forked(|| {
            let (mut images, mut stream) = surveys.take().unwrap();
            let error = images.next().unwrap().unwrap_err().to_string();
            assert!(error.contains("fork"), "{error}");
            assert!(images.next().is_none());
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(Some(Err(error))) = pin!(stream.next()).poll(&mut context) else {
                panic!("waits for the stream");
            };
            assert!(error.to_string().contains("fork"), "{error}");
            drop((images, stream));
        }),
        "the child hangs or fails"
    );
    let (images, _stream) = surveys.take().unwrap();
    assert_eq!(images.map(|image| image.unwrap().name).collect::<Vec<_>>(), ["foo"]);
}
