//! Acknowledged writes are kept, or a flush or close reports the loss: OSDs that stop and return,
//! full pools. The tests have their own clusters.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{Cluster, ErrorKind, Image, Queue};
use rbd_testcluster::{ObjectStore, TestCluster};

const A: [u8; 4096] = [0xa; 4096];
const B: [u8; 4096] = [0xb; 4096];

fn builder(cluster: &TestCluster) -> rbd::ClusterBuilder {
    Cluster::builder().ignore_environment(true).conf_file(cluster.conf())
}

/// Starts a cluster on disk, because a killed OSD in memory would lose its data.
fn on_disk() -> TestCluster {
    TestCluster::builder().object_store(ObjectStore::Bluestore).mgr(false).start().unwrap()
}

fn create(pool: &rbd::IoCtx, name: &str) -> Image {
    pool.create(name, 8 << 20).run().unwrap();
    pool.open(name).run().unwrap()
}

/// Reads until the OSD serves again.
fn content(image: &Image) -> u8 {
    let until = Instant::now() + Duration::from_secs(90);
    let mut found = [0; 4096];
    while let Err(error) = image.read_exact_at(&mut found, 0) {
        assert!(error.is_timed_out() && Instant::now() < until, "{error}");
    }
    found[0]
}

/// Writes on one path. Returns the error, unless the write was acknowledged.
fn write_b(path: &str, image: Image) -> (Image, Option<String>) {
    match path {
        "blocking" => {
            let failed = image.write_all_at(&B, 0).err();
            (image, failed.map(|error| error.to_string()))
        }
        "future" => {
            let failed = image.aio().write(0, Bytes::from_static(&B)).wait().err();
            (image, failed.map(|error| error.to_string()))
        }
        "cursor" => {
            let mut cursor = rbd::image::Cursor::new(image);
            let failed = std::io::Write::write_all(&mut cursor, &B).err();
            (cursor.into_inner(), failed.map(|error| error.to_string()))
        }
        "queue" => {
            let image = std::sync::Arc::new(image);
            let mut queue = Queue::new(std::sync::Arc::clone(&image), 4).unwrap();
            queue.write(1, 0, BytesMut::from(&B[..])).unwrap();
            queue.wait(Duration::from_secs(60)).unwrap();
            let failed = queue.reap().unwrap().result.err();
            drop(queue);
            (std::sync::Arc::into_inner(image).unwrap(), failed.map(|error| error.to_string()))
        }
        _ => unreachable!(),
    }
}

/// With a timeout for OSDs, an acknowledged write is kept, whatever the configuration of librbd's
/// cache. The error of another one says that it can still take effect.
#[test]
fn with_an_osd_timeout_no_acknowledged_write_is_lost() {
    let daemons = on_disk();
    let policies = ["writearound", "writeback", "writethrough", "off"];
    let paths = ["blocking", "future", "cursor", "queue"];
    let mut images = Vec::new();
    for policy in policies {
        let builder = match policy {
            "off" => builder(&daemons).option("rbd_cache", "false"),
            policy => builder(&daemons).option("rbd_cache", "true").option("rbd_cache_policy", policy),
        };
        let cluster = builder.osd_timeout(Duration::from_secs(3)).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap();
        for path in paths {
            let image = create(&pool, &format!("{policy}-{path}"));
            image.write_all_at(&A, 0).unwrap();
            image.flush().unwrap();
            images.push((policy, path, image));
        }
    }
    daemons.kill_osd(0).unwrap();
    let writers: Vec<_> = images
        .into_iter()
        .map(|(policy, path, image)| {
            std::thread::spawn(move || {
                let (image, failed) = write_b(path, image);
                (policy, path, image, failed)
            })
        })
        .collect();
    let images: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    // By then, a write-back that began after the acknowledgement has timed out.
    sleep(Duration::from_secs(8));
    daemons.start_osd(0).unwrap();
    for (policy, path, image, failed) in images {
        let found = content(&image);
        let Some(error) = failed else {
            assert!(found == B[0], "{policy}, {path}: acknowledged, and the image holds {found:#x}");
            continue;
        };
        let said = "an OSD did not answer within 3s (`osd_timeout`); the write may still take effect; check";
        assert!(error.contains(said), "{policy}, {path}: {error}");
    }
}

/// The default, as in Ceph: requests wait until the OSDs answer.
#[test]
fn a_default_connection_has_no_osd_timeout() {
    let cluster = crate::support::builder().connect().unwrap();
    let seconds: f64 = cluster.config().get("rados_osd_op_timeout").unwrap().parse().unwrap();
    assert_eq!(seconds, 0.0);
}

