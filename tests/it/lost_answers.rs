//! Changes that the owner of the exclusive lock makes for other clients end although librbd loses
//! the owner's answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbd::{Features, Image};

use crate::played_owner::{ACQUIRED, Watcher, framed, watcher};
use crate::support::{Space, builder};

const MIB: u64 = 1 << 20;
const MAP: Features = Features::OBJECT_MAP.union(Features::FAST_DIFF);

/// What is prepared before the lock is owned, and the changes.
type Changes = (&'static str, fn(&Image), &'static [fn(&Image)]);

fn nothing(_: &Image) {}

fn snapshot(image: &Image) {
    image.snapshots().create("s").run().unwrap();
}

/// All changes that librbd requests from the owner. Most take several calls, because one of them
/// may receive its answer in time.
const ALL: &[Changes] = &[
    (
        "features",
        nothing,
        &[
            |image| image.disable_features(MAP).unwrap(),
            |image| image.enable_features(MAP).unwrap(),
            |image| image.disable_features(Features::JOURNALING).unwrap(),
        ],
    ),
    (
        "size",
        nothing,
        &[
            |image| image.resize(16 * MIB).run().unwrap(),
            |image| image.resize(24 * MIB).run().unwrap(),
            |image| assert_eq!(image.size().unwrap(), 24 * MIB),
        ],
    ),
    (
        "snapshots",
        nothing,
        &[
            snapshot,
            |image| image.snapshots().rename("s", "t").unwrap(),
            |image| image.snapshots().protect("t").unwrap(),
            |image| image.snapshots().unprotect("t").unwrap(),
            |image| image.snapshots().remove("t").run().unwrap(),
            |image| assert!(image.snapshots().list().unwrap().is_empty()),
        ],
    ),
    (
        "metadata",
        nothing,
        &[
            |image| image.metadata().set("a", "b").unwrap(),
            |image| assert_eq!(image.metadata().get("a").unwrap(), "b"),
            |image| image.metadata().remove("a").unwrap(),
        ],
    ),
    (
        "data",
        |image| image.write_all_at(&[1; 4096], 0).unwrap(),
        &[|image| image.object_map().rebuild().run().unwrap(), |image| image.sparsify(4096).run().unwrap()],
    ),
    (
        "group",
        |image| {
            let group = image.ioctx().groups().create("group").unwrap();
            group.add(image.ioctx(), "group").unwrap();
            for name in ["a", "b", "c", "d"] {
                group.snapshots().create(name).run().unwrap();
            }
        },
        &[
            |image| image.ioctx().group("group").snapshots().remove("a").unwrap(),
            |image| image.ioctx().group("group").snapshots().remove("b").unwrap(),
            |image| image.ioctx().groups().remove("group").unwrap(),
            |image| assert!(image.snapshots().list().unwrap().is_empty()),
        ],
    ),
    (
        "name",
        nothing,
        &[
            |image| image.ioctx().rename("name", "other").unwrap(),
            |image| image.ioctx().rename("other", "name").unwrap(),
        ],
    ),
];

/// Tells all clients that have the image open that a client of this number owns the lock.
fn announce_owner(announcer: &Watcher, number: u64) {
    let owner = [1 + number, 1].map(u64::to_le_bytes).concat();
    announcer.notify(&framed(6, &[&ACQUIRED.to_le_bytes(), &owner]));
}

/// Makes each change while librbd hears of acquisitions of the lock that never happened, so that it
/// cancels and repeats its requests. The owner keeps the lock.
fn make(space: &Space, &(name, prepare, changes): &Changes) {
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK | MAP | Features::JOURNALING;
    if !space.list().unwrap().iter().any(|image| image.name == name) {
        space.create(name, 8 * MIB).features(features).run().unwrap();
    }
    let open = || {
        let cluster = builder().connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        pool.open(name).run().unwrap()
    };
    let (theirs, ours) = (open(), open());
    prepare(&theirs);
    theirs.exclusive_lock().acquire().unwrap();
    let announcer = watcher(&ours);
    for change in changes {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Long enough that a request is repeated, short enough that the repetition of the
                // answer is received.
                for number in 0..200 {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    announce_owner(&announcer, number);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            change(&ours);
            done.store(true, Ordering::Relaxed);
        });
    }
    assert!(theirs.exclusive_lock().is_owner().unwrap(), "{name}");
    drop(announcer);
    let watchers = theirs.watchers().unwrap();
    assert_eq!(watchers.len(), 2, "{name}: no watch is left: {watchers:?}");
    ours.close().unwrap();
    theirs.close().unwrap();
}

#[test]
fn every_change_ends() {
    let space = Space::new();
    std::thread::scope(|scope| {
        for changes in ALL {
            scope.spawn(|| make(&space, changes));
        }
    });
}

/// A clone can be flattened only once, so each call needs its own clone.
#[test]
fn flattened_clones() {
    let space = Space::new();
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    space.create("parent", 8 * MIB).features(features).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.write_all_at(&[1; 4096], 0).unwrap();
    snapshot(&parent);
    parent.snapshots().protect("s").unwrap();
    for name in ["one", "two", "three", "four"] {
        space.clone_image("parent", "s", name).run().unwrap();
        make(&space, &(name, nothing, &[|image| image.flatten().run().unwrap()]));
        assert!(space.open(name).run().unwrap().parent().unwrap().is_none());
    }
}
