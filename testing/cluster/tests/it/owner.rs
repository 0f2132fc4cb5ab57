//! Nothing outlives its owner.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rbd_testcluster::ProcessId;
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{children, daemons_of, watchdog_of};
use crate::tools::{PROGRAM, eventually, is_empty};

fn up(directory: &tempfile::TempDir) -> Child {
    Command::new(PROGRAM)
        .args(["up", "--no-mgr"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(id: ProcessId) {
    kill_process(Pid::from_raw(id.pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// Returns the daemons once all are running.
fn wait_for_daemons(owner: &Child) -> Vec<ProcessId> {
    eventually("monitor and OSD run", || daemons_of(owner.id()).len() == 2);
    daemons_of(owner.id())
}

#[test]
fn a_killed_owner_leaves_neither_process_nor_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut owner = up(&directory);
    let daemons = wait_for_daemons(&owner);
    let all: Vec<_> = children(owner.id()).into_iter().map(|(id, _)| id).collect();
    assert!(all.len() > daemons.len(), "a watchdog is there too");
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("all processes are gone", || all.iter().all(|process| !process.is_alive()));
    eventually("the directory is gone", || is_empty(directory.path()));
}

#[test]
fn an_owner_killed_at_any_moment_of_the_start_leaves_nothing() {
    for milliseconds in [30, 100, 200, 300, 450, 600, 800, 1100] {
        let directory = tempfile::tempdir().unwrap();
        let mut owner = up(&directory);
        sleep(Duration::from_millis(milliseconds));
        let all: Vec<_> = children(owner.id()).into_iter().map(|(id, _)| id).collect();
        owner.kill().unwrap();
        owner.wait().unwrap();
        eventually("all processes are gone", || all.iter().all(|process| !process.is_alive()));
        eventually("the directory is gone", || is_empty(directory.path()));
    }
}

#[test]
fn without_the_watchdog_the_kernel_ends_the_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let mut owner = up(&directory);
    let daemons = wait_for_daemons(&owner);
    kill(watchdog_of(owner.id()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the daemons are gone", || daemons.iter().all(|process| !process.is_alive()));
}

#[test]
fn the_watchdog_ends_a_paused_daemon_and_touches_no_other_process() {
    // Only the script, with processes without a parent-death signal.
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let victim_id = ProcessId::of(victim.id()).unwrap();
    let bystander_id = ProcessId::of(bystander.id()).unwrap();
    kill_process(Pid::from_child(&victim), Signal::STOP).unwrap();

    let mut watchdog = Command::new("/bin/sh")
        .args(["-c", include_str!("../../src/watchdog.sh"), "watchdog"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut doomed = String::new();
    BufReader::new(watchdog.stdout.take().unwrap()).read_line(&mut doomed).unwrap();
    std::fs::write(Path::new(doomed.trim()).join("file"), "content").unwrap();
    {
        let pipe = watchdog.stdin.as_mut().unwrap();
        // The bystander has the pid of a daemon that ended long ago.
        let earlier = ProcessId { start: bystander_id.start - 1, ..bystander_id };
        write!(pipe, "watch {victim_id}\nwatch {earlier}\n").unwrap();
    }
    drop(watchdog.stdin.take());
    assert!(watchdog.wait().unwrap().success());
    assert!(is_empty(directory.path()));
    assert!(!victim_id.is_alive());
    assert!(bystander_id.is_alive());
    victim.wait().unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}
