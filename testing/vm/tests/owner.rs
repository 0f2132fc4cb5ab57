//! A machine does not outlive its owner.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Returns the QEMU processes that this owner started. They open their initramfs through its
/// descriptors.
fn machines_of(owner: u32) -> Vec<String> {
    let mark = format!("/proc/{owner}/fd/");
    let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&words).replace('\0', " "))
    });
    commands.filter(|command| command.contains("qemu-system") && command.contains(&mark)).collect()
}

/// Starts a process that owns a machine whose command has begun. The agent is stopped, so that the
/// guest does not notice the owner's end and power off.
fn owner(temporary: &std::path::Path) -> Child {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_rbd-testvm"))
        .args(["--", "sh", "-c", "echo up; sleep 1; kill -STOP $PPID; sleep 1000"])
        .env("TMPDIR", temporary)
        .env_remove("CEPH_CONF")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    std::thread::sleep(Duration::from_secs(3));
    owner
}

#[test]
fn a_killed_owner_leaves_no_machine_and_no_file_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut owner = owner(temporary.path());
    assert_eq!(machines_of(owner.id()).len(), 1);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while !machines_of(owner.id()).is_empty() {
        assert!(Instant::now() < until, "{:?}", machines_of(owner.id()));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbd-testvm"));
    command.args(["--rbd", "absent", "--", "sh", "-c", "echo out; echo err >&2; ls -d /sys/bus/rbd; exit 9"]);
    let output = command.env_remove("CEPH_CONF").output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"out\n");
    assert!(output.stderr.starts_with(b"err\nls:"), "{}", String::from_utf8_lossy(&output.stderr));
}
