//! Handles created and dropped in any order: nothing hangs, and nothing is used after it was freed.

use std::ops::ControlFlow;
use std::sync::Mutex;

use rbd::{Cluster, Features};

use crate::support::{Space, alone, builder};

const MIB: u64 = 1 << 20;

#[test]
fn children_keep_their_parents() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let cluster = builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let ioctx = pool.with_namespace(space.namespace()).unwrap();
    let image = ioctx.open("foo").run().unwrap();
    drop(cluster);
    drop(pool);
    drop(ioctx);
    image.write_all_at(b"still here", 0).unwrap();
    image.close().unwrap();
}

#[test]
fn any_order_of_drops() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let cluster = builder().connect().unwrap();
        let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let image = ioctx.open("foo").run().unwrap();
        image.write_all_at(&[1], 0).unwrap();
        let (mut cluster, mut ioctx, mut image) = (Some(cluster), Some(ioctx), Some(image));
        for which in order {
            match which {
                0 => drop(cluster.take()),
                1 => drop(ioctx.take()),
                _ => drop(image.take()),
            }
        }
    }
    assert!(
        space.open("foo").read_only(true).run().unwrap().watchers().unwrap().is_empty(),
        "all were closed"
    );
}

#[test]
fn a_forgotten_image_leaks_and_nothing_else() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let cluster = builder().connect().unwrap();
    let image =
        cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    let watcher = image.watchers().unwrap().remove(0);
    std::mem::forget(image);
    drop(cluster);
    // It still has its watch, like a crashed client. Fencing removes the watch.
    let holder = space.open("foo").read_only(true).run().unwrap().watchers().unwrap();
    assert_eq!(holder, [watcher]);
    crate::support::cluster()
        .blocklist()
        .add(&holder[0].address)
        .duration(std::time::Duration::from_secs(3600))
        .run()
        .unwrap();
}

#[test]
fn the_last_reference_may_die_in_a_callback_of_librbds() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    space.create("other", 64 * MIB).features(Features::LAYERING).run().unwrap();
    let cluster: Cluster = builder().connect().unwrap();
    let image =
        cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    drop(cluster);
    let last = Mutex::new(Some(image));
    let progress = |_, _| {
        // Closes the image and ends its connection, here on one of librbd's threads.
        drop(last.lock().unwrap().take());
        ControlFlow::Continue(())
    };
    space.remove("other").progress(progress).run().unwrap();
    assert!(last.lock().unwrap().is_none(), "the callback ran");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !space.open("foo").read_only(true).run().unwrap().watchers().unwrap().is_empty() {
        assert!(std::time::Instant::now() < until, "the reaper closed it");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn connecting_and_leaving_leaves_no_thread_and_no_descriptor() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    // In a separate process, so that no other test adds threads meanwhile.
    if !alone("ownership::connecting_and_leaving_leaves_no_thread_and_no_descriptor") {
        return;
    }
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let once = || {
        let cluster = builder().connect().unwrap();
        let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        ioctx.open("foo").run().unwrap().write_all_at(&[1], 0).unwrap();
    };
    once();
    let before = (count("task"), count("fd"));
    for _ in 0..5 {
        once();
    }
    // Threads end a moment after the library has joined them.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while (count("task"), count("fd")) > before && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let after = (count("task"), count("fd"));
    assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} before, {after:?} after");
}