/// A client is fenced, so its writes fail after the acknowledgement. The next flush reports it,
/// however late it begins, and so does closing.
#[test]
fn a_write_that_fails_after_its_acknowledgement_is_reported() {
    let space = crate::support::Space::new();
    for policy in ["default", "writearound", "writeback", "writethrough", "off"] {
        for features in [rbd::Features::LAYERING, rbd::Features::DEFAULT] {
            let builder = crate::support::builder();
            let builder = match policy {
                "default" => builder,
                "off" => builder.option("rbd_cache", "false"),
                policy => builder.option("rbd_cache", "true").option("rbd_cache_policy", policy),
            };
            let cluster = builder.connect().unwrap();
            let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
            let name = crate::support::unique("told");
            pool.create(&name, 8 << 20).features(features).run().unwrap();
            let [first, second] = [(); 2].map(|()| pool.open(&name).run().unwrap());
            let images = [first, second];
            for image in &images {
                image.write_all_at(&A, 0).unwrap();
                image.flush().unwrap();
            }
            space.cluster().blocklist().add(&cluster.address().unwrap()).run().unwrap();
            cluster.wait_for_latest_osdmap().unwrap();
            let write = |image: &Image| {
                let written = image.write_all_at(&B, 0);
                // Also if the size of the image had to be asked for first.
                let told = |error: &rbd::Error| {
                    error.is_blocklisted() && error.to_string().starts_with("cannot write")
                };
                assert!(written.as_ref().err().is_none_or(told), "{policy}, {features}: {written:?}");
                // Long enough that the OSD refuses it before the flush begins.
                sleep(Duration::from_millis(200));
                written.is_ok()
            };
            for image in &images {
                for _ in 0..2 {
                    let (written, flushed) = (write(image), image.flush().is_ok());
                    assert!(!written || !flushed, "{policy}, {features}: write and flush say Ok");
                }
            }
            for (at, image) in images.into_iter().enumerate() {
                let written = write(&image);
                let closed = if at == 0 { image.close() } else { image.start_close().wait() };
                assert!(!written || closed.is_err(), "{policy}, {features}: write and close say Ok");
            }
        }
    }
}

/// The configuration of an image cannot turn the cache that forgets back on.
#[test]
fn an_image_that_turns_the_forgetful_cache_on_is_not_opened() {
    let space = crate::support::Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.config().set("rbd_cache", "true").unwrap();
    let errors = [space.open("foo").run().unwrap_err(), space.open("foo").start().wait().unwrap_err()];
    for error in errors {
        assert_eq!(*error.kind(), rbd::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("policy writearound, which forgets"), "{error}");
    }
    space.open("foo").read_only(true).run().unwrap();
    image.config().set("rbd_cache_policy", "writeback").unwrap();
    space.open("foo").run().unwrap().write_all_at(&A, 0).unwrap();
}

/// Nor can it bring the scheduler back that is used after it was freed.
#[test]
fn an_image_that_turns_the_scheduler_on_is_not_opened() {
    let space = crate::support::Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.config().set("rbd_io_scheduler", "simple").unwrap();
    let id = image.id().unwrap();
    let errors = [
        space.open("foo").run().unwrap_err(),
        space.open("foo").start().wait().unwrap_err(),
        space.open_by_id(&id).run().unwrap_err(),
        space.open_by_id(&id).start().wait().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(*error.kind(), rbd::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("remove the override of rbd_io_scheduler"), "{error}");
    }
    space.open("foo").read_only(true).run().unwrap();
    image.config().remove("rbd_io_scheduler").unwrap();
    space.open("foo").run().unwrap().write_all_at(&A, 0).unwrap();

    // A pool's own configuration applies to each of its images.
    let (_daemons, cluster) = crate::support::own_cluster();
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("foo", 8 << 20).run().unwrap();
    pool.config().set("rbd_io_scheduler", "simple").unwrap();
    crate::support::wait_for_options();
    let error = pool.open("foo").run().unwrap_err();
    assert!(error.to_string().contains("remove the override of rbd_io_scheduler"), "{error}");
}

