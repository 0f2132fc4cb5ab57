//! Errors name the thing that is missing, in the way, or in the wrong state.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbd::error::Holder;
use rbd::image::CloneFormat;
use rbd::{ErrorKind, Features, ObjectKind};

use crate::support::{Space, builder, cluster, unique};

const MIB: u64 = 1 << 20;

#[test]
fn every_call_reports_a_deleted_pool() {
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
fn obstacles_of_a_removal_from_the_trash_are_named() {
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
    let text = error.to_string();
    assert!(
        text.contains("/open' (id ") && text.contains("cannot be removed: it is in use: watcher"),
        "{text}"
    );
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
    let error = image.snapshots().set_limit(1).unwrap_err();
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
        assert!(error.to_string().contains("it is not in a migration"), "{error}");
    }
    let error = space.migration("nope").status().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image }, "{error}");
    // 3 MiB do not divide the default object size.
    let error = space.create("striped", 8 * MIB).striping(3 * MIB, 2).run().unwrap_err();
    assert!(error.to_string().contains("does not divide the object size of 4194304"), "{error}");
}

/// Makes a clone, `orphan`, whose parent's pool is deleted.
fn orphan(space: &Space) {
    let cluster = cluster();
    let pool = unique("parent");
    cluster.pools().create(&pool).unwrap();
    let parent = cluster.ioctx(&pool).unwrap();
    parent.init().run().unwrap();
    parent.create("golden", MIB).run().unwrap();
    parent.open("golden").run().unwrap().snapshots().create("s").run().unwrap();
    parent.clone_image("golden", "s", "orphan").format(CloneFormat::V2).into_ioctx(space).run().unwrap();
    cluster.pools().remove(&pool).unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
}

#[test]
fn opening_by_await_says_what_blocking_opening_says() {
    let (space, cluster) = (Space::new(), cluster());
    space.create("foo", MIB).run().unwrap();
    space.create("removed", 64 * MIB).features(Features::LAYERING).run().unwrap();
    let stopped = space.remove("removed").progress(|_, _| ControlFlow::Break(())).run();
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Stopped);
    orphan(&space);
    let ids = space.list().unwrap();
    let orphan_id = &ids.iter().find(|image| image.name == "orphan").unwrap().id;
    let gone = unique("gone");
    cluster.pools().create(&gone).unwrap();
    let gone_pool = cluster.ioctx(&gone).unwrap();
    cluster.pools().remove(&gone).unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
    let nowhere = space.with_namespace("nowhere").unwrap();
    let (image, pool) = (ObjectKind::Image, ObjectKind::Pool);
    let cases = [
        (space.open("nope"), image, "check its name"),
        (space.open("nope").snapshot("s"), image, "check its name"),
        (space.open("foo").snapshot("s"), ObjectKind::Snapshot, "foo@s"),
        (space.open("rbd/foo"), image, "rbd::ImageSpec parses"),
        (space.open_by_id("1234"), image, "check its name"),
        (space.open("removed"), image, "removal was interrupted"),
        (space.open("removed").read_only(true).snapshot("s"), image, "removal was interrupted"),
        (space.open("orphan"), pool, "it is a clone, and the pool with its parent"),
        (space.open_by_id(orphan_id).read_only(true), pool, "it is a clone, and the pool with its parent"),
        (nowhere.open("foo"), ObjectKind::Namespace, "nowhere"),
        (gone_pool.open("foo"), pool, &gone),
        (gone_pool.open_by_id("1234"), pool, &gone),
    ];
    for (open, what, text) in cases {
        let blocking = open.clone().run().unwrap_err();
        assert_eq!(*blocking.kind(), ErrorKind::NotFound { what }, "{blocking}");
        assert!(blocking.to_string().contains(text), "{blocking}");
        let awaited = open.start().wait().unwrap_err();
        assert_eq!(awaited.to_string(), blocking.to_string());
        assert_eq!(awaited.kind(), blocking.kind());
    }
}

/// A user without permission to read the list of images, which can be long.
#[test]
fn what_is_missing_is_found_without_a_list_of_the_images() {
    let space = Space::new();
    space.create("foo", 64 * MIB).features(Features::LAYERING).run().unwrap();
    let stopped = space.remove("foo").progress(|_, _| ControlFlow::Break(())).run();
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Stopped);
    let prefixes = ["rbd_id", "rbd_header", "rbd_trash", "rbd_data", "foo"]
        .map(|prefix| format!("allow rwx pool=rbd namespace={} object_prefix {prefix}", space.namespace()));
    let name = unique("listless");
    let caps = [("mon", "profile rbd"), ("osd", &*prefixes.join(", "))];
    let user = rbd_testcluster::shared().user(&name, &caps).unwrap();
    let connection = builder().user(&name).keyring(&user.keyring).connect().unwrap();
    let pool = connection.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    assert!(pool.list().unwrap_err().is_permission_denied());
    for error in [pool.open("foo").run().unwrap_err(), pool.open("foo").start().wait().unwrap_err()] {
        assert!(error.is_not_found() && error.to_string().contains("removal was interrupted"), "{error}");
    }
    space.remove("foo").run().unwrap();
}

/// An erasure-coded pool can store data only if overwrites are allowed.
#[test]
fn a_data_pool_without_overwrites_is_named() {
    let daemons = rbd_testcluster::TestCluster::builder().osds(3).mgr(false).start().unwrap();
    let cluster =
        rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let space = cluster.ioctx("rbd").unwrap();
    let pool = unique("erasure");
    let ask = |text: String| cluster.mon_command(&text, &[]).unwrap();
    ask(format!(
        r#"{{"prefix": "osd erasure-code-profile set", "name": "{pool}", "profile": ["k=2", "m=1", "crush-failure-domain=osd"]}}"#
    ));
    ask(format!(
        r#"{{"prefix": "osd pool create", "pool": "{pool}", "pool_type": "erasure", "erasure_code_profile": "{pool}", "pg_num": 1}}"#
    ));
    cluster.wait_for_latest_osdmap().unwrap();
    let error = space.create("foo", 1 << 20).data_pool(&pool).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error:#}");
    assert!(error.to_string().contains("allow_ec_overwrites"), "{error}");
    assert!(error.to_string().contains(&pool), "{error}");
}
