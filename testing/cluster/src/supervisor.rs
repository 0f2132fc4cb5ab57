//! The supervisor: no process and no file outlives its owner, even if the owner is killed with
//! SIGKILL.
//!
//! Two mechanisms, each sufficient for the processes:
//!
//! - Every process is started with the parent-death signal set to SIGKILL. The kernel sends it when
//!   the *thread* that started the process ends. So one thread, which lives as long as this
//!   process, starts all of them.
//! - A watchdog, a small shell script in its own session, makes the cluster's directory and reads a
//!   pipe whose other end only the owner has. At the end of input it kills the remaining processes
//!   (it compares start times, so it never kills another process) and removes the directory.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::process::ProcessId;
use crate::raw;

type Job = (Command, Sender<io::Result<Child>>);

/// Starts `command` so that it ends with this process, not with the calling thread.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

    raw::die_with_parent(&mut command);
    let jobs = {
        let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
        match &*spawner {
            Some(jobs) => jobs.clone(),
            None => spawner.insert(start_spawner()?).clone(),
        }
    };
    let (reply, answer) = channel();
    let gone = || io::Error::other("the thread that starts daemons is gone");
    jobs.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Starts the thread, which never ends, because a static keeps a sender.
fn start_spawner() -> io::Result<Sender<Job>> {
    let (jobs, queue) = channel::<Job>();
    thread::Builder::new().name("test cluster".into()).spawn(move || {
        for (mut command, reply) in queue {
            // The caller waits for the answer. If it is gone nevertheless, the child is not needed.
            if let Err(unwanted) = reply.send(command.spawn()) {
                if let Ok(mut child) = unwanted.0 {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        }
    })?;
    Ok(jobs)
}

/// The process that makes a cluster's directory, and cleans up at the end or after its owner was
/// killed.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog. If `parent` is given, it makes a directory there, returns its path, and
    /// removes it at the end. The watchdog itself makes the directory, so the owner's death can
    /// never leave it behind.
    pub(crate) fn start(parent: Option<&Path>) -> io::Result<(Self, PathBuf)> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("watchdog.sh"), "rbd-testcluster-watchdog"])
            .arg(parent.unwrap_or(Path::new("")))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        raw::own_session(&mut command);
        let mut watchdog = Self { shell: command.spawn()? };
        let mut line = Vec::new();
        if let Some(pipe) = watchdog.shell.stdout.take() {
            BufReader::new(pipe).read_until(b'\n', &mut line)?;
        }
        let mut errors = watchdog.shell.stderr.take();
        if line.pop().is_none() {
            let mut reason = String::new();
            if let Some(pipe) = &mut errors {
                pipe.read_to_string(&mut reason)?;
            }
            return Err(io::Error::other(reason.trim().to_owned()));
        }
        Ok((watchdog, PathBuf::from(OsString::from_vec(line))))
    }

    /// Makes the watchdog kill `process` if the owner dies.
    pub(crate) fn watch(&self, process: ProcessId) -> io::Result<()> {
        self.tell(&format!("watch {process}\n"))
    }

    /// Sends a line. One short write is atomic, so threads need no lock.
    fn tell(&self, line: &str) -> io::Result<()> {
        let Some(pipe) = &self.shell.stdin else { return Ok(()) };
        (&mut &*pipe).write_all(line.as_bytes())
    }
}

impl Drop for Watchdog {
    /// Removes the directory, and waits for that. All processes have ended.
    fn drop(&mut self) {
        let _ = self.tell("done\n");
        self.shell.stdin = None;
        let _ = self.shell.wait();
    }
}
