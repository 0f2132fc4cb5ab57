//! Commands that run in the workspace's root, with errors that name the command.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::hang;

/// Returns the workspace's root, the parent of xtask's directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

/// Returns a command that runs in the workspace's root.
pub(crate) fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Returns a command of the cargo that runs this xtask.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), args)
}

/// Returns a command for a task of this program, even if its file has been replaced meanwhile.
pub(crate) fn xtask(task: &[&str]) -> Command {
    command(OURSELVES, task)
}

/// Returns what `cargo metadata` says about a workspace.
pub(crate) fn metadata(of: &Path, options: &[&str]) -> Result<serde_json::Value> {
    let mut metadata = cargo(["metadata", "--format-version", "1"]);
    let text = read(metadata.args(options).current_dir(of))?;
    serde_json::from_str(&text).context("cargo metadata printed no JSON")
}

const OURSELVES: &str = "/proc/self/exe";

/// Returns the command line.
pub(crate) fn line(command: &Command) -> String {
    let program = match Path::new(command.get_program()) {
        ourselves if ourselves == Path::new(OURSELVES) => "cargo xtask".into(),
        path => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy(),
    };
    std::iter::once(program)
        .chain(command.get_args().map(|word| quoted(word.to_string_lossy())))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: Cow<'_, str>) -> Cow<'_, str> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || "\"'$&|;<>()*".contains(c)) {
        format!("'{}'", word.replace('\'', r"'\''")).into()
    } else {
        word
    }
}

/// Runs a command with our own standard streams. A failed command is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output. A failed command is an error, which contains its
/// standard error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", line(command), output.status, said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print text", line(command)))
}

/// Runs a command, shows its lines at once, and also passes each to `line`: see [`lines`].
pub(crate) fn tee(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    lines(command, |text| {
        anstream::println!("{text}");
        line(text);
    })
}

/// Runs a command and passes its lines to `line` at once. Lines of standard output and standard
/// error arrive in the order in which they were read.
///
/// If no line arrives for ten minutes, it passes lines that say what runs, and where it waits.
///
/// It returns soon after the command itself has ended, even if something that the command started
/// keeps its output open.
pub(crate) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    const LAST_WORDS: Duration = Duration::from_secs(1);
    const FLOOD: Duration = Duration::from_secs(30);
    const SILENCE: Duration = Duration::from_secs(600);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", self::line(command)))?;
    let (sender, lines) = mpsc::channel();
    if let Some(from) = child.stdout.take() {
        pump(from, sender.clone());
    }
    if let Some(from) = child.stderr.take() {
        pump(from, sender);
    }
    let mut ended: Option<(ExitStatus, Instant)> = None;
    let mut heard = Instant::now();
    loop {
        let silent = match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(text) => {
                line(&text);
                heard = Instant::now();
                false
            }
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > SILENCE && ended.is_none() => {
                for text in hang::report(child.id()) {
                    line(&text);
                }
                heard = Instant::now();
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return child.wait().context("cannot wait for a command"),
        };
        match ended {
            Some((status, at)) if at.elapsed() > if silent { LAST_WORDS } else { FLOOD } => {
                return Ok(status);
            }
            Some(_) => {}
            None => ended = child.try_wait()?.map(|status| (status, Instant::now())),
        }
    }
}

/// Sends each line that can be read, from a separate thread, which ends with its input.
fn pump(from: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while matches!(from.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            if lines.send(text).is_err() {
                break;
            }
            bytes.clear();
        }
    });
}

/// Returns whether `PATH` has a program of this name.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_can_be_typed() {
        let typed = line(&command("/usr/bin/rbd", ["create", "it's", "-s", "1024"]));
        assert_eq!(typed, r"rbd create 'it'\''s' -s 1024");
        assert_eq!(line(&xtask(&["tidy"])), "cargo xtask tidy");
    }

    #[test]
    fn tee_sees_both_streams() {
        let mut lines = Vec::new();
        let status =
            tee(&mut command("sh", ["-c", "echo out; echo err >&2; printf 'no end'; exit 4"]), |line| {
                lines.push(line.to_owned());
            })
            .unwrap();
        lines.sort_unstable();
        assert_eq!(lines, ["err", "no end", "out"]);
        assert_eq!(status.code(), Some(4));
    }

    #[test]
    fn tee_does_not_wait_for_what_was_left_behind() {
        let started = Instant::now();
        let mut lines = Vec::new();
        let mut left = command("sh", ["-c", "sleep 60 & echo $!"]);
        assert!(tee(&mut left, |line| lines.push(line.to_owned())).unwrap().success());
        run(&mut command("sh", ["-c", &format!("kill {}", lines.join(" "))])).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = read(&mut command("sh", ["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'echo why >&2; exit 3'` failed: exit status: 3\nwhy");
    }
}
