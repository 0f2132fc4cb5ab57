//! A full cluster: calls that free space work at once.

use std::time::{Duration, Instant};

use rbd::{Cluster, ErrorKind, Features};
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
    fill(&cluster);
    let start = Instant::now();
    pool.remove("one").run().unwrap();
    pool.remove("filler").run().unwrap();
    pool.trash().add("two").run().unwrap();
    for entry in pool.trash().list().unwrap() {
        pool.trash().remove(&entry.id).run().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(pool.list().unwrap(), []);
    assert_eq!(pool.trash().list().unwrap(), []);
}

/// Makes the cluster full: writes an image and lowers the full ratio.
fn fill(cluster: &Cluster) {
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("filler", 64 << 20).features(Features::LAYERING).run().unwrap();
    pool.open("filler").run().unwrap().write_all_at(&vec![1; 32 << 20], 0).unwrap();
    for (which, ratio) in [("nearfull", 0.0001), ("backfillfull", 0.0002), ("full", 0.0003)] {
        let command = format!(r#"{{"prefix": "osd set-{which}-ratio", "ratio": {ratio}}}"#);
        cluster.mon_command(&command, &[]).unwrap();
    }
    // The OSD reports its state at its next check.
    let until = Instant::now() + Duration::from_secs(60);
    let is_full = || {
        let dump = cluster.mon_command(r#"{"prefix": "osd dump", "format": "json"}"#, &[]).unwrap();
        let dump: serde_json::Value = serde_json::from_slice(&dump).unwrap();
        dump["pools"]
            .as_array()
            .unwrap()
            .iter()
            // Not `nearfull`, which comes first.
            .any(|pool| pool["flags_names"].as_str().unwrap().split(',').any(|flag| flag == "full"))
    };
    while !is_full() {
        assert!(Instant::now() < until, "the cluster is full");
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.wait_for_latest_osdmap().unwrap();
}

/// A handle opened for a full cluster frees space by discards, by removing snapshots and by
/// shrinking, on each path. Its writes fail at once.
#[test]
fn a_handle_frees_space_on_a_full_cluster() {
    let daemons = TestCluster::builder().start().unwrap();
    let builder = Cluster::builder().ignore_environment(true).conf_file(daemons.conf());
    let cluster = builder.call_timeout(Duration::from_secs(20)).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let masks = [("plain", Features::LAYERING), ("default", Features::DEFAULT)];
    for (name, features) in masks {
        pool.create(name, 32 << 20).features(features).run().unwrap();
        let image = pool.open(name).run().unwrap();
        for object in 0..8 {
            image.write_all_at(&[1; 4096], object << 22).unwrap();
        }
        image.snapshots().create("s").run().unwrap();
        image.write_all_at(&[2; 4096], 0).unwrap();
        image.close().unwrap();
    }
    fill(&cluster);
    for (name, _) in masks {
        let opened = pool.open(name).free_when_full(true).run();
        let image = opened.unwrap_or_else(|error| panic!("{name}: {error:#}"));
        image.snapshots().remove("s").run().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        image.discard(0, 4 << 20).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        image.aio().discard(4 << 20, 4 << 20).wait().unwrap();
        image.write_zeroes(8 << 20, 4 << 20).unwrap();
        let error = image.write_all_at(&[3; 4096], (12 << 20) + (1 << 16)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::QuotaExceeded, "{name}: {error}");
        image.resize(16 << 20).allow_shrink(true).run().unwrap();
        image.close().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// A write that librbd's cache acknowledged fails because of a quota. Each way of closing reports
/// it.
#[test]
fn closing_reports_a_quota() {
    let daemons = TestCluster::builder().start().unwrap();
    let builder = Cluster::builder().ignore_environment(true).conf_file(daemons.conf());
    let cluster = builder.option("rbd_cache_policy", "writeback").connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let names = ["close", "start_close", "queue", "cursor"];
    let images = names.map(|name| {
        pool.create(name, 8 << 20).features(Features::LAYERING).run().unwrap();
        let image = pool.open(name).free_when_full(true).run().unwrap();
        // The first flush turns the cache on.
        image.write_all_at(&[1; 4096], 0).unwrap();
        image.flush().unwrap();
        (name, image)
    });
    let quota = r#"{"prefix": "osd pool set-quota", "pool": "rbd", "field": "max_objects", "val": "1"}"#;
    cluster.mon_command(quota, &[]).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let data = || bytes::Bytes::from_static(&[2; 4096]);
    while cluster
        .mon_command(r#"{"prefix": "health", "detail": "detail", "format": "json"}"#, &[])
        .is_ok_and(|health| !String::from_utf8_lossy(&health).contains("POOL_FULL"))
    {
        assert!(Instant::now() < until, "the pool is full");
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.wait_for_latest_osdmap().unwrap();
    for (name, image) in images {
        let closed = match name {
            "close" => {
                image.write_all_at(&data(), 4 << 20).unwrap();
                image.close()
            }
            "start_close" => {
                image.aio().write(4 << 20, data()).wait().unwrap();
                image.start_close().wait()
            }
            "queue" => {
                let mut queue = rbd::Queue::new(image, 4).unwrap();
                queue.write(1, 4 << 20, data()).unwrap();
                while queue.in_flight() > 0 {
                    queue.wait(None).unwrap();
                    while let Some(end) = queue.reap() {
                        end.result.unwrap();
                    }
                }
                queue.close()
            }
            _ => crate::support::block_on(async {
                let mut cursor = rbd::aio::AsyncCursor::new(image);
                let behind = std::io::SeekFrom::Start(4 << 20);
                tokio::io::AsyncSeekExt::seek(&mut cursor, behind).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut cursor, &data()).await.unwrap();
                let shut = tokio::io::AsyncWriteExt::shutdown(&mut cursor).await;
                shut.map_err(|error| *error.into_inner().unwrap().downcast().unwrap())
            }),
        };
        let error = closed.expect_err(name);
        assert_eq!(*error.kind(), ErrorKind::QuotaExceeded, "{name}: {error}");
    }
}
