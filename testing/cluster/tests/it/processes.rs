//! Queries of processes from outside.

use std::fs;
use std::path::Path;

use rbd_testcluster::ProcessId;

/// Returns the live children of the process `parent`, and their command lines.
pub(crate) fn children(parent: u32) -> Vec<(ProcessId, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Some(pid) = entry.unwrap().file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        if !status.lines().any(|line| line == format!("PPid:\t{parent}")) {
            continue;
        }
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if let Some(id) = ProcessId::of(pid) {
            found.push((id, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// Returns the daemons of a cluster among the children of `parent`.
pub(crate) fn daemons_of(parent: u32) -> Vec<ProcessId> {
    let is_daemon = |line: &str| line.contains("ceph-") && line.contains(" -f ");
    children(parent).into_iter().filter(|(_, line)| is_daemon(line)).map(|(id, _)| id).collect()
}

/// Returns the watchdog among the children of `parent`.
pub(crate) fn watchdog_of(parent: u32) -> ProcessId {
    let mut watchdogs = children(parent);
    watchdogs.retain(|(_, line)| line.contains("rbd-testcluster-watchdog"));
    assert_eq!(watchdogs.len(), 1, "{watchdogs:?}");
    watchdogs[0].0
}

/// Returns whether the process `pid` is gone, and also no zombie.
pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
