//! A daemon: its name, start, signals and end.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::IoContext as _;
use crate::process::ProcessId;
use crate::{Error, Result, log, program, supervisor};

/// A daemon of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Daemon {
    /// The monitor.
    Mon,
    /// The manager.
    Mgr,
    /// An object store daemon by its number, from 0.
    Osd(u32),
    /// The daemon that mirrors images between clusters.
    RbdMirror,
}

impl Daemon {
    /// Returns the program that it runs.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Daemon::Mon => "ceph-mon",
            Daemon::Mgr => "ceph-mgr",
            Daemon::Osd(_) => "ceph-osd",
            Daemon::RbdMirror => "rbd-mirror",
        }
    }

    /// Returns the part of its name after the type.
    pub(crate) fn id(self) -> String {
        match self {
            Daemon::Mon | Daemon::RbdMirror => "a".to_owned(),
            Daemon::Mgr => "x".to_owned(),
            Daemon::Osd(number) => number.to_string(),
        }
    }

    /// Returns the entity as which it authenticates.
    pub(crate) fn entity(self) -> String {
        match self {
            Daemon::RbdMirror => "client.rbd-mirror.a".to_owned(),
            _ => self.to_string(),
        }
    }
}

/// The name in Ceph's form: `mon.a`, `osd.0`.
impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Daemon::Mon => "mon",
            Daemon::Mgr => "mgr",
            Daemon::Osd(_) => "osd",
            Daemon::RbdMirror => "rbd-mirror",
        };
        write!(f, "{kind}.{}", self.id())
    }
}

/// A daemon that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) daemon: Daemon,
    pub(crate) id: ProcessId,
    child: Child,
    paused: bool,
}

impl Process {
    /// Starts `daemon` of the cluster in `directory`.
    pub(crate) fn start(daemon: Daemon, directory: &Path) -> Result<Self> {
        let stderr = directory.join("log").join(format!("{daemon}.err"));
        let output = File::options().create(true).append(true).open(&stderr).context("opening", &stderr)?;
        let second = output.try_clone().context("duplicating", &stderr)?;
        let mut command = program::command(daemon.program())?;
        // rbd-mirror makes further connections, and reads the environment for them.
        let conf = directory.join("ceph.conf");
        command.env("CEPH_CONF", &conf).arg("-c").arg(&conf);
        match daemon {
            Daemon::RbdMirror => command.args(["-n", &daemon.entity(), "-f"]),
            _ => command.args(["-i", &daemon.id(), "-f"]),
        };
        command.stdout(output).stderr(second);
        let path = Path::new(daemon.program());
        let child = supervisor::spawn(command).context("starting", path)?;
        // The child was not waited for yet, so the pid is still its own.
        let id = ProcessId::of(child.id()).unwrap_or(ProcessId { pid: child.id(), start: 0 });
        Ok(Self { daemon, id, child, paused: false })
    }

    /// Returns the exit status after it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Fails with the last log lines if it has ended.
    pub(crate) fn check(&mut self, directory: &Path) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(Error::DaemonDied {
                daemon: self.daemon,
                status: status.to_string(),
                log: log::tail(&directory.join("log"), &self.daemon.to_string()),
            }),
        }
    }

    /// Freezes it (SIGSTOP) or resumes it (SIGCONT).
    pub(crate) fn set_paused(&mut self, paused: bool) -> Result<()> {
        self.signal(if paused { Signal::STOP } else { Signal::CONT })?;
        self.paused = paused;
        // A signal takes a while, longer on a busy machine. Waits until every thread is stopped.
        let end = Instant::now() + Duration::from_secs(5);
        while paused && self.ended().is_none() && !self.stands_still() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        threads.into_iter().flatten().flatten().all(|task| {
            // `1234 (ceph-osd) T …`; the name may contain any characters.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" T"))
        })
    }

    /// Stops it, and kills it after `patience`. Returns whether it ended without a kill.
    pub(crate) fn terminate(mut self, patience: Duration) -> Result<bool> {
        self.signal(Signal::TERM)?;
        if self.paused {
            self.set_paused(false)?;
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.ended().is_some() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }

    /// Sends a signal. Only `ended` waits for the child, and keeps its status, so the signal never
    /// reaches another process.
    fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(std::io::Error::from)
            .context("signalling", Path::new(&self.daemon.to_string()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // Does nothing if it ended and was waited for.
        let _ = self.child.wait();
    }
}
