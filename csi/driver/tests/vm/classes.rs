//! What a class and a pod ask for is done on the node: options, features, modes, growing.

use rbd::features::Features;
use rbd_csi::proto::csi::{CapacityRange, ControllerExpandVolumeRequest};

use super::driver::{Driver, MIB, create, secrets};
use super::node::Node;

async fn grow(driver: &Driver, id: &str, mib: i64) -> String {
    let request = ControllerExpandVolumeRequest {
        volume_id: id.into(),
        capacity_range: Some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
        secrets: secrets(),
        volume_capability: None,
    };
    driver.controller.clone().controller_expand_volume(request).await.unwrap();
    (mib * MIB).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_class_asks_for_is_done() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, 3);
    let volume = async |name: &str, mib: i64| driver.create(create(name, mib)).await.unwrap().volume_id;
    let label = |device: &str| node.sh(&format!("blkid -o value -s LABEL {device}"));

    // Options of the kernel's client, of mkfs and of the mount, for both file systems.
    for (system, mib, option) in [("ext4", 64, "-L label-ext4 -m 0"), ("xfs", 512, "-L label-xfs")] {
        let id = volume(system, mib).await;
        let (system_of, mkfs) =
            (format!("csi.storage.k8s.io/fstype={system}"), format!("mkfsOptions={option}"));
        let more = [
            "--file-system",
            system,
            "--parameter",
            &system_of,
            "--parameter",
            &mkfs,
            "--parameter",
            "mapOptions=krbd:queue_depth=64;nbd:timeout=7",
            "--mount-flag",
            "noatime,sync",
        ];
        node.staged(&id, system, &more);
        let (stage, pod) = (format!("/stage/{system}"), format!("/pod/{system}"));
        node.ok(&["publish", &id, &stage, &pod, "--file-system", system]);
        assert_eq!(label("/dev/rbd0"), format!("label-{system}"));
        let config = node.sh("cat /sys/bus/rbd/devices/0/config_info");
        assert!(config.contains("queue_depth=64") && !config.contains("timeout=7"), "{config}");
        let mount = node.sh(&format!("grep ' /pod/{system} ' /proc/self/mounts"));
        assert!(mount.contains(&format!(" {system} rw,sync,nosuid,nodev,noatime")), "{mount}");

        // A pod may read only, while another one writes. Each unpublishes for itself.
        let read_only = format!("/pod/{system}-reader");
        for _ in 0..2 {
            node.ok(&[
                "publish",
                &id,
                &format!("/stage/{system}"),
                &read_only,
                "--file-system",
                system,
                "--read-only",
            ]);
        }
        node.sh(&format!("echo text > /pod/{system}/file"));
        assert_eq!(node.sh(&format!("cat {read_only}/file")), "text");
        assert_eq!(node.sh(&format!("echo x 2>/dev/null > {read_only}/file || echo refused")), "refused");
        // It grows also if a pod that reads only is asked about, as the kubelet does.
        let bytes = grow(&driver, &id, mib + 128).await;
        let staging = format!("/stage/{system}");
        assert_eq!(node.ok(&["expand", &id, &read_only, &bytes, "--staging", &staging]), bytes);
        let usage = node.ok(&["stats", &id, &read_only]);
        assert!(usage.split(' ').nth(1).unwrap().parse::<i64>().unwrap() > mib * MIB, "{usage}");
        node.ok(&["unpublish", &id, &read_only]);
        assert_eq!(node.sh(&format!("cat /pod/{system}/file; ls /pod")), format!("text\n{system}"));

        // It grows while it is used, and the same request again changes nothing.
        let bytes = grow(&driver, &id, mib + 256).await;
        for _ in 0..2 {
            assert_eq!(node.ok(&["expand", &id, &format!("/pod/{system}"), &bytes]), bytes);
        }
        let usage = node.ok(&["stats", &id, &format!("/pod/{system}")]);
        let total: i64 = usage.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(total > (mib + 128) * MIB, "{usage}");
        assert!(usage.contains("\nInodes "), "{usage}");
        node.unpublish(&id, system);
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    }

    // A block volume grows, too.
    let block = volume("block", 16).await;
    node.publish(&block, "block", &["--block"]);
    let bytes = grow(&driver, &block, 48).await;
    assert_eq!(node.ok(&["expand", &block, "/pod/block", &bytes]), bytes);
    assert_eq!(node.ok(&["stats", &block, "/pod/block"]), format!("Bytes {bytes} 0 0"));
    node.unpublish(&block, "block");

    // Several nodes may write a block volume; a file system they may not.
    let shared = ["--block", "--mode", "5"];
    node.publish(&block, "block", &shared);
    node.unpublish(&block, "block");
    let error = node.stage(&block, "block", &["--mode", "5"]).unwrap_err();
    assert!(error.starts_with("InvalidArgument") && error.contains("several nodes"), "{error}");

    // A volume for one pod (ReadWriteOncePod) is published once, as a file system and as a block
    // volume.
    let once = volume("once", 32).await;
    for (id, more) in [(&once, &["--mode", "6"][..]), (&block, &["--mode", "6", "--block"])] {
        let publish = |pod: &str| node.call(&[&["publish", id, "/stage/once", pod], more].concat());
        node.staged(id, "once", more);
        publish("/pod/once").unwrap();
        publish("/pod/once").unwrap();
        let error = publish("/pod/other").unwrap_err();
        assert!(error.starts_with("FailedPrecondition") && error.contains("at '/pod/once'"), "{error}");
        node.ok(&["unpublish", id, "/pod/once"]);
        publish("/pod/other").unwrap();
        node.ok(&["unpublish", id, "/pod/other"]);
        node.ok(&["unstage", id, "/stage/once"]);
    }

    // A feature that the kernel lacks is told before the kernel is asked, and disabled only if the
    // class says so.
    let mut request = create("features", 32);
    let features = "layering,exclusive-lock,object-map,fast-diff,journaling";
    request.parameters.insert("imageFeatures".into(), features.into());
    let id = driver.create(request).await.unwrap().volume_id;
    let has = || {
        let image = driver.pool.open("csi-vol-features").read_only(true).run().unwrap();
        image.features().unwrap().contains(Features::JOURNALING)
    };
    let error = node.stage(&id, "features", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("journaling"), "{error}");
    assert!(error.contains("fixFeatures"), "{error}");
    assert!(has() && node.sh("ls /sys/bus/rbd/devices | wc -l") == "0");
    node.staged(&id, "features", &["--parameter", "fixFeatures=true"]);
    assert!(!has());
    node.ok(&["unstage", &id, "/stage/features"]);

    // The settable time for which a node waits for another user is in the text.
    let user = driver.pool.open("csi-vol-features").run().unwrap();
    let error = node.stage(&id, "features", &[]).unwrap_err();
    assert!(error.starts_with("FailedPrecondition") && error.contains("waited 3 s"), "{error}");
    user.close().unwrap();
    node.staged(&id, "features", &[]);
    node.ok(&["unstage", &id, "/stage/features"]);
    node.shutdown();
}
