//! Ceph's own programs, which check the cluster, and the program of this crate.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rbd_testcluster::{Access, TestCluster};

/// The program of this crate.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_rbd-testcluster");

/// Runs Ceph's `rbd` on the cluster, with a timeout of 30 s instead of none. librbd can hang it
/// when it closes an image; then `timeout` kills it.
pub(crate) fn rbd(cluster: &Access, arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["--signal=KILL", "120", "rbd"])
        .args(arguments)
        .env("CEPH_CONF", cluster.conf())
        .env("CEPH_ARGS", "--client-mount-timeout 30 --rados-mon-op-timeout 30 --rados-osd-op-timeout 30")
        .output()
        .expect("the program rbd")
}

/// Runs Ceph's `rbd`, which must succeed, and returns what it prints.
pub(crate) fn rbd_ok(cluster: &Access, arguments: &[&str]) -> String {
    let output = rbd(cluster, arguments);
    assert!(output.status.success(), "rbd {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts the smallest cluster: without a manager it needs two seconds.
pub(crate) fn small() -> TestCluster {
    TestCluster::builder().mgr(false).start().unwrap()
}

/// Waits up to 20 s until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "still not so after 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}
