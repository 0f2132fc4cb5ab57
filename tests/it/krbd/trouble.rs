//! Dead and frozen daemons under a mapping: every wait ends, and nothing partially mapped remains.
//! The test has its own cluster.

use std::time::{Duration, Instant};

use rbd_testcluster::{Daemon, TestCluster};

use super::guest::{Guest, SOON};

#[test]
fn whatever_is_dead_every_wait_ends_and_nothing_is_left() {
    let cluster = TestCluster::builder().start().unwrap();
    let pool = rbd::Cluster::builder().ignore_environment(true).conf_file(cluster.conf()).connect().unwrap();
    let pool = pool.ioctx("rbd").unwrap();
    pool.create("foo", 64 << 20).run().unwrap();
    let guest = Guest::boot(cluster.conf());

    // Forced removal while writes to a frozen OSD are in flight. The kernel waits for them, but the
    // call does not.
    guest.ok(&["map", "rbd/foo"]);
    let writer =
        guest.0.spawn(["sh", "-c", "exec dd if=/dev/zero of=/dev/rbd0 bs=1M count=32 conv=fsync"]).unwrap();
    guest.sh("until [ $(awk '{print $7}' /sys/block/rbd0/stat) -gt 0 ]; do usleep 50000; done");
    cluster.pause(Daemon::Osd(0)).unwrap();
    let (kind, text) = guest.fails(&["unmap", "/dev/rbd0"]);
    assert!(kind.contains(r#"name: "dd" }"#), "{kind} {text}");
    let start = Instant::now();
    // The process cannot end before its thread leaves the kernel.
    let words = "krbd-guest unmap /dev/rbd0 --force --timeout 5 2>/tmp/said";
    let unmapping = guest.0.spawn(["sh", "-c", words]).unwrap();
    let text = guest.sh("until grep ETIMEDOUT /tmp/said; do usleep 100000; done");
    assert!(text.contains("the kernel still waits for the cluster, and continues to unmap"), "{text}");
    assert!((5..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    cluster.resume(Daemon::Osd(0)).unwrap();
    gone(&guest);
    assert_eq!(unmapping.wait(SOON).unwrap().status.code(), Some(1));
    writer.wait(SOON).unwrap();

    // Mapping while the OSD is frozen, without the preflight, which would wait for it in librbd.
    cluster.pause(Daemon::Osd(0)).unwrap();
    let start = Instant::now();
    let (kind, text) = guest.fails(&["map", "rbd/foo", "--no-preflight", "--timeout", "5"]);
    assert_eq!(kind, "TimedOut", "{text}");
    assert!((4..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    cluster.resume(Daemon::Osd(0)).unwrap();
    gone(&guest);

    // A monitor that accepts connections and does not answer.
    let monitor = cluster.monitor_addresses().v1.to_string();
    let key = cluster.key("admin").unwrap();
    cluster.pause(Daemon::Mon).unwrap();
    let start = Instant::now();
    let given = ["map", "rbd/foo", "--timeout", "6", "--monitors", &monitor, "--key", &key];
    let (kind, text) = guest.fails(&given);
    assert_eq!(kind, "TimedOut", "{text}");
    assert!(text.contains("check that the monitors are up"), "the kernel's answer, not our deadline: {text}");
    assert!((4..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    cluster.resume(Daemon::Mon).unwrap();
    gone(&guest);

    // After all daemons have resumed, the mapping works.
    guest.ok(&["map", "rbd/foo"]);
    guest.ok(&["unmap", "rbd/foo"]);
    drop(guest);
    cluster.stop().unwrap();
}

/// Waits until nothing is mapped, for at most a minute.
fn gone(guest: &Guest) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let left = guest.ok(&["devices"]);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "still mapped: {left}");
    }
}
