//! The start of a cluster.
//!
//! All keys are made first and given to the monitor at its creation. So the data directories of
//! monitor and OSDs are made concurrently, and every daemon starts as soon as the monitor answers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::builder::Builder;
use crate::cluster::{Addresses, TestCluster};
use crate::daemon::Daemon;
use crate::daemons::Daemons;
use crate::directory::Directory;
use crate::error::IoContext as _;
use crate::ports::Ports;
use crate::program::{self, Tool};
use crate::{Access, Error, Result, keyring, monmap, ready, settings};

/// Starts the cluster. Another program may take a port between its choice and the monitor's start.
/// Then the start is repeated with other ports, a few times.
pub(crate) fn boot(wanted: Builder) -> Result<TestCluster> {
    for program in ["ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool"] {
        program::find(program)?;
    }
    if wanted.mgr {
        program::find("ceph-mgr")?;
    }
    let directory = Directory::create(wanted.keep.as_deref())?;
    let mut lost_ports = Vec::new();
    loop {
        let ports = Ports::reserve(&wanted.monitor_ports, wanted.osds)?;
        let mut daemons = Daemons::new(&directory);
        match run_up(&wanted, directory.path(), &ports, &mut daemons) {
            Ok((access, fsid)) => {
                let addresses = Addresses::new(ports.v2.number, ports.v1.number);
                return Ok(TestCluster::new(wanted, directory, ports, daemons, access, fsid, addresses));
            }
            Err(Error::DaemonDied { daemon: Daemon::Mon, log, .. })
                if log.contains("Address already in use") && lost_ports.len() < 4 =>
            {
                drop(daemons);
                lost_ports.push(ports); // Kept, so that they are not chosen again.
                directory.clear()?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the data directories, starts the daemons, and waits until all are ready.
fn run_up(
    wanted: &Builder,
    directory: &Path,
    ports: &Ports,
    daemons: &mut Daemons,
) -> Result<(Access, String)> {
    let v1 = if wanted.msgr1 { format!(",v1:127.0.0.1:{}", ports.v1.number) } else { String::new() };
    let monitors = format!("[v2:127.0.0.1:{}{v1}]", ports.v2.number);
    let fsid = new_uuid()?;
    let osds = || (0..wanted.osds).map(Daemon::Osd);
    let mgr = wanted.mgr.then_some(Daemon::Mgr);
    let daemon_directories = osds().chain(mgr).chain([Daemon::Mon]).map(|name| name.to_string());
    for name in daemon_directories.chain(["log".into(), "run".into()]) {
        let path = directory.join(name);
        fs::create_dir(&path).context("creating", &path)?;
    }
    let conf = directory.join("ceph.conf");
    let text = settings::conf(wanted, directory, &fsid, &monitors, &ports.daemons).to_string();
    fs::write(&conf, text).context("writing", &conf)?;
    keyring::create(directory, wanted.osds, wanted.mgr, &wanted.key_type)?;
    let ciphers = monmap::create(directory, &fsid, &monitors, &wanted.key_type)?;

    // The data directories are made concurrently.
    let uuids: Vec<_> = osds().map(|_| new_uuid()).collect::<Result<_>>()?;
    let mut create_mon = make_data(Daemon::Mon, directory)?;
    create_mon.arg("--keyring").arg(directory.join("initial.keyring"));
    let create_mon = Tool::start(create_mon)?;
    let create_osds = osds().zip(&uuids).map(|(osd, uuid)| {
        let mut command = make_data(osd, directory)?;
        command.args(["--osd-uuid", uuid]);
        Tool::start(command)
    });
    let create_osds: Vec<_> = create_osds.collect::<Result<_>>()?;
    create_mon.finish()?;

    daemons.start(Daemon::Mon)?;
    ready::wait_for_monitor(daemons, START)?;
    let access = Access::new(&conf);
    // The module would create a pool for its data.
    let unwanted = json!({
        "who": "mgr", "name": "mgr/devicehealth/enable_monitoring", "value": "false", "force": true,
    });
    access.mon_query("config set", unwanted)?;
    // The manager of Ceph 18.2 in Debian 13 loads no modules, because Python refuses one of their
    // libraries. Images need no modules.
    access.mon_query("health mute", json!({ "code": "MGR_MODULE_DEPENDENCY", "sticky": true }))?;
    if let Some(mgr) = mgr {
        daemons.start(mgr)?;
    }
    ciphers.mute_warnings(&access)?;
    // The monitor numbers OSDs in the order of these commands.
    for uuid in &uuids {
        access.mon_query("osd new", json!({ "uuid": uuid }))?;
    }
    for (osd, created) in osds().zip(create_osds) {
        created.finish()?;
        daemons.start(osd)?;
    }
    for pool in &wanted.pools {
        access.mon_query("osd pool create", json!({ "pool": pool }))?;
    }
    ready::wait_for_osds(&access, daemons, wanted.osds, START)?;
    ready::wait_for_pgs(&access, daemons, START)?;
    for pool in &wanted.pools {
        access.init_pool(pool)?;
    }
    if wanted.mgr {
        ready::wait_for_mgr(&access, daemons, START)?;
        ready::wait_for_health(&access, daemons)?;
    }
    daemons.check()?;
    Ok((access, fsid))
}

/// Much longer than a slow machine needs.
const START: Duration = Duration::from_secs(120);

fn make_data(daemon: Daemon, directory: &Path) -> Result<Command> {
    let mut command = program::command(daemon.program())?;
    command.arg("-c").arg(directory.join("ceph.conf")).args(["-i", &daemon.id(), "--mkfs"]);
    command.arg("--monmap").arg(directory.join("monmap"));
    Ok(command)
}

/// Returns a random UUID from the kernel.
fn new_uuid() -> Result<String> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    Ok(fs::read_to_string(source).context("reading", source)?.trim().to_owned())
}
