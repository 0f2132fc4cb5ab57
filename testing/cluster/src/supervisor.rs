//! Nothing outlives its owner, not even one that was killed with SIGKILL.
//!
//! Two mechanisms, each sufficient for the processes:
//!
//! - Every process is started with the parent-death signal set to SIGKILL. The kernel sends it when
//!   the *thread* that started the process ends, hence one thread that lives as long as this
//!   process starts all of them.
//! - A watchdog, a small shell script in a session of its own, makes the cluster's directory and
//!   reads a pipe whose other end only the owner holds. At the end of input it kills what is still
//!   alive (pids are compared by start time, so no foreign process is ever hit) and removes the
//!   directory.

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

/// Starts `command` such that it dies with this process, whatever becomes of the calling thread.
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

/// The thread never ends: a static keeps a sender.
fn start_spawner() -> io::Result<Sender<Job>> {
    let (jobs, queue) = channel::<Job>();
    thread::Builder::new().name("test cluster".into()).spawn(move || {
        for (mut command, reply) in queue {
            // The caller waits for the answer; if it is gone after all, nobody needs the child.
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

/// The process that makes a cluster's directory, and clears away in the end or after a killed
/// owner.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog. If `parent` is given, it makes a directory in there, which is returned
    /// and goes with it: made by the one who removes it, there is no moment at which the owner's
    /// death could leave it behind.
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

    /// Has the watchdog kill `process` if the owner dies.
    pub(crate) fn watch(&self, process: ProcessId) -> io::Result<()> {
        self.tell(&format!("watch {process}\n"))
    }

    /// One short write is atomic, so threads need no lock.
    fn tell(&self, line: &str) -> io::Result<()> {
        let Some(pipe) = &self.shell.stdin else { return Ok(()) };
        (&mut &*pipe).write_all(line.as_bytes())
    }
}

impl Drop for Watchdog {
    /// Has the directory removed, and waits for it. All processes have ended.
    fn drop(&mut self) {
        let _ = self.tell("done\n");
        self.shell.stdin = None;
        let _ = self.shell.wait();
    }
}
