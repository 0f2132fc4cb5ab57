//! `run -- COMMAND`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use rbd_testcluster::SHARED_CONF;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;

use crate::Result;
use crate::wanted::Wanted;

/// Runs `command` with a cluster and returns its exit code, as a shell does: 128 more than the
/// signal's number if a signal ended it.
pub(crate) fn run(wanted: Wanted, command: &[OsString]) -> Result<ExitCode> {
    // A signal before this line ends this process, and with it the daemons.
    let cluster = wanted.start()?;
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGCHLD, SIGINT, SIGTERM, SIGHUP])?;
    let [program, arguments @ ..] = command else { return Err("no command".into()) };
    let mut child = Command::new(program)
        .args(arguments)
        .env("CEPH_CONF", cluster.conf())
        .env(SHARED_CONF, cluster.conf())
        .spawn()
        .map_err(|error| format!("{}: {error}", Path::new(program).display()))?;
    // The child is waited for only here, so its pid is still valid.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        for origin in signals.wait() {
            // The terminal sends a signal (Ctrl-C) also to the child. A process sends it only to
            // us.
            let forwarded = match origin.signal {
                SIGINT => Signal::INT,
                SIGTERM => Signal::TERM,
                SIGHUP => Signal::HUP,
                _ => continue,
            };
            if origin.process.is_some() && child.try_wait()?.is_none() {
                kill_process(Pid::from_child(&child), forwarded)?;
            }
        }
    };
    if let Err(error) = cluster.check() {
        eprintln!("rbd-testcluster: {error}");
    }
    cluster.stop()?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
