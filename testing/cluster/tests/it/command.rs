//! The program `rbd-testcluster`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rbd_testcluster::ProcessId;
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{children, daemons_of};
use crate::tools::{PROGRAM, eventually, is_empty, text};

#[test]
fn run_returns_the_exit_code_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let script = "[ \"$RBD_TEST_CONF\" = \"$CEPH_CONF\" ] && rbd create -s 1 foo && rbd ls && exit 7";
    let output = Command::new(PROGRAM)
        .args(["run", "--no-mgr", "--", "sh", "-c", script])
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "foo\n");
    assert!(is_empty(directory.path()));
}

#[test]
fn run_tells_what_cannot_be_run() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", "--no-mgr", "--", "/nonexistent/command"])
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("/nonexistent/command: No such file or directory"), "{said}");
    assert!(is_empty(directory.path()));
}

#[test]
fn run_forwards_signals() {
    let directory = tempfile::tempdir().unwrap();
    for (signal, code) in [(Signal::TERM, 42), (Signal::INT, 130)] {
        let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
        let mut owner = Command::new(PROGRAM)
            .args(["run", "--no-mgr", "--", "sh", "-c", script])
            .env("TMPDIR", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill_process(Pid::from_child(&owner), signal).unwrap();
        assert_eq!(owner.wait().unwrap().code(), Some(code));
        assert!(is_empty(directory.path()));
    }
}

#[test]
fn up_status_down() {
    let directory = tempfile::tempdir().unwrap();
    let program = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("TMPDIR", directory.path()).env_remove("CEPH_CONF");
        command
    };
    let none = program(&["status"]).output().unwrap();
    assert!(text(&none.stderr).contains("no cluster is up"), "{}", text(&none.stderr));

    let mut owner = program(&["up", "--osds", "2", "--pool", "a", "--pool", "b", "-o", "osd:debug_osd=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let conf = line.trim().strip_prefix("export CEPH_CONF=").unwrap().to_owned();
    assert!(std::fs::read_to_string(&conf).unwrap().contains("debug_osd = 1"));
    let processes: Vec<ProcessId> = daemons_of(owner.id());
    assert_eq!(processes.len(), 4, "{:?}", children(owner.id()));

    // The manager's statistics of new placement groups are some seconds late.
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status = program(&["status"]).output().unwrap();
        let status = text(&status.stdout);
        if status.contains("16 active+clean") || Instant::now() > end {
            break status;
        }
    };
    for part in ["health: HEALTH_OK", "osd: 2 osds: 2 up, 2 in", "16 active+clean", "root default", "osd.1"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    let fsid = Command::new("ceph").args(["-c", &conf, "fsid"]).output().unwrap();
    assert!(status.contains(text(&fsid.stdout).trim()), "{status}");

    let down = program(&["down"]).output().unwrap();
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(owner.wait().unwrap().success());
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert!(is_empty(directory.path()));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", "--no-mgr", "-o", "osd:osd data=/nonexistent/data", "--", "true"])
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("No such file or directory"), "{}", text(&output.stderr));
    assert!(is_empty(directory.path()));
}

#[test]
fn a_terminated_start_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut owner = Command::new(PROGRAM)
        .arg("up")
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the first daemon runs", || !daemons_of(owner.id()).is_empty());
    let all: Vec<_> = children(owner.id()).into_iter().map(|(id, _)| id).collect();
    kill_process(Pid::from_child(&owner), Signal::TERM).unwrap();
    owner.wait().unwrap();
    eventually("all processes are gone", || all.iter().all(|process| !process.is_alive()));
    eventually("the directory is gone", || is_empty(directory.path()));
}
