//! The daemons of one cluster and the watchdog over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::{Daemon, Process};
use crate::directory::Directory;
use crate::error::IoContext as _;
use crate::supervisor::Watchdog;
use crate::{Error, Result};

/// How long a daemon may take to stop.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Daemons {
    directory: PathBuf,
    running: BTreeMap<Daemon, Process>,
    watchdog: Arc<Watchdog>,
}

impl Daemons {
    pub(crate) fn new(directory: &Directory) -> Self {
        Self {
            directory: directory.path().to_owned(),
            running: BTreeMap::new(),
            watchdog: directory.watchdog(),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn start(&mut self, daemon: Daemon) -> Result<()> {
        if let Some(process) = self.running.get_mut(&daemon) {
            if process.ended().is_none() {
                return Err(Error::State { daemon, state: "runs already; stop it first" });
            }
        }
        let process = Process::start(daemon, &self.directory)?;
        self.watchdog
            .watch(process.id)
            .context("talking to the watchdog about", Path::new(&daemon.to_string()))?;
        self.running.insert(daemon, process);
        Ok(())
    }

    pub(crate) fn kill(&mut self, daemon: Daemon) -> Result<()> {
        drop(self.take(daemon)?);
        Ok(())
    }

    pub(crate) fn terminate(&mut self, daemon: Daemon) -> Result<()> {
        if self.take(daemon)?.terminate(PATIENCE)? {
            return Ok(());
        }
        Err(Error::State { daemon, state: "did not end within 60 s of SIGTERM and was killed" })
    }

    pub(crate) fn set_paused(&mut self, daemon: Daemon, paused: bool) -> Result<()> {
        match self.running.get_mut(&daemon) {
            Some(process) => {
                process.check(&self.directory)?;
                process.set_paused(paused)
            }
            None => Err(Error::State { daemon, state: "is not running; start it first" }),
        }
    }

    /// Fails with the error of the first daemon that has ended although it was not stopped.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.running.values_mut().try_for_each(|process| process.check(&self.directory))
    }

    pub(crate) fn is_running(&self, daemon: Daemon) -> bool {
        self.running.contains_key(&daemon)
    }

    pub(crate) fn pid(&self, daemon: Daemon) -> Option<u32> {
        self.running.get(&daemon).map(|process| process.id.pid)
    }

    /// Stops every daemon, so that it saves its data, clients of the monitor first.
    pub(crate) fn terminate_all(&mut self) -> Result<()> {
        let all: Vec<_> = self.running.keys().rev().copied().collect();
        all.into_iter().try_for_each(|daemon| self.terminate(daemon))
    }

    fn take(&mut self, daemon: Daemon) -> Result<Process> {
        let state = "is not running; start it first";
        self.running.remove(&daemon).ok_or(Error::State { daemon, state })
    }
}
