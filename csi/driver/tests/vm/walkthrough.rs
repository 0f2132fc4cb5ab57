//! The life of a volume on two nodes: staged, published, moved, taken from a dead node.

use rbd_csi::proto::csi::{CapacityRange, ControllerExpandVolumeRequest};

use super::driver::{Driver, MIB, create, from_snapshot, secrets};
use super::node::Node;

/// A claim's life over two nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_goes_from_node_to_node() {
    let driver = Driver::start().await;
    let volume = driver.create(create("claim", 128)).await.unwrap();
    let id = &*volume.volume_id;
    let (first, second) = (Node::boot("node-1", &driver, 3), Node::boot("node-2", &driver, 3));
    let registration = first.ok(&["--socket", "/registration/reg.sock", "registration"]);
    assert_eq!(registration, "CSIPlugin rbd.csi.ceph.com /csi.sock");

    // Pod 1.
    first.publish(id, "claim", &[]);
    first.sh("echo hello ceph > /pod/claim/file");
    let mounts = first.sh("grep ' /pod/claim ' /proc/self/mounts");
    assert!(mounts.contains(" ext4 rw,nosuid,nodev,"), "{mounts}");
    // The same requests again change nothing.
    first.publish(id, "claim", &[]);
    assert_eq!(first.sh("grep -c ' /pod/claim ' /proc/self/mounts"), "1");
    assert_eq!(first.sh("ls /sys/bus/rbd/devices | wc -l"), "1");
    // Published there already, in another way.
    let error = first.call(&["publish", id, "/stage/claim", "/pod/claim", "--read-only"]).unwrap_err();
    assert!(error.starts_with("AlreadyExists"), "{error}");

    // A second writer is refused, and told by whom.
    let error = second.stage(id, "claim", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("staged on node 'node-1'"), "{error}");
    assert_eq!(second.sh("ls /sys/bus/rbd/devices | wc -l"), "0");

    // It grows while it is used.
    let usage = first.ok(&["stats", id, "/pod/claim"]);
    let total = |usage: &str| usage.split(' ').nth(1).unwrap().parse::<i64>().unwrap();
    assert!(usage.starts_with("Bytes") && total(&usage) < 128 * MIB, "{usage}");
    let request = ControllerExpandVolumeRequest {
        volume_id: id.into(),
        capacity_range: Some(CapacityRange { required_bytes: 256 * MIB, limit_bytes: 0 }),
        secrets: secrets(),
        volume_capability: None,
    };
    driver.controller.clone().controller_expand_volume(request).await.unwrap();
    let bytes = (256 * MIB).to_string();
    assert_eq!(first.ok(&["expand", id, "/pod/claim", &bytes]), bytes);
    let usage = first.ok(&["stats", id, "/pod/claim"]);
    assert!(total(&usage) > 200 * MIB, "{usage}");

    // A snapshot of it while it is used, and a larger volume of the snapshot on the same node.
    first.sh("sync");
    let snapshot = driver.snapshot("snap", id).await.unwrap();
    first.sh("echo later > /pod/claim/file");
    let mut restore = create("restored", 512);
    restore.volume_content_source = from_snapshot(&snapshot.snapshot_id);
    let restored = driver.create(restore).await.unwrap();
    first.publish(&restored.volume_id, "restored", &[]);
    assert_eq!(first.sh("cat /pod/restored/file"), "hello ceph");
    assert!(total(&first.ok(&["stats", &restored.volume_id, "/pod/restored"])) > 400 * MIB);
    first.unpublish(&restored.volume_id, "restored");
    first.sh("echo hello ceph > /pod/claim/file");

    // Pod 1 goes, pod 2 comes on the other node.
    first.unpublish(id, "claim");
    first.unpublish(id, "claim");
    assert_eq!(first.sh("ls /sys/bus/rbd/devices | wc -l; ls /pod"), "0");
    second.publish(id, "claim", &[]);
    assert_eq!(second.sh("cat /pod/claim/file"), "hello ceph");
    second.unpublish(id, "claim");

    // The key is nowhere to be seen: not in the kernel's list of keys, a command line, an
    // environment, a mount, or a file, such as the log.
    for node in [&first, &second] {
        let places = "/proc/keys /proc/mounts /proc/[0-9]*/cmdline /proc/[0-9]*/environ";
        assert_eq!(node.sh(&format!("grep -lFf /canary {places} 2>/dev/null || true")), "");
        let files = "find / -xdev -type f -size -1024k -exec grep -lFf /canary {} +";
        assert_eq!(node.sh(&format!("{files} || true")), "/canary");
        assert_eq!(node.sh("test -s /var/log/driver && echo yes"), "yes");
    }
    first.shutdown();
    second.shutdown();
}

