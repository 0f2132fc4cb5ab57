//! No call waits for ever: monitors and OSDs that are frozen. The clusters are the tests' own.

use std::time::{Duration, Instant};

use rbd::Cluster;
use rbd_testcluster::{Daemon, TestCluster};

/// What a call may take at most with all timeouts at 3 s, on a machine that is busy. For ever is
/// longer.
const LIMIT: Duration = Duration::from_secs(30);

fn connect(daemons: &TestCluster) -> Cluster {
    let short = Duration::from_secs(3);
    Cluster::builder()
        .ignore_environment(true)
        .conf_file(daemons.conf())
        .connect_timeout(short)
        .mon_timeout(short)
        .call_timeout(short)
        .connect()
        .unwrap()
}

#[test]
fn a_frozen_monitor_keeps_nobody_waiting_for_ever() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let cluster = connect(&daemons);
    daemons.pause(Daemon::Mon).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let worker = cluster.clone();
    std::thread::spawn(move || {
        let start = Instant::now();
        sender.send(("ioctx", worker.ioctx("nope").map(drop), start.elapsed())).unwrap();
    });
    let (name, outcome, _) = receiver.recv_timeout(LIMIT).expect("an end");
    daemons.resume(Daemon::Mon).unwrap();
    assert!(outcome.unwrap_err().is_timed_out(), "{name}");
}