/// The configuration of an image or a pool overrides that of the connection.
#[test]
fn with_an_osd_timeout_an_image_that_turns_the_cache_on_is_not_opened() {
    let space = crate::support::Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let cluster = crate::support::builder().osd_timeout(Duration::from_secs(60)).connect().unwrap();
    assert_eq!(cluster.config().get("rbd_cache").unwrap(), "false");
    for option in ["rados_osd_op_timeout", "rbd_cache"] {
        let error = cluster.config().set(option, "0").unwrap_err();
        assert_eq!(*error.kind(), rbd::ErrorKind::InvalidInput, "{error}");
    }
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = pool.open("foo").run().unwrap();
    image.config().set("rbd_cache", "true").unwrap();
    let by_run = pool.open("foo").run().unwrap_err();
    let by_start = pool.open("foo").start().wait().unwrap_err();
    for error in [by_run, by_start] {
        assert_eq!(*error.kind(), rbd::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("turns librbd's cache on"), "{error}");
    }
    pool.open("foo").read_only(true).run().unwrap();
    // Without the timeout, a cache that does not forget is allowed.
    image.config().set("rbd_cache_policy", "writeback").unwrap();
    space.open("foo").run().unwrap();
}

/// A fenced client cannot write back: closing reports that, and closes nevertheless.
#[test]
fn closing_reports_lost_writes() {
    closing_reports(crate::support::builder(), "the image is closed; acknowledged writes are on the OSDs");
    closing_reports(
        crate::support::builder().option("rbd_cache", "true").option("rbd_cache_policy", "writeback"),
        "the image is closed, but writes since the last successful flush may be lost",
    );
}

fn closing_reports(builder: rbd::ClusterBuilder, said: &str) {
    let space = crate::support::Space::new();
    let cluster = builder.connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let images = ["blocking", "future"].map(|name| {
        space.create(name, 8 << 20).run().unwrap();
        let image = pool.open(name).run().unwrap();
        image.write_all_at(&A, 0).unwrap();
        image.flush().unwrap();
        image
    });
    space.cluster().blocklist().add(&cluster.address().unwrap()).run().unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
    // Acknowledged or not, its writes are lost.
    images.iter().for_each(|image| drop(image.write_all_at(&B, 0)));
    let [blocking, future] = images;
    for error in [blocking.close().unwrap_err(), future.start_close().wait().unwrap_err()] {
        assert!(error.is_blocklisted() && error.to_string().contains(said), "{error}");
    }
}

/// The error of a fenced client does not warn that another client may fence it.
#[test]
fn closing_a_fenced_lock_says_nothing_of_the_lock() {
    let space = crate::support::Space::new();
    let cluster = crate::support::builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    space.create("foo", 8 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    image.exclusive_lock().acquire().unwrap();
    space.cluster().blocklist().add(&cluster.address().unwrap()).run().unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
    let error = image.close().unwrap_err();
    let text = error.to_string();
    assert!(error.is_blocklisted() && text.contains("connect again"), "{text}");
    assert!(!text.contains("another client that wants the lock"), "{text}");
}

/// Ceph 17 and later know ranges of addresses. Older ones would take one for a client.
#[test]
fn a_range_of_clients_is_fenced_or_refused() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let (admin, victim) = (builder(&daemons).connect().unwrap(), builder(&daemons).connect().unwrap());
    let image = create(&victim.ioctx("rbd").unwrap(), "foo");
    image.write_all_at(&A, 0).unwrap();
    for wrong in ["127.0.0.0", "127.0.0.0/33", "::/129", "localhost/8", "127.0.0.0:0/8", ""] {
        let error = admin.blocklist().add_range(wrong).run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{wrong}: {error}");
    }
    let range = "127.0.0.0/8";
    let added = admin.blocklist().add_range(range).duration(Duration::from_secs(600)).run();
    if Cluster::librbd_version().minor < 17 {
        let error = added.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSupported, "{error}");
        assert!(error.to_string().contains(range) && error.to_string().contains("Ceph 17"), "{error}");
        assert!(admin.blocklist().list().unwrap().is_empty());
        return;
    }
    added.unwrap();
    victim.wait_for_latest_osdmap().unwrap();
    let error = image.write_all_at(&B, 0).and_then(|()| image.flush()).unwrap_err();
    assert!(error.is_blocklisted(), "{error}");
    assert_eq!(admin.blocklist().list().unwrap()[0].address.as_str(), range);
    let longer = admin.blocklist().add_range(range).duration(Duration::from_secs(6000)).run();
    assert!(longer.is_err_and(|error| error.is_already_exists()), "{:?}", admin.blocklist().list());
    admin.blocklist().remove_range(range).unwrap();
    assert!(admin.blocklist().list().unwrap().is_empty());
    admin.blocklist().remove_range(range).unwrap();
}
