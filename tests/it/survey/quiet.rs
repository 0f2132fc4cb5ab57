//! A survey does not change the cluster. The tests have their own clusters.

use std::time::{Duration, Instant};

use rbd::image::CloneFormat;
use rbd::{Cluster, ErrorKind};
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::Value;

use super::{SIZE, all, history};
use crate::support::{block_on, unique};

/// Returns how many operations that write or watch the OSD has carried out.
fn writes(cluster: &Cluster) -> u64 {
    let dump = cluster.osd_command(0, r#"{"prefix": "perf dump"}"#, b"").unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    dump["osd"]["op_w"].as_u64().unwrap() + dump["osd"]["op_rw"].as_u64().unwrap()
}

/// Returns the watches of all objects of the OSD.
fn watches(cluster: &Cluster) -> Value {
    let dump = cluster.osd_command(0, r#"{"prefix": "dump_watchers"}"#, b"").unwrap();
    serde_json::from_slice(&dump).unwrap()
}

#[test]
fn a_survey_changes_nothing() {
    let own = TestCluster::builder().start().unwrap();
    let builder = || Cluster::builder().ignore_environment(true).conf_file(own.conf());
    let admin = builder().connect().unwrap();
    let pool = admin.ioctx("rbd").unwrap();
    for number in 0..20 {
        let name = format!("image{number}");
        pool.create(&name, SIZE).object_size(1 << 20).run().unwrap();
        history(&pool, &name);
    }
    pool.clone_image("image0", "one", "clone").format(CloneFormat::V2).run().unwrap();
    pool.trash().add("image5").run().unwrap();
    let group = pool.groups().create("group").unwrap();
    group.add(&pool, "image1").unwrap();
    // One image is locked and watched by another client.
    let locked = pool.open("image2").run().unwrap();
    locked.write_all_at(b"locked", 0).unwrap();
    locked.flush().unwrap();
    let caps = [("mon", "profile rbd"), ("osd", "profile rbd-read-only")];
    let user = own.user(&unique("reader"), &caps).unwrap();
    let reader = builder().user(&user.id).keyring(&user.keyring).connect().unwrap();
    let open = reader.ioctx("rbd").unwrap();
    // The manager sometimes writes something.
    own.stop_daemon(Daemon::Mgr).unwrap();
    let watched = watches(&admin);
    assert_eq!(watched.as_array().unwrap().len(), 1, "{watched}");
    let before = writes(&admin);
    for round in 0..5 {
        let survey = all(&open).all_namespaces(round % 2 == 0);
        let mut images = survey.run().unwrap();
        let mut found = vec![images.next().unwrap().unwrap()];
        // While images are in flight, too.
        assert_eq!(watches(&admin), watched);
        found.extend(images.map(Result::unwrap));
        assert_eq!(found.len(), 20);
        let locks = found.iter().filter(|image| !image.locks.as_ref().unwrap().lockers.is_empty());
        assert!(locks.map(|image| &*image.name).eq(["image2"]));
        assert_eq!(all(&open).trash(true).run().unwrap().map(Result::unwrap).count(), 1);
    }
    assert_eq!(watches(&admin), watched);
    assert_eq!(writes(&admin), before, "a survey has written");
    // A test of the counter: opening for writing sets a watch.
    let other = pool.open("image1").run().unwrap();
    assert!(writes(&admin) > before);
    assert_ne!(watches(&admin), watched);
    other.close().unwrap();
}

#[test]
fn a_survey_of_a_frozen_cluster_ends_in_time() {
    let own = TestCluster::builder().mgr(false).start().unwrap();
    let builder = Cluster::builder().ignore_environment(true).conf_file(own.conf());
    let cluster = builder.call_timeout(Duration::from_secs(2)).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("foo", SIZE).run().unwrap();
    own.pause(Daemon::Osd(0)).unwrap();
    let begun = Instant::now();
    let mut stream = pool.survey().start().unwrap();
    let error = block_on(stream.next()).unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut), "{error}");
    let error = pool.survey().run().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    own.resume(Daemon::Osd(0)).unwrap();
}
