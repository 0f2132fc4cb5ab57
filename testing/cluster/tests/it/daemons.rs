//! Faults on request.

use std::time::{Duration, Instant};

use rbd_testcluster::{Access, Daemon, Error, ObjectStore, TestCluster};

use crate::processes::is_gone;
use crate::tools::{eventually, rbd, rbd_ok, small};

/// Returns the state of an OSD in the tree.
fn state(cluster: &Access, name: &str) -> String {
    let nodes = cluster.osd_tree().unwrap().nodes;
    nodes.into_iter().find(|node| node.name == name).unwrap().status.unwrap()
}

/// Returns three megabytes that differ for each test.
fn content(seed: u64) -> Vec<u8> {
    (0..3_000_000_u64).map(|i| ((i * i) >> seed) as u8).collect()
}

fn import(cluster: &Access, image: &str, content: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    rbd_ok(cluster, &["import", "--no-progress", file.path().to_str().unwrap(), image]);
}

fn export(cluster: &Access, image: &str) -> Vec<u8> {
    let output = rbd(cluster, &["export", "--no-progress", image, "-"]);
    assert!(output.status.success());
    output.stdout
}

#[test]
fn an_osd_in_memory_keeps_its_data_over_a_stop() {
    let cluster = small();
    let content = content(7);
    import(&cluster, "foo", &content);
    let pid = cluster.pid(Daemon::Osd(0)).unwrap();

    cluster.stop_osd(0).unwrap();
    assert!(is_gone(pid) && cluster.pid(Daemon::Osd(0)).is_none());
    assert_eq!(state(&cluster, "osd.0"), "down");
    assert!(matches!(cluster.stop_osd(0), Err(Error::State { daemon: Daemon::Osd(0), .. })));
    cluster.check().unwrap(); // A stopped daemon is no dead one.

    cluster.start_osd(0).unwrap();
    assert_eq!(state(&cluster, "osd.0"), "up");
    assert_eq!(export(&cluster, "foo"), content);
    assert!(matches!(cluster.start_osd(0), Err(Error::State { .. })));
    let error = cluster.start_osd(7).unwrap_err().to_string();
    assert_eq!(error, "the cluster has no osd.7");
}

#[test]
fn a_bluestore_osd_keeps_its_data_over_a_kill() {
    let cluster = TestCluster::builder().object_store(ObjectStore::Bluestore).start().unwrap();
    let status = cluster.status().unwrap();
    assert!(status.is_healthy(), "{}", status.summary());
    let content = content(5);
    import(&cluster, "foo", &content);
    cluster.kill_osd(0).unwrap();
    cluster.start_osd(0).unwrap();
    assert_eq!(export(&cluster, "foo"), content);
}

#[test]
fn a_killed_osd_with_a_replica_is_filled_again() {
    let cluster = TestCluster::builder().osds(2).replicas(2).start().unwrap();
    let content = content(3);
    import(&cluster, "foo", &content);
    cluster.kill_osd(1).unwrap();
    cluster.start_osd(1).unwrap();
    cluster.stop_osd(0).unwrap();
    assert_eq!(export(&cluster, "foo"), content, "read from the refilled one alone");
}

#[test]
fn a_paused_monitor_does_not_answer_until_it_is_resumed() {
    let cluster = small();
    cluster.pause(Daemon::Mon).unwrap();
    let begin = Instant::now();
    let impatient = rbd(&cluster, &["--client-mount-timeout", "2", "ls"]);
    assert!(!impatient.status.success() && begin.elapsed() >= Duration::from_secs(2));
    cluster.resume(Daemon::Mon).unwrap();
    assert_eq!(rbd_ok(&cluster, &["ls"]), "");
    // A paused daemon can be stopped and does not delay the end.
    cluster.pause(Daemon::Osd(0)).unwrap();
    cluster.pause(Daemon::Mon).unwrap();
    let begin = Instant::now();
    cluster.stop().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_paused_osd_holds_io_up_until_it_is_resumed() {
    let cluster = small();
    cluster.pause(Daemon::Osd(0)).unwrap();
    assert!(!rbd(&cluster, &["--rados-osd-op-timeout", "1", "ls"]).status.success());
    cluster.resume(Daemon::Osd(0)).unwrap();
    assert_eq!(rbd_ok(&cluster, &["ls"]), "");
}

#[test]
fn monitor_and_manager_can_be_stopped_and_started() {
    let cluster = TestCluster::builder().start().unwrap();
    for daemon in [Daemon::Mon, Daemon::Mgr] {
        let pid = cluster.pid(daemon).unwrap();
        cluster.stop_daemon(daemon).unwrap();
        assert!(is_gone(pid));
        cluster.start_daemon(daemon).unwrap();
        assert_ne!(cluster.pid(daemon), Some(pid));
    }
    cluster.kill_daemon(Daemon::Mon).unwrap();
    cluster.start_daemon(Daemon::Mon).unwrap();
    rbd_ok(&cluster, &["create", "-s", "1", "foo"]);
}

#[test]
fn a_mirror_daemon_copies_from_another_cluster() {
    let here = TestCluster::builder().start().unwrap();
    let there = TestCluster::builder().start().unwrap();
    here.start_rbd_mirror().unwrap();
    for cluster in [&here, &there] {
        rbd_ok(cluster, &["mirror", "pool", "enable", "rbd", "image"]);
    }
    let token =
        rbd_ok(&there, &["mirror", "pool", "peer", "bootstrap", "create", "--site-name", "there", "rbd"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token).unwrap();
    let token = file.path().to_str().unwrap();
    let import =
        ["mirror", "pool", "peer", "bootstrap", "import", "--site-name", "here", "--direction", "rx-only"];
    rbd_ok(&here, &[&import[..], &["rbd", token]].concat());

    // The daemon does not replicate snapshots that were taken before it registered.
    eventually("the daemon is known there", || {
        rbd_ok(&there, &["mirror", "pool", "info"]).contains("tx-only")
    });

    let content = content(2);
    self::import(&there, "foo", &content);
    rbd_ok(&there, &["mirror", "image", "enable", "foo", "snapshot"]);
    eventually("the image is here", || rbd_ok(&here, &["ls"]) == "foo\n");
    eventually("its content is here", || export(&here, "foo") == content);
    here.stop_daemon(Daemon::RbdMirror).unwrap();
}

#[test]
fn without_a_manager_neither_it_nor_the_mirror_daemon_can_be_started() {
    let cluster = small();
    for daemon in [Daemon::Mgr, Daemon::RbdMirror] {
        let error = cluster.start_daemon(daemon).unwrap_err().to_string();
        assert_eq!(error, "the cluster was built without a manager");
    }
}
