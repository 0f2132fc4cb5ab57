//! The OSD with the exclusive lock does not answer, so that nobody knows whether a handle still has
//! the lock that it has acquired. Another OSD, with the data, answers.

use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use rbd::{Cluster, Features, Image, Queue};
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;

const OBJECT: u64 = 4 << 20;
const OLD: [u8; 4096] = [0xa; 4096];
const NEW: [u8; 4096] = [0xb; 4096];

/// Returns the OSD that serves an object.
fn osd_of(daemons: &TestCluster, object: &str) -> u64 {
    let place = daemons.mon_query("osd map", json!({ "pool": "rbd", "object": object })).unwrap();
    place["acting_primary"].as_u64().unwrap()
}

#[test]
fn nothing_is_written_while_the_lock_is_in_doubt() {
    let daemons = TestCluster::builder().osds(2).mgr(false).start().unwrap();
    let builder = Cluster::builder().ignore_environment(true).conf_file(daemons.conf());
    let pool = builder.osd_timeout(Duration::from_secs(1)).connect().unwrap().ioctx("rbd").unwrap();
    type Write = fn(Image, u64) -> Result<(), String>;
    let ways: [(&str, Write); 5] = [
        ("blocking", |image, at| image.write_all_at(&NEW, at).map_err(|error| error.to_string())),
        ("future", |image, at| {
            image.aio().write(at, Bytes::from_static(&NEW)).wait().map_err(|error| error.to_string())
        }),
        ("discard", |image, at| image.aio().discard(at, OBJECT).wait().map_err(|error| error.to_string())),
        ("pattern", |image, at| {
            image
                .aio()
                .write_same(at, 4096, Bytes::from_static(&[0xb; 512]))
                .wait()
                .map_err(|e| e.to_string())
        }),
        ("queue", |image, at| {
            let mut queue = Queue::new(image, 1).unwrap();
            queue.write(0, at, Bytes::from_static(&NEW)).unwrap();
            loop {
                queue.wait(None).unwrap();
                if let Some(end) = queue.reap() {
                    return end.result.map_err(|error| error.to_string());
                }
            }
        }),
    ];
    let mut images = Vec::new();
    let silent = 0;
    for (name, write) in ways {
        // The ids of images are not known before, so some images have their header elsewhere.
        let image = (0..64).find_map(|attempt| {
            let name = format!("{name}-{attempt}");
            let lock = Features::LAYERING | Features::EXCLUSIVE_LOCK;
            pool.create(&name, 16 * OBJECT).features(lock).run().unwrap();
            let image = pool.open(&name).run().unwrap();
            let header = format!("rbd_header.{}", image.id().unwrap());
            (osd_of(&daemons, &header) == silent).then_some(image)
        });
        let image = image.expect("one of the headers is there");
        let prefix = image.block_name_prefix().unwrap();
        let elsewhere = |object: &u64| osd_of(&daemons, &format!("{prefix}.{object:016x}")) != silent;
        let at = (0..16).find(elsewhere).expect("one of the objects is elsewhere") * OBJECT;
        image.exclusive_lock().acquire().unwrap();
        image.write_all_at(&OLD, at).unwrap();
        images.push((name, image.id().unwrap(), at, image, write));
    }
    daemons.pause(Daemon::Osd(silent as u32)).unwrap();
    // A proof of the lock is valid for 5 s.
    sleep(Duration::from_secs(7));
    let writes = images
        .into_iter()
        .map(|(name, id, at, image, write)| (name, id, at, std::thread::spawn(move || write(image, at))));
    let writes: Vec<_> = writes.collect();
    let ends: Vec<_> =
        writes.into_iter().map(|(name, id, at, write)| (name, id, at, write.join().unwrap())).collect();
    daemons.resume(Daemon::Osd(silent as u32)).unwrap();
    for (name, id, at, end) in ends {
        let error = end.expect_err(name);
        let mut found = [0; 4096];
        pool.open_by_id(&id).read_only(true).run().unwrap().read_exact_at(&mut found, at).unwrap();
        assert!(found == OLD, "{name}: it was written, and failed: {error}");
    }
}
