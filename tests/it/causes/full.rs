//! A full cluster: what frees space works, and at once.

use std::time::{Duration, Instant};

use rbd::{Cluster, Features};
use rbd_testcluster::TestCluster;

#[test]
fn images_are_removed_from_a_full_cluster() {
    let daemons = TestCluster::builder().start().unwrap();
    let cluster = Cluster::builder()
        .ignore_environment(true)
        .conf_file(daemons.conf())
        .osd_timeout(Duration::from_secs(8))
        .connect()
        .unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    for name in ["one", "two", "three"] {
        pool.create(name, 8 << 20).features(Features::LAYERING).run().unwrap();
        pool.open(name).run().unwrap().write_all_at(&[1; 4096], 0).unwrap();
    }
    pool.trash().add("three").run().unwrap();
    pool.create("filler", 64 << 20).features(Features::LAYERING).run().unwrap();
    pool.open("filler").run().unwrap().write_all_at(&vec![1; 32 << 20], 0).unwrap();
    for (which, ratio) in [("nearfull", 0.0001), ("backfillfull", 0.0002), ("full", 0.0003)] {
        let command = format!(r#"{{"prefix": "osd set-{which}-ratio", "ratio": {ratio}}}"#);
        cluster.mon_command(&command, &[]).unwrap();
    }
    // The OSD tells of its state when it next looks at it.
    let until = Instant::now() + Duration::from_secs(60);
    let is_full = || {
        let dump = cluster.mon_command(r#"{"prefix": "osd dump", "format": "json"}"#, &[]).unwrap();
        let dump: serde_json::Value = serde_json::from_slice(&dump).unwrap();
        dump["pools"]
            .as_array()
            .unwrap()
            .iter()
            .any(|pool| pool["flags_names"].as_str().unwrap().contains("full"))
    };
    while !is_full() {
        assert!(Instant::now() < until, "the cluster is full");
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.wait_for_latest_osdmap().unwrap();
    let start = Instant::now();
    pool.remove("one").run().unwrap();
    pool.trash().add("two").run().unwrap();
    for entry in pool.trash().list().unwrap() {
        pool.trash().remove(&entry.id).run().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    pool.remove("filler").run().unwrap();
    assert_eq!(pool.list().unwrap(), []);
    assert_eq!(pool.trash().list().unwrap(), []);
}
