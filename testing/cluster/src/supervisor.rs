//! Nothing outlives its owner, not even one that was killed with SIGKILL.
//!
//! Two mechanisms, each sufficient for the processes:
//!
//! - Every process is started with the parent-death signal set to SIGKILL. The kernel sends it when the *thread* that
//!   started the process ends, hence one thread that lives as long as this process starts all of them.
//! - A watchdog, a small shell script in a session of its own, reads a pipe whose other end only the owner holds. At the
//!   end of input it kills what is still alive (pids are compared by start time, so no foreign process is ever hit) and
//!   removes the cluster's directory.

use std::io::{self, Write as _};
use std::path::Path;
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
    let gone = |_| io::Error::other("the thread that starts daemons is gone");
    jobs.send((command, reply)).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?
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

/// The process that clears away after a killed owner.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts a watchdog that removes `directory`, if any is given, after the owner died.
    pub(crate) fn start(directory: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("watchdog.sh"), "rbd-testcluster-watchdog"])
            .arg(directory.unwrap_or(Path::new("")))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        raw::own_session(&mut command);
        Ok(Self { shell: command.spawn()? })
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
    /// Dismisses the watchdog; the owner has cleared away itself.
    fn drop(&mut self) {
        let _ = self.tell("done\n");
        self.shell.stdin = None;
        let _ = self.shell.wait();
    }
}
