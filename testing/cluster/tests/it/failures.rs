//! Failures report their reason and leave nothing behind.

use std::net::TcpListener;

use rbd_testcluster::{Access, Daemon, Error, TestCluster};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::tools::{eventually, rbd_ok, small};

#[test]
fn a_failed_data_directory_is_reported_with_the_tools_reason() {
    let wanted = TestCluster::builder().mgr(false).section_option("osd", "osd data", "/nonexistent/data");
    let error = wanted.start().unwrap_err();
    assert!(
        matches!(&error, Error::ToolFailed { command, .. } if command.starts_with("ceph-osd")),
        "{error}"
    );
    assert!(error.to_string().contains("No such file or directory"), "{error}");
}

#[test]
fn a_daemon_that_dies_at_its_start_is_reported_with_its_log() {
    // An address that no machine can have (class E).
    let wanted = TestCluster::builder()
        .mgr(false)
        .section_option("osd.0", "public addr", "240.0.0.1")
        .section_option("osd.0", "ms bind retry count", 1)
        .section_option("osd.0", "ms bind retry delay", 0);
    let error = wanted.start().unwrap_err();
    assert!(matches!(error, Error::DaemonDied { daemon: Daemon::Osd(0), .. }), "{error}");
    assert!(error.to_string().contains("Cannot assign requested address"), "{error}");
}

#[test]
fn a_daemon_that_dies_later_is_reported_by_the_check() {
    let cluster = small();
    let pid = cluster.pid(Daemon::Osd(0)).unwrap();
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::ABORT).unwrap();
    eventually("the death is seen", || cluster.check().is_err());
    let error = cluster.check().unwrap_err().to_string();
    assert!(error.starts_with("osd.0 ended unexpectedly (signal: 6 (SIGABRT)"), "{error}");
    assert!(error.contains("Caught signal (Aborted)"), "{error}");
}

#[test]
fn a_port_that_is_lost_before_the_monitor_starts_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("cluster");
    // Takes the monitor's port as soon as the configuration names it. The data directories are made
    // after that.
    let thief = std::thread::spawn({
        let conf = path.join("ceph.conf");
        move || loop {
            let text = std::fs::read_to_string(&conf).unwrap_or_default();
            let port =
                text.split("v2:127.0.0.1:").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
            if let Some(port) = port {
                break TcpListener::bind(("127.0.0.1", port)).unwrap();
            }
        }
    });
    let cluster = TestCluster::builder().mgr(false).keep_directory(&path).start().unwrap();
    let stolen = thief.join().unwrap().local_addr().unwrap().to_string();
    assert_ne!(cluster.monitor_addresses().v2, stolen);
    assert_eq!(rbd_ok(&cluster, &["ls"]), "");
}

#[test]
fn full_port_ranges_are_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = TestCluster::builder().monitor_ports(port..=port).start().unwrap_err().to_string();
    assert!(error.starts_with(&format!("no free port on 127.0.0.1 in {port}-{port}")), "{error}");
}

#[test]
fn a_refused_command_contains_the_monitors_message() {
    let cluster = small();
    let error = cluster.mon_query("osd pool frobnicate", Value::Null).unwrap_err();
    assert!(matches!(&error, Error::MonCommand { errno: 22, .. }), "{error}");
    assert!(error.to_string().starts_with("the monitor command `osd pool frobnicate` failed:"), "{error}");
}

#[test]
fn a_missing_configuration_is_reported() {
    let error = Access::new("/nonexistent/ceph.conf").status().unwrap_err().to_string();
    assert!(error.contains("reading the configuration on /nonexistent/ceph.conf"), "{error}");
}
