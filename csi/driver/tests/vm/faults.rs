//! Faults of a node that need a kernel: the code and the text are clear, and the same request
//! converges.

use std::time::{Duration, Instant};

use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;

use super::driver::{CLUSTER, Driver, User, create};
use super::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_volume_and_a_deleted_image() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, 3);
    let mapped = |node: &Node| node.sh("ls /sys/bus/rbd/devices | wc -l");

    // A file of the volume is open.
    let id = driver.create(create("busy", 32)).await.unwrap().volume_id;
    node.staged(&id, "busy", &[]);
    node.sh("echo kept > /stage/busy/file");
    node.sh("sleep 600 < /stage/busy/file > /dev/null 2>&1 & echo $! > /holder");
    let error = node.call(&["unstage", &id, "/stage/busy"]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("'/stage/busy'"), "{error}");
    assert!(error.contains("files in it are open"), "{error}");
    assert_eq!(mapped(&node), "1");
    // It is still in use, and works.
    node.staged(&id, "busy", &[]);
    node.sh("kill $(cat /holder)");
    node.ok(&["unstage", &id, "/stage/busy"]);
    assert_eq!(mapped(&node), "0");

    // Another program has the device open: what was unmounted stays unmounted.
    node.staged(&id, "block", &["--block"]);
    node.sh("sleep 600 < /dev/rbd0 > /dev/null 2>&1 & echo $! > /holder");
    let error = node.call(&["unstage", &id, "/stage/block"]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("/dev/rbd0"), "{error}");
    assert_eq!(mapped(&node), "1");
    node.sh("kill $(cat /holder)");
    node.ok(&["unstage", &id, "/stage/block"]);
    node.ok(&["unstage", &id, "/stage/block"]);
    assert_eq!(mapped(&node), "0");

    // The image is deleted while it is staged: its header goes, as when an administrator removes it
    // by force.
    let gone = driver.create(create("gone", 32)).await.unwrap().volume_id;
    node.publish(&gone, "gone", &[]);
    let image = gone.rsplit_once(':').unwrap().1;
    driver.pool.objects().remove(&format!("rbd_header.{image}")).unwrap();
    let error = node.stage(&gone, "again", &[]).unwrap_err();
    assert!(error.starts_with("NotFound") && error.contains(image), "{error}");
    node.unpublish(&gone, "gone");
    node.unpublish(&gone, "gone");
    assert_eq!(mapped(&node), "0");
    // It is deleted while it is checked for data before it is formatted: nothing is formatted.
    let gone = driver.create(create("checked", 32)).await.unwrap().volume_id;
    let image = driver.pool.open("csi-vol-checked").run().unwrap();
    let header = format!("rbd_header.{}", image.id().unwrap());
    image.write_all_at(&vec![0; 32 << 20], 0).unwrap();
    // The check reads one object in a second.
    image.config().set("rbd_qos_iops_limit", "1").unwrap();
    image.close().unwrap();
    node.begin_stage(&gone, "checked");
    // The driver writes this note just before the check.
    let noted = |pool: &rbd::IoCtx| {
        let image = pool.open("csi-vol-checked").read_only(true).run().unwrap();
        image.metadata().get("csi.node").is_ok()
    };
    driver.until("the note of the node", noted).await;
    driver.pool.objects().remove(&header).unwrap();
    let error = node.end_of_stage();
    assert!(error.starts_with("NotFound") && error.contains("was not formatted"), "{error}");
    assert_eq!(mapped(&node), "0");
    // The other volume is as it was.
    node.staged(&id, "busy", &[]);
    assert_eq!(node.sh("cat /stage/busy/file"), "kept");
    node.ok(&["unstage", &id, "/stage/busy"]);
    node.shutdown();
}

