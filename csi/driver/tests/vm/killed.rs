//! The driver is killed between any two steps. The same request converges: nothing is formatted
//! twice, no mapping is lost or doubled.

use super::driver::{Driver, create};
use super::node::{Node, PROGRAMS};

/// Seconds that staging waits for other users. When the kernel unmaps an image for a process that
/// is killed, the OSD may keep the watch of the former mapping for 30 s.
const WAIT: u32 = 45;

/// Puts a wrapper before each program that the driver runs: at a chosen one it kills the driver,
/// and runs the program or not.
fn wrap(node: &Node) {
    node.sh("mkdir -p /wrap /count");
    for program in PROGRAMS {
        let name = program.rsplit('/').next().unwrap();
        node.sh(&format!(
            "cat > /wrap/{name} <<'END'\n\
             #!/bin/sh\n\
             echo run >> /count/{name}\n\
             if [ -e /kill/{name}-before ]; then rm /kill/{name}-before; kill -9 $PPID; exit 1; fi\n\
             if [ -e /kill/{name}-within ]; then\n\
               rm /kill/{name}-within; kill -9 $PPID\n\
               for device in /dev/rbd?; do\n\
                 dd if=/dev/urandom of=$device bs=4k count=64 conv=fsync 2>/dev/null\n\
               done\n\
               exit 1\n\
             fi\n\
             if [ -e /kill/{name}-after ]; then\n\
               rm /kill/{name}-after; {program} \"$@\"; kill -9 $PPID; exit 1\n\
             fi\n\
             exec {program} \"$@\"\n\
             END\n\
             chmod +x /wrap/{name}"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_goes_on_where_it_was_killed() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, WAIT);
    wrap(&node);
    let points = [
        "blkid-before",
        "blkid-after",
        "mke2fs-before",
        "mke2fs-within",
        "mke2fs-after",
        "e2fsck-before",
        "e2fsck-after",
        "resize2fs-before",
        "resize2fs-after",
    ];
    for point in points {
        let id = driver.create(create(point, 32)).await.unwrap().volume_id;
        if point.starts_with("e2fsck") || point.starts_with("resize2fs") {
            // These run where a file system is there already.
            node.publish(&id, point, &[]);
            node.sh(&format!("echo kept > /pod/{point}/file"));
            node.unpublish(&id, point);
        }
        node.sh(&format!("rm -f /count/mke2fs; mkdir -p /kill; touch /kill/{point}"));
        let error = node.stage(&id, point, &[]).expect_err(point);
        assert_eq!(node.sh("ls /kill"), "", "{point} was not reached: {error}");
        node.start();
        node.publish(&id, point, &[]);
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "1", "{point}");
        assert_eq!(node.sh(&format!("grep -c ' /pod/{point} ' /proc/self/mounts")), "1", "{point}");
        assert_eq!(node.sh(&format!("grep -c ' /stage/{point} ' /proc/self/mounts")), "1", "{point}");
        if point.starts_with("e2fsck") || point.starts_with("resize2fs") {
            assert_eq!(node.sh(&format!("cat /pod/{point}/file")), "kept", "{point}");
            assert_eq!(node.sh("cat /count/mke2fs 2>/dev/null | wc -l"), "0", "{point}");
        }
        // Used once, it is never formatted again, whatever kills the driver now.
        node.sh(&format!("echo used > /pod/{point}/used; rm -f /count/mke2fs"));
        node.sh("kill -9 $(pidof rbd-csi)");
        node.start();
        node.publish(&id, point, &[]);
        node.unpublish(&id, point);
        node.publish(&id, point, &[]);
        assert_eq!(node.sh(&format!("cat /pod/{point}/used")), "used", "{point}");
        assert_eq!(node.sh("cat /count/mke2fs 2>/dev/null | wc -l"), "0", "{point}");
        node.unpublish(&id, point);
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0", "{point}");
    }
    node.shutdown();
}

/// Returns how long a call takes on this machine, in seconds.
fn seconds(node: &Node, call: &str) -> f64 {
    let now = "cut -d' ' -f1 /proc/uptime";
    let said = node.sh(&format!("{now}; {call} >/dev/null; {now}"));
    let times: Vec<f64> = said.split_whitespace().map(|time| time.parse().unwrap()).collect();
    times[1] - times[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_killed_at_any_time_converge() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, WAIT);
    let id = driver.create(create("claim", 32)).await.unwrap().volume_id;
    node.publish(&id, "claim", &[]);
    node.sh("echo kept > /pod/claim/file");
    let calls =
        [format!("csi-call unpublish {id} /pod/claim"), format!("csi-call unstage {id} /stage/claim")];
    // A slow machine takes longer for each step, so the times of the kills are parts of the whole.
    let whole = calls.each_ref().map(|call| seconds(&node, call));
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l; ls /pod"), "0", "both calls worked");
    node.publish(&id, "claim", &[]);
    for tenths in 0..=10 {
        for (call, whole) in calls.iter().zip(whole) {
            let wait = whole * f64::from(tenths) / 10.0;
            let kill = format!("sleep {wait:.2}; kill -9 $(pidof rbd-csi)");
            node.sh(&format!("({call} >/dev/null 2>&1 &) ; {kill}; true"));
            node.start();
        }
        node.unpublish(&id, "claim");
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l; ls /pod"), "0", "{tenths} of {whole:?}");
        node.publish(&id, "claim", &[]);
        assert_eq!(node.sh("cat /pod/claim/file"), "kept", "{tenths} of {whole:?}");
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "1", "{tenths} of {whole:?}");
    }
    println!("killed at tenths of {whole:?} s");
    node.unpublish(&id, "claim");
    node.shutdown();
}

