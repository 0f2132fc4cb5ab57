//! Ports for the monitor that no other test cluster of this host uses.
//!
//! A port is reserved in two ways. An abstract unix socket named after it excludes other test
//! clusters of any process and user; the kernel frees it with its owner, and no lock file remains.
//! A trial bind shows that no other program listens there.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

/// Outside 6800-7300 (where OSDs and managers bind) and below the kernel's range for outgoing
/// connections.
pub(crate) const MONITOR_PORTS: RangeInclusive<u16> = 21000..=28999;

/// A port of 127.0.0.1 that is reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _reservation: UnixListener,
}

impl Port {
    fn reserve(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("rbd-testcluster/port/{number}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }
}

/// Reserves two ports of `range`.
pub(crate) fn reserve_pair(range: &RangeInclusive<u16>) -> Result<(Port, Port)> {
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
