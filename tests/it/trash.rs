//! The trash.

use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use rbd::error::Holder;
use rbd::{ErrorKind, ObjectKind, trash::TrashSource};
use rbd_testcluster::TestCluster;

use crate::support::{Space, builder};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn into_the_trash_and_out_again() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let id = space.open("foo").read_only(true).run().unwrap().id().unwrap();
    space.trash().add("foo").delay(HOUR).run().unwrap();
    assert!(space.list().unwrap().is_empty());
    let entry = space.trash().get(&id).unwrap();
    assert_eq!(space.trash().list().unwrap(), std::slice::from_ref(&entry));
    assert_eq!(
        (entry.id.as_str(), entry.name.as_str(), entry.source),
        (id.as_str(), "foo", TrashSource::User)
    );
    assert_eq!(entry.deferred_until.duration_since(entry.trashed).unwrap(), HOUR);
    assert!(entry.trashed <= SystemTime::now());

    space.create("foo", 1 << 20).run().unwrap();
    let error = space.trash().restore(&id).run().unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("an image of its old name"), "{error}");
    space.trash().restore(&id).name("bar").run().unwrap();
    assert_eq!(space.open("bar").read_only(true).run().unwrap().id().unwrap(), id);
    let error = space.trash().get(&id).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::TrashedImage }, "{error}");
    assert!(space.trash().restore("nope").run().unwrap_err().is_not_found());
    assert!(space.trash().add("nope").delay(HOUR).run().unwrap_err().is_not_found());
}

/// librbd hands over a lock that a write took, and an owner that acquired it keeps it.
#[test]
fn an_owner_that_keeps_the_lock_keeps_the_image_out_of_the_trash() {
    let space = Space::new();
    let other = builder().connect().unwrap();
    let elsewhere = other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    for name in ["written", "kept"] {
        space.create(name, 1 << 20).run().unwrap();
    }
    let written = elsewhere.open("written").run().unwrap();
    written.write_all_at(&[1; 512], 0).unwrap();
    assert!(written.exclusive_lock().is_owner().unwrap());
    space.trash().add("written").run().unwrap();
    let kept = elsewhere.open("kept").run().unwrap();
    kept.exclusive_lock().acquire().unwrap();
    let owner = kept.exclusive_lock().owner().unwrap().unwrap().address;
    let error = space.trash().add("kept").run().unwrap_err();
    let ErrorKind::Busy { holders } = error.kind() else { panic!("{error}") };
    let client = format!("client.{}", other.instance_id());
    assert_eq!(holders[..], [Holder::LockOwner { client, address: owner }], "{error}");
    assert!(error.to_string().contains("release the lock there"), "{error}");
    kept.exclusive_lock().release().unwrap();
    space.trash().add("kept").run().unwrap();
}

#[test]
fn removal_waits_for_its_time_unless_forced() {
    let space = Space::new();
    space.create("foo", 64 << 20).run().unwrap();
    let id = space.open("foo").read_only(true).run().unwrap().id().unwrap();
    space.trash().add("foo").delay(HOUR).run().unwrap();
    let error = space.trash().remove(&id).run().unwrap_err();
    assert!(
        error.is_busy() && error.to_string().contains("its delay in the trash has not expired"),
        "{error}"
    );
    let mut told = 0;
    let progress = |_, _| {
        told += 1;
        ControlFlow::Continue(())
    };
    space.trash().remove(&id).force(true).progress(progress).run().unwrap();
    assert!(told > 0);
    assert!(space.trash().list().unwrap().is_empty());
}

#[test]
fn purging_removes_expired_images_only() {
    let space = Space::new();
    for (name, delay) in [("over", Duration::ZERO), ("not-over", HOUR)] {
        space.create(name, 1 << 20).run().unwrap();
        space.trash().add(name).delay(delay).run().unwrap();
    }
    assert_eq!(
        *space.trash().purge().until_usage_below(2.0).run().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    space.trash().purge().expired_before(SystemTime::UNIX_EPOCH).run().unwrap();
    assert_eq!(space.trash().list().unwrap().len(), 2, "none had expired by 1970");
    space.trash().purge().expired_before(SystemTime::now() + Duration::from_secs(1)).run().unwrap();
    let left: Vec<String> = space.trash().list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(left, ["not-over"]);
    space.trash().purge().expired_before(SystemTime::now() + 2 * HOUR).run().unwrap();
    assert!(space.trash().list().unwrap().is_empty());
}

/// librbd's own threshold removes images whose delay has not expired, and all expired ones.
#[test]
fn purging_for_space_removes_as_many_expired_images_as_it_takes() {
    let daemons = TestCluster::builder().start().unwrap();
    let cluster =
        rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    for (name, delay) in [("protected", HOUR), ("a", Duration::ZERO), ("b", Duration::ZERO)] {
        pool.create(name, 16 << 20).run().unwrap();
        let image = pool.open(name).run().unwrap();
        image.write_all_at(&vec![1; 16 << 20], 0).unwrap();
        image.close().unwrap();
        pool.trash().add(name).delay(delay).run().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
    }
    let names = || pool.trash().list().unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    // The manager counts later.
    let usage = || {
        let usage = cluster.mon_command(r#"{"prefix": "df", "format": "json"}"#, b"").unwrap();
        let usage: serde_json::Value = serde_json::from_slice(&usage).unwrap();
        let stats =
            &usage["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "rbd").unwrap()["stats"];
        let stored = stats["stored"].as_u64().unwrap_or(0);
        stats["percent_used"].as_f64().filter(|used| *used > 0.0 && stored >= 48 << 20)
    };
    let end = Instant::now() + Duration::from_secs(60);
    let used = loop {
        assert!(Instant::now() < end, "the usage is not counted");
        match usage() {
            Some(used) => break used,
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    };
    let purge = |part: f64| pool.trash().purge().until_usage_below(part as f32).run().unwrap();
    purge(1.0);
    assert_eq!(names(), ["a", "b", "protected"]);
    purge(used * 0.9);
    assert_eq!(names(), ["b", "protected"], "the oldest is enough");
    purge(0.0);
    assert_eq!(names(), ["protected"]);
}

#[test]
fn an_interrupted_move_is_explained_and_can_be_finished() {
    const NORMAL: u8 = 0;
    const MOVING: u8 = 1;
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    space.trash().add("foo").run().unwrap();
    let id = space.trash().list().unwrap()[0].id.clone();
    let len = u32::try_from(id.len()).unwrap().to_le_bytes();
    let input = [&len[..], id.as_bytes(), &[MOVING, NORMAL]].concat();
    space.objects().execute("rbd_trash", "rbd", "trash_state_set", &input).unwrap();
    let error = space.trash().remove(&id).run().unwrap_err();
    assert!(error.to_string().contains("finish the move with `trash().add(\"foo\")`"), "{error}");
    let error = space.trash().purge().run().unwrap_err();
    assert!(error.to_string().contains("the move of an image to the trash was interrupted"), "{error}");
    space.trash().add("foo").run().unwrap();
    space.trash().remove(&id).run().unwrap();
}