/// The kubelet gives up a request that takes long, and makes it again: the driver has gone on with
/// the first one.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_given_up_converge() {
    let driver = Driver::start().await;
    let node = Node::boot("node-1", &driver, WAIT);
    wrap(&node);
    node.sh("mkdir -p /stage/whole");
    let id = driver.create(create("whole", 32)).await.unwrap().volume_id;
    let stage = seconds(&node, &node.stage_line(&id, "whole"));
    let unstage = seconds(&node, &format!("csi-call unstage {id} /stage/whole"));
    for fifths in 0..=5 {
        let part = |whole: f64| format!("timeout -s KILL {:.2}", whole * f64::from(fifths) / 5.0 + 0.01);
        let name = format!("part-{fifths}");
        let id = driver.create(create(&name, 32)).await.unwrap().volume_id;
        node.sh(&format!("mkdir -p /stage/{name}; rm -f /count/mke2fs"));
        node.sh(&format!("{} {} >/dev/null 2>&1 || true", part(stage), node.stage_line(&id, &name)));
        node.publish(&id, &name, &[]);
        assert_eq!(node.sh("wc -l < /count/mke2fs; ls /sys/bus/rbd/devices | wc -l"), "1\n1", "{name}");
        assert_eq!(node.sh(&format!("grep -c ' /stage/{name} ' /proc/self/mounts")), "1", "{name}");
        node.sh(&format!("echo kept > /pod/{name}/file"));
        node.ok(&["unpublish", &id, &format!("/pod/{name}")]);
        node.sh(&format!("{} csi-call unstage {id} /stage/{name} >/dev/null 2>&1 || true", part(unstage)));
        node.ok(&["unstage", &id, &format!("/stage/{name}")]);
        assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0", "{name}");
        node.publish(&id, &name, &[]);
        assert_eq!(node.sh(&format!("cat /pod/{name}/file; wc -l < /count/mke2fs")), "kept\n1", "{name}");
        node.unpublish(&id, &name);
    }
    println!("given up at fifths of {stage} s and {unstage} s");
    node.shutdown();
}