/// A cluster of its own, with an image, the id of that volume, and a node.
fn own_cluster() -> (TestCluster, String, Node) {
    let daemons = TestCluster::builder().start().unwrap();
    let user = daemons.user("csi", &[("mon", "profile rbd"), ("osd", "profile rbd")]).unwrap();
    let user = User { name: user.id, key: user.key };
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let pool = admin.ioctx("rbd").unwrap();
    pool.create("image", 32 << 20).run().unwrap();
    let image = pool.open("image").read_only(true).run().unwrap().id().unwrap();
    let id = format!("1:{CLUSTER}:{}::{image}", pool.pool_id());
    let config = tempfile::NamedTempFile::new().unwrap();
    let monitors = admin.config().get("mon_host").unwrap();
    std::fs::write(&config, json!([{"clusterID": CLUSTER, "monitors": [monitors]}]).to_string()).unwrap();
    let node = Node::boot_for("node-1", (daemons.conf(), config.path()), &user, 3);
    (daemons, id, node)
}

/// The OSD stops while the node formats. The kernel waits for it without limit, so the request
/// does, too; the same request again is told so, and not begun a second time.
#[test]
fn an_osd_that_stops_and_a_full_pool() {
    let (daemons, id, node) = own_cluster();
    node.wrap("mke2fs", "echo run >> /begun; while [ ! -e /go ]; do sleep 0.1; done; exec $program \"$@\"");
    node.begin_stage(&id, "claim");
    node.wait_for("-e /begun");
    daemons.pause(Daemon::Osd(0)).unwrap();
    node.sh("touch /go");
    let error = node.stage(&id, "claim", &[]).unwrap_err();
    assert!(error.starts_with("Aborted"), "{error}");
    assert!(error.contains("NodeStageVolume") && error.contains("is under way"), "{error}");
    daemons.resume(Daemon::Osd(0)).unwrap();
    assert_eq!(node.end_of_stage(), "");
    node.publish(&id, "claim", &[]);
    node.sh("echo kept > /pod/claim/file");
    assert_eq!(node.sh("wc -l < /begun; ls /sys/bus/rbd/devices | wc -l"), "1\n1");
    node.unpublish(&id, "claim");
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");

    // The pool is full.
    let quota = |objects: u64| {
        let command = json!({
            "prefix": "osd pool set-quota", "pool": "rbd", "field": "max_objects", "val": objects.to_string(),
        });
        daemons.mon_command(&command, &[]).unwrap();
    };
    let is_full = || {
        let dump = daemons.mon_query("osd dump", json!({})).unwrap();
        let flags = dump["pools"][0]["flags_names"].as_str().unwrap_or_default().to_owned();
        flags.split(',').any(|flag| flag == "full")
    };
    quota(1);
    while !is_full() {
        std::thread::sleep(Duration::from_millis(200));
    }
    let error = node.stage(&id, "claim", &[]).unwrap_err();
    assert!(error.starts_with("ResourceExhausted") && error.contains("pool 'rbd' is full"), "{error}");
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    quota(0);
    while is_full() {
        std::thread::sleep(Duration::from_millis(200));
    }
    node.publish(&id, "claim", &[]);
    assert_eq!(node.sh("cat /pod/claim/file; wc -l < /begun"), "kept\n1");
    node.unpublish(&id, "claim");
    node.shutdown();
}

/// The monitor stops: before the driver's first connection, and when there is one.
#[test]
fn a_monitor_that_stops() {
    let (daemons, id, node) = own_cluster();
    let mapped = || node.sh("ls /sys/bus/rbd/devices | wc -l");
    // The kubelet gives up after two minutes, and would show no reason.
    let limit = Duration::from_secs(110);
    for when in ["no connection", "a connection"] {
        daemons.pause(Daemon::Mon).unwrap();
        let begun = Instant::now();
        let error = node.stage(&id, "claim", &[]).unwrap_err();
        let waited = begun.elapsed();
        assert!(error.starts_with("Unavailable"), "{when}: {error}");
        for part in ["cluster 'test-cluster' of the file of clusters", "; check", "monitors", "reachable"] {
            assert!(error.contains(part), "{when}: no '{part}' in: {error}");
        }
        assert!(waited < limit, "{when}: {waited:?}");
        assert_eq!(mapped(), "0", "{when}");
        daemons.resume(Daemon::Mon).unwrap();
        node.staged(&id, "claim", &[]);
        assert_eq!(mapped(), "1", "{when}");
        node.ok(&["unstage", &id, "/stage/claim"]);
        assert_eq!(mapped(), "0", "{when}");
    }
    node.shutdown();
}
