//! `up`.

use std::fs;
use std::time::Duration;

use rbd_testcluster::ProcessId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Result;
use crate::down::OWNER;
use crate::wanted::Wanted;

/// Starts a cluster and waits for a signal, for example from `down`.
pub(crate) fn up(wanted: Wanted) -> Result<()> {
    let cluster = wanted.start()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let owner = ProcessId::own().ok_or("/proc is not mounted")?;
    fs::write(cluster.directory().join(OWNER), owner.to_string())?;
    eprintln!("rbd-testcluster: use it with the line below; end it with `rbd-testcluster down` or Ctrl-C");
    println!("export CEPH_CONF={}", cluster.conf().display());

    let mut told = false;
    while signals.pending().next().is_none() {
        if let (false, Err(error)) = (told, cluster.check()) {
            eprintln!("rbd-testcluster: {error}");
            told = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let owner = cluster.directory().join(OWNER);
    fs::remove_file(owner)?;
    cluster.stop()?;
    Ok(())
}
