//! Removed snapshots that the OSDs have not trimmed yet: librbd's deep copy and migration would
//! lose data of older snapshots.

use std::ops::ControlFlow;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rbd::{Cluster, Features, Image, IoCtx};
use rbd_testcluster::TestCluster;

const OBJECT: u64 = 1 << 20;

/// A cluster of its own, because the flag `nosnaptrim` holds for all pools.
struct Paused {
    cluster: Cluster,
    daemons: TestCluster,
}

impl Paused {
    fn new() -> Paused {
        let daemons = TestCluster::builder().start().unwrap();
        let cluster =
            Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
        let paused = Paused { cluster, daemons };
        paused.set("set");
        paused
    }

    fn set(&self, how: &str) {
        let command = format!(r#"{{"prefix": "osd {how}", "key": "nosnaptrim"}}"#);
        self.cluster.mon_command(&command, &[]).unwrap();
        self.cluster.wait_for_latest_osdmap().unwrap();
    }
}

/// Makes an image whose data exists at the snapshot `old` only. A removed snapshot was the newest
/// one with the same data.
fn make(pool: &IoCtx, name: &str, features: Features) {
    pool.create(name, 4 * OBJECT).features(features).object_size(OBJECT).run().unwrap();
    let image = pool.open(name).run().unwrap();
    image.write_all_at(&[7; 4096], 0).unwrap();
    for snapshot in ["old", "removed"] {
        image.snapshots().create(snapshot).run().unwrap();
    }
    image.discard(0, OBJECT).unwrap();
    image.snapshots().remove("removed").run().unwrap();
    image.close().unwrap();
}

fn has_its_data(image: &Image) -> bool {
    let mut data = [0; 4096];
    image.at_snapshot("old").unwrap().read_exact_at(&mut data, 0).unwrap();
    data == [7; 4096]
}

#[test]
fn copies_wait_until_removed_snapshots_are_trimmed() {
    let paused = Paused::new();
    let pool = paused.cluster.ioctx("rbd").unwrap();
    let masks = [
        ("plain", Features::LAYERING),
        ("default", Features::DEFAULT),
        ("journal", Features::DEFAULT | Features::JOURNALING),
    ];
    for (name, features) in masks {
        make(&pool, name, features);
        let image = pool.open(name).run().unwrap();
        let refused = image.deep_copy_to(&pool, "copy").run().unwrap_err();
        assert!(refused.is_busy(), "{refused}");
        assert!(refused.to_string().contains("ceph osd unset nosnaptrim"), "{refused}");
        image.close().unwrap();
        let refused = pool.prepare_migration(name, &pool, "moved").run().unwrap_err();
        assert!(refused.is_busy(), "{refused}");
    }
    let mut names: Vec<_> = pool.list().unwrap().into_iter().map(|image| image.name).collect();
    names.sort();
    assert_eq!(names, ["default", "journal", "plain"], "a refused call leaves nothing behind");

    // Each removed snapshot takes the OSD a while.
    let pause = r#"{"prefix": "config set", "who": "osd", "name": "osd_snap_trim_sleep", "value": "1"}"#;
    paused.cluster.mon_command(pause, &[]).unwrap();
    paused.set("unset");
    for (name, _) in masks {
        let image = pool.open(name).run().unwrap();
        let copy = format!("{name}-copy");
        image.deep_copy_to(&pool, &copy).run().unwrap();
        assert!(has_its_data(&image) && has_its_data(&pool.open(&copy).run().unwrap()), "{name}");
        image.close().unwrap();
    }
    for (name, features) in masks {
        // librbd does not migrate an image with a journal of its own here.
        let name = format!("{name}-moving");
        make(&pool, &name, features - Features::JOURNALING);
        let moved = format!("{name}-moved");
        pool.prepare_migration(&name, &pool, &moved).run().unwrap();
        pool.migration(&moved).execute().run().unwrap();
        pool.migration(&moved).commit().run().unwrap();
        assert!(has_its_data(&pool.open(&moved).run().unwrap()), "{name}");
    }
}

/// Another program may have prepared the migration without a wait.
#[test]
fn the_execution_of_a_migration_waits_as_well() {
    let paused = Paused::new();
    let pool = paused.cluster.ioctx("rbd").unwrap();
    make(&pool, "foo", Features::DEFAULT);
    let prepare = ["migration", "prepare", "rbd/foo", "rbd/bar", "--conf"];
    let done = Command::new("rbd").args(prepare).arg(paused.daemons.conf()).status().unwrap();
    assert!(done.success());
    let refused = pool.migration("bar").execute().run().unwrap_err();
    assert!(refused.is_busy(), "{refused}");
    paused.set("unset");
    pool.migration("bar").execute().run().unwrap();
    pool.migration("bar").commit().run().unwrap();
    assert!(has_its_data(&pool.open("bar").run().unwrap()));
}

#[test]
fn a_removal_during_a_copy_is_told() {
    let space = crate::support::Space::new();
    space.create("foo", 8 * OBJECT).object_size(OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for snapshot in ["old", "removed"] {
        image.snapshots().create(snapshot).run().unwrap();
        image.write_all_at(&[7; 4096], 0).unwrap();
    }
    image.close().unwrap();
    // A handle for writing would have to give its lock away, and a handle of the same connection
    // needs the threads of librbd, but the callback holds them.
    let image = space.open("foo").read_only(true).run().unwrap();
    let (asked, ask) = mpsc::channel::<()>();
    let (done, wait) = mpsc::channel();
    let connection = crate::support::builder().connect().unwrap();
    let pool = connection.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let other = pool.open("foo").run().unwrap();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || {
            ask.recv().unwrap();
            other.snapshots().remove("removed").run().unwrap();
            done.send(()).unwrap();
        });
        let remove = move |_, _| {
            if asked.send(()).is_ok() {
                let _ = wait.recv_timeout(Duration::from_secs(60));
            }
            ControlFlow::Continue(())
        };
        image.deep_copy_to(&space, "copy").progress(remove).run()
    });
    let told = outcome.unwrap_err();
    assert!(told.is_busy(), "{told}");
    assert!(told.to_string().contains("remove the copy, and copy again"), "{told}");
}
