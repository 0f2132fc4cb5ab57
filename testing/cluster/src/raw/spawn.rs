//! Code of a child between fork and exec.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal, setsid};

/// Makes the kernel kill the child when the thread that starts it ends, and gives it its own
/// session, which the terminal's Ctrl-C does not reach.
pub(crate) fn die_with_parent(command: &mut Command) {
    let owner = std::process::id();
    let in_child = move || {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The owner may have died before the signal was set. Then the signal never comes.
        let parent = getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
        if parent == Some(owner) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: the closure makes three system calls, all async-signal-safe, and neither allocates
    // nor takes a lock: the errors it returns are made of plain numbers.
    unsafe { command.pre_exec(in_child) };
}

/// Gives the child its own session, which the terminal's Ctrl-C does not reach.
pub(crate) fn own_session(command: &mut Command) {
    // SAFETY: one async-signal-safe system call, no allocation, no lock.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
}
