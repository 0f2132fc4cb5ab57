//! Waiting until the cluster, or a part of it, is as it should be.

use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemons::Daemons;
use crate::{Access, Daemon, Error, Result, log};

const POLL: Duration = Duration::from_millis(30);

/// Calls `probe` until it yields a value. It says what it sees; a daemon that dies meanwhile ends the waiting.
pub(crate) fn wait<T>(
    daemons: &mut Daemons,
    waiting_for: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Probe<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        daemons.check()?;
        let seen = match probe()? {
            Probe::Ready(value) => return Ok(value),
            Probe::NotYet(seen) => seen,
        };
        if start.elapsed() > patience {
            let waiting_for = waiting_for.to_owned();
            return Err(Error::NotReady { waiting_for, after: patience, seen });
        }
        thread::sleep(POLL);
    }
}

pub(crate) enum Probe<T = ()> {
    Ready(T),
    /// And what is seen instead.
    NotYet(String),
}

/// Until the monitor accepts connections. A client that comes earlier waits a second for its next try, and one that comes
/// to a monitor that died waits much longer.
pub(crate) fn wait_for_monitor(daemons: &mut Daemons, port: u16) -> Result<()> {
    let logs = daemons.directory().join("log");
    wait(daemons, "the monitor to listen", Duration::from_secs(60), || {
        Ok(match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Probe::Ready(()),
            Err(error) => Probe::NotYet(format!(
                "port {port}: {error}; its log:\n{}",
                log::tail(&logs, &Daemon::Mon.to_string())
            )),
        })
    })
}

/// Until `count` OSDs are up.
pub(crate) fn wait_for_osds(
    access: &Access,
    daemons: &mut Daemons,
    count: u32,
    patience: Duration,
) -> Result<()> {
    wait(daemons, "the OSDs to be up", patience, || {
        let status = access.status()?;
        Ok(if status.osdmap.up >= count && status.osdmap.r#in >= count {
            Probe::Ready(())
        } else {
            Probe::NotYet(status.summary())
        })
    })
}

/// Until a manager is available and every placement group of every pool is active and clean.
pub(crate) fn wait_for_clean(access: &Access, daemons: &mut Daemons, patience: Duration) -> Result<()> {
    wait(daemons, "a manager and placement groups that are active+clean", patience, || {
        let status = access.status()?;
        // Until the manager reports, a pool's groups are missing from the sum; afterwards they are `unknown`.
        let settled = status.mgrmap.available
            && status.pgmap.num_pgs == access.wanted_pgs()?
            && status.clean_pgs() == status.pgmap.num_pgs;
        Ok(if settled { Probe::Ready(()) } else { Probe::NotYet(status.summary()) })
    })
}

/// Until the cluster is healthy. Options of the caller may make that impossible: after a while it is taken as it is.
pub(crate) fn wait_for_health(access: &Access, daemons: &mut Daemons) -> Result<()> {
    let waited = wait(daemons, "HEALTH_OK", Duration::from_secs(10), || {
        let status = access.status()?;
        Ok(if status.is_healthy() { Probe::Ready(()) } else { Probe::NotYet(status.summary()) })
    });
    match waited {
        Err(Error::NotReady { .. }) => Ok(()),
        other => other,
    }
}