/// Other kinds of volumes, and a node that dies.
#[tokio::test(flavor = "multi_thread")]
async fn block_volumes_xfs_readers_and_a_node_that_dies() {
    let driver = Driver::start().await;
    let (first, second) = (Node::boot("node-1", &driver, 3), Node::boot("node-2", &driver, 3));

    let block = driver.create(create("block", 32)).await.unwrap().volume_id;
    first.publish(&block, "block", &["--block"]);
    assert_eq!(first.sh("test -b /pod/block && echo yes"), "yes");
    first.sh("echo raw | dd of=/pod/block conv=fsync 2>/dev/null");
    first.publish(&block, "block", &["--block"]);
    assert_eq!(first.ok(&["stats", &block, "/pod/block"]), format!("Bytes {} 0 0", 32 * MIB));
    first.unpublish(&block, "block");
    assert_eq!(
        first.sh("ls /sys/bus/rbd/devices | wc -l; ls /pod /stage/block"),
        "0\n/pod:\n\n/stage/block:"
    );
    second.publish(&block, "block", &["--block"]);
    assert_eq!(second.sh("head -c 3 /pod/block"), "raw");
    second.unpublish(&block, "block");
    // Data is never formatted.
    let error = second.stage(&block, "block", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("it was not formatted"), "{error}");
    // What failed leaves no mapping, which would keep the image in use.
    assert_eq!(second.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    assert_eq!(second.ok(&["unstage", &block, "/stage/block"]), "");

    let xfs = driver.create(create("xfs", 512)).await.unwrap().volume_id;
    let options = ["--file-system", "xfs", "--mount-flag", "noatime"];
    first.publish(&xfs, "xfs", &options);
    first.sh("echo hello xfs > /pod/xfs/file");
    let mounts = first.sh("grep ' /pod/xfs ' /proc/self/mounts");
    assert!(mounts.contains(" xfs rw,nosuid,nodev,noatime"), "{mounts}");
    let error = second.stage(&xfs, "xfs", &["--file-system", "ext4"]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition"), "{error}");

    let error = first.stage(&xfs, "xfs", &["--file-system", "ext4"]).unwrap_err();
    assert!(error.starts_with("AlreadyExists") && error.contains("with xfs, not ext4"), "{error}");

    // Many readers.
    first.unpublish(&xfs, "xfs");
    let error = first.stage(&xfs, "xfs", &["--file-system", "ext4"]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("it was not formatted"), "{error}");
    let error = first.stage(&xfs, "xfs", &["--mount-flag", "remount"]).unwrap_err();
    assert!(error.starts_with("InvalidArgument"), "{error}");
    assert_eq!(first.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    let readers = ["--file-system", "xfs", "--mode", "3"];
    for node in [&first, &second] {
        node.publish(&xfs, "xfs", &readers);
        assert_eq!(node.sh("cat /pod/xfs/file"), "hello xfs");
        assert!(node.sh("echo x 2>/dev/null > /pod/xfs/other || echo refused").contains("refused"));
        node.unpublish(&xfs, "xfs");
    }

    // A node dies with a volume. The other one gets it once the dead node is fenced.
    let claim = driver.create(create("claim", 64)).await.unwrap().volume_id;
    first.publish(&claim, "claim", &[]);
    first.sh("echo before > /pod/claim/file; sync");
    drop(first);
    let error = second.stage(&claim, "claim", &[]).unwrap_err();
    assert!(error.contains("staged on node 'node-1'"), "{error}");
    // The error has the command.
    let address = error.split_once("`ceph osd blocklist add ").unwrap().1.split_once('`').unwrap().0;
    driver.pool.cluster().blocklist().add(&address.parse().unwrap()).run().unwrap();
    let mut staged = second.stage(&claim, "claim", &[]);
    for _ in 0..20 {
        if staged.is_ok() {
            break;
        }
        staged = second.stage(&claim, "claim", &[]);
    }
    staged.unwrap();
    assert_eq!(second.sh("cat /stage/claim/file"), "before");
    second.ok(&["unstage", &claim, "/stage/claim"]);
    second.shutdown();
}
