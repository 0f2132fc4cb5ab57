//! Programs that tests run. Each has a limit of time, because librbd can hang the `rbd` command
//! when it closes an image.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Runs a program without input to its end, and returns its output. A program that takes longer
/// than five minutes is killed: then its status is a signal, and its standard error says where it
/// waited.
pub(crate) fn output(command: &mut Command) -> Output {
    output_within(Duration::from_secs(300), command)
}

/// As [`output`], with another limit.
///
/// The output goes to files: a pipe would stay open as long as anything that the program started.
pub(crate) fn output_within(limit: Duration, command: &mut Command) -> Output {
    let [mut out, mut error] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let [to_out, to_error] = [&out, &error].map(|file| Stdio::from(file.try_clone().unwrap()));
    let mut child = command.stdin(Stdio::null()).stdout(to_out).stderr(to_error).spawn().unwrap();
    let start = Instant::now();
    let mut hangs = None;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if hangs.is_none() && start.elapsed() > limit {
            hangs = Some(format!("\n{command:?} hangs:\n{}", threads(Pid::from_child(&child))));
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(3));
    };
    let mut said = Output { status, stdout: content(&mut out), stderr: content(&mut error) };
    said.stderr.extend(hangs.unwrap_or_default().into_bytes());
    said
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap();
    bytes
}

/// Returns the names of a process's threads, and where in the kernel each of them waits.
fn threads(process: Pid) -> String {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    let read = |task: &Path, file| fs::read_to_string(task.join(file)).unwrap_or_default();
    let tasks = fs::read_dir(tasks).into_iter().flatten().flatten().map(|task| task.path());
    tasks.map(|task| format!("{} {}\n", read(&task, "comm").trim(), read(&task, "wchan"))).collect()
}

#[test]
fn a_program_that_hangs_is_killed_and_says_where_it_waited() {
    let mut sleep = Command::new("sh");
    let said = output_within(Duration::from_millis(300), sleep.args(["-c", "echo first; sleep 60 & wait"]));
    let error = String::from_utf8(said.stderr).unwrap();
    assert_eq!((said.status.code(), &said.stdout[..]), (None, &b"first\n"[..]), "{error}");
    assert!(error.contains("sleep 60") && error.contains("hangs:\nsh "), "{error}");
    let said = output(Command::new("sh").args(["-c", "echo out; echo error >&2; exit 3"]));
    assert_eq!(
        (said.status.code(), &said.stdout[..], &said.stderr[..]),
        (Some(3), &b"out\n"[..], &b"error\n"[..])
    );
}
