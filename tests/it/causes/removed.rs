//! A handle that was opened read-only registers no watch, so others can remove the image or its
//! snapshot. The handle does not notice it, and what is gone reads as zeros.

use std::ops::ControlFlow;

use rbd::{ErrorKind, Features, Image, ObjectKind, Result};

use crate::support::Space;

const MIB: u64 = 1 << 20;

fn filled(space: &Space, name: &str, byte: u8) -> Image {
    space.create(name, 64 * MIB).features(Features::LAYERING).run().unwrap();
    let image = space.open(name).run().unwrap();
    image.write_all_at(&[byte; 4096], 0).unwrap();
    image
}

/// Makes all calls that read a whole image, and checks that none makes a copy.
fn all_are_missing(space: &Space, gone: &Image, what: ObjectKind) {
    let target = filled(space, "target", 2);
    let names = || space.list().unwrap().into_iter().map(|image| image.name).collect::<Vec<_>>();
    let before = names();
    for (call, result) in [
        ("diff", gone.diff().collect().map(drop)),
        ("diff of objects", gone.diff().whole_objects(true).collect().map(drop)),
        ("extents", gone.diff().extents().and_then(|extents| extents.collect::<Result<Vec<_>>>()).map(drop)),
        ("copy", gone.copy_to(space, "copy").run()),
        ("copy over", gone.copy_over(&target).run()),
        ("deep copy", gone.deep_copy_to(space, "deep").run()),
    ] {
        let error = result.expect_err(call);
        assert_eq!(*error.kind(), ErrorKind::NotFound { what }, "{call}: {error}");
    }
    assert_eq!(names(), before);
    let mut found = [0; 4096];
    target.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [2; 4096]);
}

#[test]
fn copies_and_diffs_of_a_removed_image() {
    let space = Space::new();
    filled(&space, "foo", 1).close().unwrap();
    let image = space.open("foo").read_only(true).run().unwrap();
    assert_eq!(image.diff().collect().unwrap().len(), 1);
    space.remove("foo").run().unwrap();
    all_are_missing(&space, &image, ObjectKind::Image);
}

/// Its data may be gone already, while its header still exists.
#[test]
fn copies_and_diffs_of_an_image_that_is_being_removed() {
    let space = Space::new();
    filled(&space, "foo", 1).close().unwrap();
    let image = space.open("foo").read_only(true).run().unwrap();
    let stopped = space.remove("foo").progress(|_, _| ControlFlow::Break(())).run();
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Stopped);
    all_are_missing(&space, &image, ObjectKind::Image);
}

#[test]
fn copies_and_diffs_of_an_image_in_the_trash() {
    let space = Space::new();
    filled(&space, "foo", 1).close().unwrap();
    let image = space.open("foo").read_only(true).run().unwrap();
    space.trash().add("foo").run().unwrap();
    assert_eq!(image.diff().collect().unwrap().len(), 1);
    image.copy_to(&space, "copy").run().unwrap();
}

#[test]
fn copies_and_diffs_of_a_removed_snapshot() {
    let space = Space::new();
    let image = filled(&space, "foo", 1);
    image.snapshots().create("s").run().unwrap();
    let at = image.at_snapshot("s").unwrap();
    assert_eq!(at.diff().collect().unwrap().len(), 1);
    image.snapshots().remove("s").run().unwrap();
    all_are_missing(&space, &at, ObjectKind::Snapshot);
}

/// librbd answers from a missing header: nothing is set, nothing is locked.
#[test]
fn what_is_asked_about_a_removed_image() {
    let space = Space::new();
    let image = filled(&space, "foo", 1);
    image.metadata().set("a", "b").unwrap();
    image.config().set("rbd_qos_iops_limit", "700").unwrap();
    image.close().unwrap();
    let image = space.open("foo").read_only(true).run().unwrap();
    assert_eq!(image.metadata().get("a").unwrap(), "b");
    let missing = |call: &str, result: Result<()>| {
        let error = result.expect_err(call);
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image }, "{call}: {error}");
    };
    let key = image.metadata().get("c").unwrap_err();
    assert_eq!(*key.kind(), ErrorKind::NotFound { what: ObjectKind::MetadataKey }, "{key}");
    space.remove("foo").run().unwrap();
    let locks = image.advisory_locks();
    missing("name", image.name().map(drop));
    missing("metadata", image.metadata().list().map(drop));
    missing("key", image.metadata().get("a").map(drop));
    missing("options", image.config().list().map(drop));
    missing("watchers", image.watchers().map(drop));
    missing("owner", image.exclusive_lock().owner().map(drop));
    missing("lock", locks.acquire_exclusive("cookie"));
    missing("shared lock", locks.acquire_shared("cookie", "tag"));
    missing("locks", locks.list().map(drop));
    missing("limit", image.snapshots().limit().map(drop));
    missing("snapshot", image.at_snapshot("s").map(drop));
    missing("group", image.group().map(drop));
}
