//! The running cluster, from the side of its owner.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::builder::Builder;
use crate::daemon::Daemon;
use crate::daemons::Daemons;
use crate::directory::Directory;
use crate::ports::Ports;
use crate::ready::{self, Probe};
use crate::{Access, Error, Result};

/// How long the cluster may take to notice that a daemon has stopped or started.
const NOTICE: Duration = Duration::from_secs(60);

/// A real Ceph cluster on loopback. Dropping it ends all daemons and removes its directory.
///
/// It also ends with its process, however that ends, and whichever thread started it. The calls for
/// clients are in [`Access`], to which this dereferences.
#[derive(Debug)]
pub struct TestCluster {
    // The order of the fields is the order of their drops: first our own client, while the monitor
    // runs; then the daemons, before their directory; last the ports.
    access: Access,
    daemons: Mutex<Daemons>,
    directory: Directory,
    _ports: Ports,
    wanted: Builder,
    fsid: String,
    addresses: Addresses,
}

/// The addresses of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// The address for protocol version 2, `127.0.0.1:PORT`.
    pub v2: String,
    /// The address for protocol version 1, which older kernels need. Not used on a cluster
    /// [without](Builder::msgr1) that version.
    pub v1: String,
}

impl Addresses {
    pub(crate) fn new(v2: u16, v1: u16) -> Self {
        Self { v2: format!("127.0.0.1:{v2}"), v1: format!("127.0.0.1:{v1}") }
    }
}

impl Deref for TestCluster {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl TestCluster {
    /// Returns a builder. By default it starts one OSD in memory and one pool called `rbd`.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        wanted: Builder,
        directory: Directory,
        ports: Ports,
        daemons: Daemons,
        access: Access,
        fsid: String,
        addresses: Addresses,
    ) -> Self {
        let daemons = Mutex::new(daemons);
        Self { access, daemons, directory, _ports: ports, wanted, fsid, addresses }
    }

    /// Returns the id of the cluster.
    pub fn fsid(&self) -> &str {
        &self.fsid
    }

    /// Returns the addresses of the monitor.
    pub fn monitor_addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the directory with configuration, keyrings, logs (`log/`) and data.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the path of the keyring of `client.admin`.
    pub fn admin_keyring(&self) -> PathBuf {
        self.directory().join("ceph.client.admin.keyring")
    }

    /// Returns the process id of a daemon; `None` if it does not run.
    pub fn pid(&self, daemon: Daemon) -> Option<u32> {
        self.daemons().pid(daemon)
    }

    /// Fails if a daemon has ended although it was not stopped. The error contains its last log
    /// lines.
    pub fn check(&self) -> Result<()> {
        self.daemons().check()
    }

    /// Stops a daemon (SIGTERM) and waits for its end; for an OSD, also until the cluster knows.
    pub fn stop_daemon(&self, daemon: Daemon) -> Result<()> {
        let mut daemons = self.daemons();
        daemons.terminate(daemon)?;
        match daemon {
            Daemon::Osd(number) if daemons.is_running(Daemon::Mon) => {
                ready::wait(&mut daemons, "the OSD to be down", NOTICE, || {
                    let osd = self.access.osd_state(number)?;
                    Ok(if osd.up { Probe::NotYet("it is up".to_owned()) } else { Probe::Ready(()) })
                })
            }
            _ => Ok(()),
        }
    }

    /// Kills a daemon (SIGKILL). The cluster is not informed. With one OSD, the monitor considers
    /// it alive for many minutes. With several, the others report it after about 20 s.
    pub fn kill_daemon(&self, daemon: Daemon) -> Result<()> {
        self.daemons().kill(daemon)
    }

