//! Images that are closed immediately after they were opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbd::Features;

use super::{is_child, run_child, said, test};
use crate::support::Space;

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
