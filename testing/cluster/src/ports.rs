//! Ports that no other test cluster of this host uses.
//!
//! A port is reserved by an abstract unix socket that is named after it. It excludes other test
//! clusters of any process and user; the kernel frees it with its owner, and no lock file remains.
//! For the monitor, a trial bind shows that no other program listens there. OSDs and managers take
//! a free port of their range by themselves.
//!
//! By default all OSDs of a host share the ports 6800-7300. If the daemon of another cluster takes
//! the port of a killed OSD, clients of that OSD connect to the daemon, which refuses their keys,
//! again and again without a pause, and find the new address late.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

/// Outside 6800-7300 (where OSDs and managers of other clusters bind) and below the kernel's range
/// for outgoing connections.
pub(crate) const MONITOR_PORTS: RangeInclusive<u16> = 21000..=28999;

/// OSDs and managers get units of these ports.
const DAEMON_PORTS: RangeInclusive<u16> = 8000..=20799;
const UNIT: u16 = 32;

/// An OSD binds eight ports, a manager two. While a killed daemon restarts, the kernel may still
/// know its connections.
const PORTS_PER_OSD: u16 = 12;

/// The ports of a cluster, reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Ports {
    /// Of the monitor, for the second version of the protocol.
    pub(crate) v2: Port,
    /// Of the monitor, for the first version.
    pub(crate) v1: Port,
    /// From which OSDs and the manager choose.
    pub(crate) daemons: RangeInclusive<u16>,
    _units: Vec<UnixListener>,
}

impl Ports {
    pub(crate) fn reserve(monitor: &RangeInclusive<u16>, osds: u32) -> Result<Self> {
        let (v2, v1) = reserve_pair(monitor)?;
        let wanted =
            osds.saturating_mul(PORTS_PER_OSD.into()).saturating_add(UNIT.into()).div_ceil(UNIT.into());
        let units = (DAEMON_PORTS.end() - DAEMON_PORTS.start() + 1) / UNIT;
        let seed = std::process::id().wrapping_mul(7);
        for step in 0..u32::from(units) {
            let at = (seed.wrapping_add(step) % u32::from(units)) as u16;
            let first = DAEMON_PORTS.start() + at * UNIT;
            let last = u32::from(first) + wanted * u32::from(UNIT) - 1;
            let Some(last) = u16::try_from(last).ok().filter(|last| DAEMON_PORTS.contains(last)) else {
                continue;
            };
            let reserved = (first..=last).step_by(UNIT.into()).map(|port| claim(&format!("unit/{port}")));
            if let Some(units) = reserved.collect() {
                return Ok(Self { v2, v1, daemons: first..=last, _units: units });
            }
        }
        Err(Error::NoFreePort { range: DAEMON_PORTS })
    }
}

/// Binds a socket that excludes other test clusters.
fn claim(name: &str) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("rbd-testcluster/{name}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

/// A port of 127.0.0.1 that is reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _reservation: UnixListener,
}

impl Port {
    fn reserve(number: u16) -> Option<Self> {
        let reservation = claim(&format!("port/{number}"))?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }
}

/// Reserves two ports of `range`.
fn reserve_pair(range: &RangeInclusive<u16>) -> Result<(Port, Port)> {
    // Clusters that start at the same moment begin their search at different places.
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let len = u32::from(range.end().saturating_sub(*range.start())) + 1;
    let seed = std::process::id()
        .wrapping_mul(61)
        .wrapping_add(CLUSTERS.fetch_add(1, Ordering::Relaxed).wrapping_mul(2));
    let mut free = (0..len).filter_map(|step| {
        let offset = (u64::from(seed) + u64::from(step)) % u64::from(len);
        Port::reserve(range.start() + offset as u16)
    });
    match (free.next(), free.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(Error::NoFreePort { range: range.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_of_two_clusters_share_no_port() {
        let few = Ports::reserve(&(20903..=20940), 1).unwrap();
        let many = Ports::reserve(&(20903..=20940), 32).unwrap();
        assert!(few.daemons.end() < many.daemons.start() || many.daemons.end() < few.daemons.start());
        for (ports, osds) in [(&few, 1), (&many, 32)] {
            assert!(ports.daemons.len() >= osds * 8 + 2 && DAEMON_PORTS.contains(ports.daemons.end()));
        }
    }

    #[test]
    fn a_reserved_or_listening_port_is_not_given_again() {
        let range = 20900..=20902;
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 20901)).unwrap();
        let (first, second) = reserve_pair(&range).unwrap();
        let mut numbers = [first.number, second.number];
        numbers.sort_unstable();
        assert_eq!(numbers, [20900, 20902]);
        assert!(matches!(reserve_pair(&range), Err(Error::NoFreePort { .. })));
        drop((first, listening));
        // A process that another test is starting has a copy of the listener until its exec.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while reserve_pair(&range).is_err() {
            assert!(std::time::Instant::now() < end, "the ports stay taken");
            std::thread::yield_now();
        }
    }
}
