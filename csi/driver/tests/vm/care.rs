//! What could cost data: an image that is not blank, a note that comes late, a node that was away.

use super::driver::{Driver, create};
use super::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_blank_is_never_formatted() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, 3);
    node.wrap("mke2fs", "echo run >> /formatted; exec $program \"$@\"");
    let runs = || node.sh("cat /formatted 2>/dev/null | wc -l");

    // A block volume has its data where no look at the device's ends finds it.
    let middle = driver.create(create("middle", 32)).await.unwrap().volume_id;
    node.publish(&middle, "middle", &["--block"]);
    node.sh("echo raw | dd of=/pod/middle bs=1M seek=16 conv=notrunc,fsync 2>/dev/null");
    node.unpublish(&middle, "middle");
    let error = node.stage(&middle, "middle", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("it was not formatted"), "{error}");
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    node.publish(&middle, "middle", &["--block"]);
    assert_eq!(node.sh("dd if=/pod/middle bs=1M skip=16 count=1 2>/dev/null | head -c 3"), "raw");
    // Written zeroes are blank.
    node.sh("dd if=/dev/zero of=/pod/middle bs=1M seek=16 count=1 conv=notrunc,fsync 2>/dev/null");
    node.unpublish(&middle, "middle");
    assert_eq!(runs(), "0");
    node.publish(&middle, "middle", &[]);
    assert_eq!(runs(), "1");
    node.sh("echo kept > /pod/middle/file");
    node.unpublish(&middle, "middle");

    // A node that had lost its connection notes late that it formats.
    let image = driver.pool.open("csi-vol-middle").run().unwrap();
    let note = format!("{} yes", image.id().unwrap());
    image.metadata().set("csi.formatting", &note).unwrap();
    image.close().unwrap();
    node.publish(&middle, "middle", &[]);
    assert_eq!(node.sh("cat /pod/middle/file"), "kept");
    assert_eq!(runs(), "1");
    let image = driver.pool.open("csi-vol-middle").read_only(true).run().unwrap();
    assert!(image.metadata().get("csi.formatting").is_err());
    node.unpublish(&middle, "middle");

    // The class mounts it read-only. The same request again changes nothing.
    node.staged(&middle, "middle", &["--mount-flag", "ro"]);
    for _ in 0..2 {
        node.ok(&["publish", &middle, "/stage/middle", "/pod/middle"]);
    }
    assert_eq!(node.sh("echo x 2>/dev/null > /pod/middle/file || echo refused"), "refused");
    node.unpublish(&middle, "middle");

    // A driver that was killed between the two steps of a read-only mount has left the first one.
    node.staged(&middle, "middle", &[]);
    node.sh("mkdir -p /pod/middle; mount -o bind /stage/middle /pod/middle; touch /pod/middle.read-only");
    for _ in 0..2 {
        node.ok(&["publish", &middle, "/stage/middle", "/pod/middle", "--read-only"]);
    }
    assert_eq!(node.sh("echo x 2>/dev/null > /pod/middle/file || echo refused"), "refused");
    assert_eq!(node.sh("grep -c ' /pod/middle ' /proc/self/mounts; ls /pod"), "1\nmiddle");
    node.unpublish(&middle, "middle");
    node.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_looks_again() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, 3);

    // While it formats, another node gets the volume.
    let id = driver.create(create("claim", 32)).await.unwrap().volume_id;
    node.wrap("mke2fs", "touch /begun; while [ ! -e /go ]; do sleep 0.1; done; exec $program \"$@\"");
    node.begin_stage(&id, "claim");
    node.wait_for("-e /begun");
    let other = driver.pool.open("csi-vol-claim").run().unwrap();
    node.sh("touch /go");
    let said = node.end_of_stage();
    assert!(said.starts_with("FailedPrecondition") && said.contains("is in use by"), "{said}");
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l; grep -c /stage/ /proc/self/mounts || true"), "0\n0");
    other.close().unwrap();
    node.publish(&id, "claim", &[]);
    node.sh("echo kept > /pod/claim/file; sync");

    // It is fenced: what it has mapped takes no write any more.
    let image = driver.pool.open("csi-vol-claim").read_only(true).run().unwrap();
    let address = image.other_watchers().unwrap()[0].address.clone();
    driver.pool.cluster().blocklist().add(&address).run().unwrap();
    driver
        .until("the watch is gone", |pool| {
            let image = pool.open("csi-vol-claim").read_only(true).run().unwrap();
            image.other_watchers().unwrap().is_empty()
        })
        .await;
    let error = node.stage(&id, "claim", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("was fenced"), "{error}");
    node.unpublish(&id, "claim");
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");

    // What an interrupted request has mapped is mapped anew: a late clean-up may still want to
    // unmap it.
    node.wrap("blkid", "kill -9 $PPID");
    node.stage(&id, "claim", &[]).unwrap_err();
    node.wrap("blkid", "exec $program \"$@\"");
    let mapped = || node.sh("cat /sys/bus/rbd/devices/*/config_info");
    let left = mapped();
    node.start();
    node.publish(&id, "claim", &[]);
    assert_ne!(mapped(), left);
    assert_eq!(node.sh("cat /pod/claim/file; ls /sys/bus/rbd/devices | wc -l"), "kept\n1");
    node.unpublish(&id, "claim");
    node.shutdown();
}
