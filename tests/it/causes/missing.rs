//! Which thing is missing, in the way, or not as it must be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbd::error::Holder;
use rbd::image::CloneFormat;
use rbd::{ErrorKind, Features, ObjectKind};

use crate::support::{Space, cluster, unique};

const MIB: u64 = 1 << 20;

#[test]
fn a_pool_that_was_deleted_is_told_by_every_call() {
    let cluster = cluster();
    let name = unique("gone");
    cluster.pools().create(&name).unwrap();
    let pool = cluster.ioctx(&name).unwrap();
    pool.init().run().unwrap();
    pool.create("foo", MIB).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    cluster.pools().remove(&name).unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
    let errors = [
        ("list", pool.list().map(drop)),
        ("trash", pool.trash().list().map(drop)),
        ("groups", pool.groups().list().map(drop)),
        ("open", pool.open("foo").run().map(drop)),
        ("create", pool.create("bar", MIB).run()),
        ("remove", pool.remove("foo").run()),
        ("snapshot", image.snapshots().create("s").run()),
    ];
    for (call, result) in errors {
        let error = result.expect_err(call);
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Pool }, "{call}: {error}");
        assert!(error.to_string().contains(&name), "{call}: {error}");
    }
}

#[test]
fn images_are_listed_once_while_others_are_removed() {
    let space = Space::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                let name = format!("n{round}");
                space.create(&name, MIB).features(Features::LAYERING).run().unwrap();
                space.remove(&name).run().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let images = space.list().unwrap();
            let mut once = images.clone();
            once.dedup_by(|a, b| a.id == b.id);
            assert_eq!(images, once);
        }
    });
}

#[test]
fn a_group_says_which_image_is_missing_and_an_image_which_group_it_is_in() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let group = space.groups().create("g").unwrap();
    let error = group.add(&space, "nope").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image }, "{error}");
    let error = space.group("nope").add(&space, "foo").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Group }, "{error}");
    group.add(&space, "foo").unwrap();
    let error = space.remove("foo").run().unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("group 'rbd/"), "{error}");
    assert!(error.to_string().contains("/g'"), "{error}");
    group.remove(&space, "foo").unwrap();
    space.groups().remove("g").unwrap();
}

#[test]
fn what_keeps_an_image_in_the_trash_is_named() {
    let space = Space::new();
    space.create("parent", MIB).run().unwrap();
    let image = space.open("parent").run().unwrap();
    let id = image.id().unwrap();
    image.snapshots().create("s").run().unwrap();
    space.clone_image("parent", "s", "child").format(CloneFormat::V2).run().unwrap();
    image.snapshots().remove("s").run().unwrap();
    drop(image);
    space.trash().add("parent").run().unwrap();
    let error = space.trash().remove(&id).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::HasClones, "{error}");
    assert!(error.to_string().contains("child"), "{error}");
    space.remove("child").run().unwrap();
    space.trash().remove(&id).run().unwrap();

    space.create("open", MIB).run().unwrap();
    let image = space.open("open").run().unwrap();
    space.trash().add("open").run().unwrap();
    let error = space.trash().remove(&image.id().unwrap()).run().unwrap_err();
    let ErrorKind::Busy { holders } = error.kind() else { panic!("{error}") };
    assert!(matches!(holders[..], [Holder::Watcher(_)]), "{error}");
    std::thread::sleep(Duration::from_millis(1100));
    let error = space.trash().purge().run().unwrap_err();
    assert!(error.to_string().contains("/open'"), "{error}");
    let id = image.id().unwrap();
    drop(image);
    space.trash().remove(&id).run().unwrap();
}

#[test]
fn bare_invalid_arguments_have_their_reason() {
    let space = Space::new();
    space.create("foo", 8 * MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for name in ["a", "b"] {
        image.snapshots().create(name).run().unwrap();
    }
    let error = image.snapshots().set_limit(Some(1)).unwrap_err();
    assert!(error.to_string().contains("2 snapshots"), "{error}");
    drop(image);
    let migration = space.migration("foo");
    let results = [
        migration.status().map(drop),
        migration.execute().run(),
        migration.commit().run(),
        migration.abort().run(),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("it is in no migration"), "{error}");
    }
    let error = space.migration("nope").status().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image }, "{error}");
    // 3 MiB do not divide the default object size.
    let error = space.create("striped", 8 * MIB).striping(3 * MIB, 2).run().unwrap_err();
    assert!(error.to_string().contains("does not divide the object size of 4194304"), "{error}");
}
