//! Images that are closed while threads of librbd still use them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbd::Features;
use rustix::process::{Pid, setpriority_process};

use super::test;
use crate::support::Space;
use crate::support::child::{is_child, run_child, said};

/// The thread of librbd that opens an image touches it once more after it has reported the opening.
/// A read-only image is closed without a request to the cluster, so librbd can free it first. Many
/// busy threads delay that thread, and freed memory is overwritten, which makes its lock invalid.
#[test]
fn images_are_closed_at_once() {
    let test = test!("closing::images_are_closed_at_once");
    if !is_child(test) {
        let variables = [("MALLOC_PERTURB_", "165"), ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")];
        let output = run_child(test, &variables);
        assert!(output.status.success(), "{}\n{}", output.status, said(&output));
        return;
    }
    let space = Space::new();
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    space.create("parent", 1 << 20).features(features).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.snapshots().protect("s").unwrap();
    parent.close().unwrap();
    space.clone_image("parent", "s", "clone").features(features).run().unwrap();

    // Without a limit, calls run on the calling thread.
    let cluster = crate::support::builder().call_timeout(None).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let stop = AtomicBool::new(false);
    let rounds: usize = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let openers: Vec<_> = (0..3)
            .map(|number| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while Instant::now() < end {
                        let open = pool.open(if number == 0 { "clone" } else { "parent" });
                        let open = if number == 0 { open } else { open.snapshot("s") }.read_only(true);
                        if number == 2 {
                            open.start().wait().unwrap().start_close().wait().unwrap();
                        } else {
                            open.run().unwrap().close().unwrap();
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let rounds: Vec<_> = openers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        rounds.into_iter().map(Result::unwrap).sum()
    });
    assert!(rounds > 0);
    println!("{rounds} rounds");
}

/// librbd reports a change of the header on a thread, and answers the change's notification on that
/// thread afterwards. It does not wait for the answer when it closes the image. Here the thread
/// hardly runs, and freed memory is overwritten.
#[test]
fn images_are_closed_after_a_change() {
    let test = test!("closing::images_are_closed_after_a_change");
    if !is_child(test) {
        let variables = [("MALLOC_PERTURB_", "165"), ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")];
        let output = run_child(test, &variables);
        assert!(output.status.success(), "{}\n{}", output.status, said(&output));
        return;
    }
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let changed = space.open("foo").run().unwrap();
    delay_reports(1);
    let cluster = crate::support::builder().call_timeout(None).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    // The thread starts with the first image that is watched.
    let first = pool.open("foo").run().unwrap();
    delay_reports(2);
    let end = Instant::now() + Duration::from_secs(5);
    let over = || Instant::now() >= end;
    let rounds: usize = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over() {
                    std::hint::spin_loop();
                }
            });
        }
        scope.spawn(|| {
            let mut size = 2 << 20;
            while !over() {
                size += 1 << 20;
                changed.resize(size).run().unwrap();
            }
        });
        let closers: Vec<_> = [false, true]
            .map(|starts| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !over() {
                        let image = pool.open("foo").run().unwrap();
                        thread::sleep(Duration::from_millis(rounds % 8));
                        if starts {
                            image.start_close().wait().unwrap();
                        } else {
                            image.close().unwrap();
                        }
                        rounds += 1;
                    }
                    rounds as usize
                })
            })
            .into();
        closers.into_iter().map(|closer| closer.join().unwrap()).sum()
    });
    first.close().unwrap();
    assert!(rounds > 0);
    println!("{rounds} rounds");
}

/// Gives the lowest priority to the threads of librbd that report changes, one for each connection.
/// A new thread has its name a moment after its start.
fn delay_reports(threads: usize) {
    let mut delayed = 0;
    let end = Instant::now() + Duration::from_secs(60);
    while delayed < threads && Instant::now() < end {
        delayed = 0;
        for task in fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap) {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.trim() == "tp_librbd" {
                let thread = task.file_name().to_str().and_then(|number| number.parse().ok());
                setpriority_process(thread.and_then(Pid::from_raw), 19).unwrap();
                delayed += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(delayed, threads, "threads that report changes");
}
