//! Start, use, stop.

use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use rbd_testcluster::{Daemon, ObjectStore, TestCluster, shared};
use serde_json::{Value, json};

use crate::processes::is_gone;
use crate::tools::{PROGRAM, is_empty, rbd_ok, small, text};

const ALL: [Daemon; 3] = [Daemon::Mon, Daemon::Mgr, Daemon::Osd(0)];

#[test]
fn a_cluster_is_ready_when_it_is_started_and_gone_when_it_is_stopped() {
    let begin = Instant::now();
    let cluster = TestCluster::builder().start().unwrap();
    println!("started in {:?}", begin.elapsed());

    let status = cluster.status().unwrap();
    assert!(status.is_healthy(), "{}", status.summary());
    assert_eq!(status.fsid, cluster.fsid());
    assert!(status.mgrmap.available);
    assert_eq!((status.pgmap.num_pools, status.pgmap.num_pgs, status.clean_pgs()), (1, 8, 8));
    let key = cluster.key("admin").unwrap();
    assert!(std::fs::read_to_string(cluster.admin_keyring()).unwrap().contains(&key));

    rbd_ok(&cluster, &["create", "-s", "16", "foo"]);
    assert_eq!(rbd_ok(&cluster, &["ls"]), "foo\n");
    let pools = cluster.mon_query("osd pool ls", Value::Null).unwrap();
    assert_eq!(pools, json!(["rbd"]));

    let pids = ALL.map(|daemon| cluster.pid(daemon).unwrap());
    let directory = cluster.directory().to_owned();
    let addresses = cluster.monitor_addresses().clone();
    assert!(TcpStream::connect(&addresses.v1).is_ok() && TcpStream::connect(&addresses.v2).is_ok());
    cluster.stop().unwrap();
    assert!(!directory.exists());
    assert!(pids.into_iter().all(is_gone), "{pids:?}");
    assert!(TcpStream::connect(&addresses.v1).is_err() && TcpStream::connect(&addresses.v2).is_err());
}

#[test]
fn dropping_a_cluster_ends_it_too() {
    let cluster = small();
    let pids = [Daemon::Mon, Daemon::Osd(0)].map(|daemon| cluster.pid(daemon).unwrap());
    assert_eq!(cluster.pid(Daemon::Mgr), None);
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists() && pids.into_iter().all(is_gone));
}

#[test]
fn a_cluster_outlives_the_thread_that_started_it() {
    let cluster = std::thread::spawn(small).join().unwrap();
    // The kernel would have sent the death signal at the end of the thread, before `join` returned.
    std::thread::sleep(std::time::Duration::from_millis(300));
    cluster.check().unwrap();
    assert_eq!(rbd_ok(&cluster, &["ls"]), "");
}

#[test]
fn clusters_at_the_same_time_do_not_meet() {
    let starts: Vec<_> = (0..3).map(|_| std::thread::spawn(small)).collect();
    let clusters: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    for (number, cluster) in clusters.iter().enumerate() {
        rbd_ok(cluster, &["create", "-s", "1", &format!("image{number}")]);
    }
    for (number, cluster) in clusters.iter().enumerate() {
        assert_eq!(cluster.status().unwrap().fsid, cluster.fsid());
        assert_eq!(rbd_ok(cluster, &["ls"]), format!("image{number}\n"));
    }
}

#[test]
fn several_osds_pools_and_replicas_as_wanted() {
    let cluster = TestCluster::builder()
        .osds(3)
        .replicas(2)
        .pools(["one", "two"])
        .osd_size(2 << 30)
        .section_option("client", "rbd default features", 1)
        .start()
        .unwrap();
    let status = cluster.status().unwrap();
    assert!(status.is_healthy(), "{}", status.summary());
    assert_eq!((status.osdmap.up, status.osdmap.r#in, status.clean_pgs()), (3, 3, 16));
    assert_eq!(status.pgmap.bytes_total, 6 << 30);
    let size = cluster.mon_query("osd pool get", json!({ "pool": "two", "var": "size" })).unwrap();
    assert_eq!(size["size"], 2);
    cluster.create_pool("three").unwrap();
    for pool in ["one", "two", "three"] {
        rbd_ok(&cluster, &["create", "-p", pool, "-s", "1", "foo"]);
        let info = rbd_ok(&cluster, &["info", &format!("{pool}/foo"), "--format", "json"]);
        assert_eq!(serde_json::from_str::<Value>(&info).unwrap()["features"], json!(["layering"]));
    }
    let up = cluster.osd_tree().unwrap();
    let up = up.nodes.iter().filter(|node| node.status.as_deref() == Some("up"));
    assert_eq!(up.map(|node| node.name.as_str()).collect::<Vec<_>>(), ["osd.0", "osd.1", "osd.2"]);
}

#[test]
fn a_kept_directory_stays_and_must_be_empty_at_first() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new/cluster");
    let wanted = TestCluster::builder().mgr(false).object_store(ObjectStore::Bluestore).keep_directory(&path);
    let cluster = wanted.clone().start().unwrap();
    assert_eq!(cluster.directory(), path.canonicalize().unwrap());
    let pid = cluster.pid(Daemon::Osd(0)).unwrap();
    cluster.stop().unwrap();
    assert!(is_gone(pid) && path.join("log/osd.0.log").is_file() && path.join("ceph.conf").is_file());
    let error = wanted.start().unwrap_err().to_string();
    assert!(error.ends_with("is not empty; a new cluster needs its own"), "{error}");
}

#[test]
fn unusable_directories_are_refused_and_not_left() {
    let parent = tempfile::tempdir().unwrap();
    for (name, reason) in [("x".repeat(120), "is too long for sockets"), ("a $name".into(), "has characters")]
    {
        let output = Command::new(PROGRAM)
            .args(["run", "--", "true"])
            .env("TMPDIR", {
                let path = parent.path().join(name);
                std::fs::create_dir(&path).unwrap();
                path
            })
            .output()
            .unwrap();
        assert!(
            !output.status.success() && text(&output.stderr).contains(reason),
            "{}",
            text(&output.stderr)
        );
    }
    for directory in std::fs::read_dir(parent.path()).unwrap() {
        assert!(is_empty(&directory.unwrap().path()));
    }
}

#[test]
fn one_cluster_is_shared_by_all_callers() {
    let other = std::thread::spawn(|| std::ptr::from_ref(shared()).addr());
    let own = shared();
    assert_eq!(other.join().unwrap(), std::ptr::from_ref(own).addr());
    assert!(own.status().unwrap().is_healthy());
}