    /// Starts a daemon that was stopped or killed, and waits until it serves: an OSD is up and
    /// every placement group active, and clean if all OSDs run; the monitor has a quorum; the
    /// manager is available.
    ///
    /// Fails after 60 s, for instance if a memstore OSD was killed and had the only copy of its
    /// data.
    pub fn start_daemon(&self, daemon: Daemon) -> Result<()> {
        let mut daemons = self.daemons();
        match daemon {
            Daemon::Osd(number) => {
                let before = self.access.osd_state(number)?;
                daemons.start(daemon)?;
                ready::wait(&mut daemons, "the OSD to be up", NOTICE, || {
                    let now = self.access.osd_state(number)?;
                    Ok(if now.up && now.up_from > before.up_from {
                        Probe::Ready(())
                    } else {
                        Probe::NotYet("it is down".to_owned())
                    })
                })?;
                ready::wait_for_pgs(&self.access, &mut daemons, NOTICE)
            }
            Daemon::Mon => {
                daemons.start(daemon)?;
                ready::wait_for_monitor(&mut daemons, NOTICE)
            }
            Daemon::Mgr | Daemon::RbdMirror if !self.wanted.mgr => {
                Err(Error::Invalid("the cluster was built without a manager".to_owned()))
            }
            Daemon::Mgr => {
                daemons.start(daemon)?;
                ready::wait_for_mgr(&self.access, &mut daemons, NOTICE)
            }
            Daemon::RbdMirror => {
                self.access.user("rbd-mirror.a", &[("mon", "profile rbd-mirror"), ("osd", "profile rbd")])?;
                daemons.start(daemon)?;
                ready::wait(&mut daemons, "the mirror daemon to report itself", NOTICE, || {
                    let status = self.access.mon_query("status", Value::Null)?;
                    let daemons = &status["servicemap"]["services"]["rbd-mirror"]["daemons"];
                    let known =
                        daemons.as_object().is_some_and(|all| all.keys().any(|name| name != "summary"));
                    Ok(if known { Probe::Ready(()) } else { Probe::NotYet("it did not yet".to_owned()) })
                })
            }
        }
    }

    /// Starts the daemon that mirrors images from another cluster to this one:
    /// [`start_daemon`](Self::start_daemon) with [`Daemon::RbdMirror`]. It needs a manager and the
    /// program `rbd-mirror`, which is a separate package. The caller sets the peers of a pool.
    pub fn start_rbd_mirror(&self) -> Result<()> {
        self.start_daemon(Daemon::RbdMirror)
    }

    /// Freezes a daemon (SIGSTOP): it keeps its connections and does not answer.
    pub fn pause(&self, daemon: Daemon) -> Result<()> {
        self.daemons().set_paused(daemon, true)
    }

    /// Resumes a paused daemon (SIGCONT).
    pub fn resume(&self, daemon: Daemon) -> Result<()> {
        self.daemons().set_paused(daemon, false)
    }

    /// Stops an OSD: see [`stop_daemon`](Self::stop_daemon).
    pub fn stop_osd(&self, number: u32) -> Result<()> {
        self.stop_daemon(Daemon::Osd(number))
    }

    /// Starts an OSD: see [`start_daemon`](Self::start_daemon).
    pub fn start_osd(&self, number: u32) -> Result<()> {
        self.start_daemon(Daemon::Osd(number))
    }

    /// Kills an OSD: see [`kill_daemon`](Self::kill_daemon).
    pub fn kill_osd(&self, number: u32) -> Result<()> {
        self.kill_daemon(Daemon::Osd(number))
    }

    /// Ends the cluster and removes its directory. If the directory is kept, the daemons are
    /// stopped and save their data; otherwise they are killed. [`Drop`] does the same, but does not
    /// return failures.
    pub fn stop(self) -> Result<()> {
        let Self { access, daemons, directory, _ports, wanted, .. } = self;
        drop(access);
        let mut daemons = daemons.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ended = if wanted.keep.is_some() { daemons.terminate_all() } else { Ok(()) };
        drop(daemons);
        directory.close()?;
        ended
    }

    fn daemons(&self) -> MutexGuard<'_, Daemons> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
