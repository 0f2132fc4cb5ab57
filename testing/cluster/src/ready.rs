//! Waits for states of the cluster or its parts.

use std::thread;
use std::time::{Duration, Instant};

use crate::daemons::Daemons;
use crate::osdmap::OsdMap;
use crate::{Access, Daemon, Error, Result, admin_socket, log};

const POLL: Duration = Duration::from_millis(30);

/// Calls `probe` until it returns a value. Otherwise `probe` returns the current state for the
/// error. A daemon that dies meanwhile ends the wait.
pub(crate) fn wait<T>(
    daemons: &mut Daemons,
    waiting_for: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Probe<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        daemons.check()?;
        let seen = match probe() {
            Ok(Probe::Ready(value)) => return Ok(value),
            Ok(Probe::NotYet(seen)) => seen,
            // The death of a daemon is a better error than the missing answer.
            Err(error) => return Err(daemons.check().err().unwrap_or(error)),
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
    /// The current state.
    NotYet(String),
}

/// Waits until the monitor leads its quorum of one. Asks over its admin socket, because another
/// program may listen on its port.
pub(crate) fn wait_for_monitor(daemons: &mut Daemons, patience: Duration) -> Result<()> {
    let sockets = daemons.directory().join("run");
    let logs = daemons.directory().join("log");
    wait(daemons, "the monitor to lead", patience, || {
        let seen = match admin_socket::monitor_state(&sockets) {
            Ok(state) if state == "leader" => return Ok(Probe::Ready(())),
            Ok(state) => format!("it is {state}"),
            Err(error) => error.to_string(),
        };
        Ok(Probe::NotYet(format!("{seen}; its log:\n{}", log::tail(&logs, &Daemon::Mon.to_string()))))
    })
}

/// Waits until `count` OSDs are up.
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

/// Waits until every placement group has processed the current OSD map and is active, and also
/// clean if all OSDs are up.
///
/// It asks the groups themselves, because the monitors' knowledge is seconds old: right after an
/// OSD has returned, they still report groups as clean that have not begun to recover.
pub(crate) fn wait_for_pgs(access: &Access, daemons: &mut Daemons, patience: Duration) -> Result<()> {
    let map = access.osd_map()?;
    let wanted = wanted(&map);
    let mut pgs = map.pgs().peekable();
    let sockets = daemons.directory().join("run");
    wait(daemons, "every placement group to serve", patience, || {
        while let Some(pg) = pgs.peek() {
            let seen = match access.primary_of(pg)? {
                Some(osd) => match admin_socket::pg(&sockets, osd, pg) {
                    Ok(now) if now.epoch >= map.epoch && now.state.starts_with(wanted) => None,
                    Ok(now) => Some(now.state),
                    Err(error) => Some(error.to_string()),
                },
                None => Some("without a leading OSD".to_owned()),
            };
            if let Some(seen) = seen {
                return Ok(Probe::NotYet(format!("pg {pg} is {seen}")));
            }
            pgs.next();
        }
        Ok(Probe::Ready(()))
    })
}

/// Returns how the state of a placement group begins that serves as well as it can.
fn wanted(map: &OsdMap) -> &'static str {
    if map.osds.iter().all(|osd| osd.up) { "active+clean" } else { "active" }
}

/// Waits until a manager is available and reports that all placement groups are active, and also
/// clean if all OSDs are up. Its knowledge is older than that of the groups.
pub(crate) fn wait_for_mgr(access: &Access, daemons: &mut Daemons, patience: Duration) -> Result<()> {
    let map = access.osd_map()?;
    let (pgs, wanted) = (map.pgs().count() as u64, wanted(&map));
    wait(daemons, "the manager to know all placement groups", patience, || {
        let status = access.status()?;
        let known = status.pgmap.num_pgs == pgs
            && status.pgmap.pgs_by_state.iter().all(|state| state.state_name.starts_with(wanted));
        Ok(if status.mgrmap.available && known { Probe::Ready(()) } else { Probe::NotYet(status.summary()) })
    })
}

/// Waits until the cluster is healthy. Options of the caller may make that impossible, so the wait
/// ends after a while without an error.
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
