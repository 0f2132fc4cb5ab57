//! The errors of this crate. Each says what failed, why, and what to do next.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Daemon;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cluster did not start, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program of Ceph is not installed.
    #[error("{program} is not installed; {}", install_hint(program))]
    MissingProgram {
        /// The program's name, such as `ceph-mon`.
        program: String,
    },
    /// A daemon ended although it was not stopped.
    #[error("{daemon} ended unexpectedly ({status}); its last log lines:\n{log}")]
    DaemonDied {
        /// The daemon.
        daemon: Daemon,
        /// The exit status in words.
        status: String,
        /// The last lines of its standard error and log file.
        log: String,
    },
    /// A tool that prepares the cluster, such as `ceph-mon --mkfs`, failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    ToolFailed {
        /// The command line.
        command: String,
        /// The exit status in words.
        status: String,
        /// The last lines of its output.
        output: String,
    },
    /// The cluster did not reach the expected state in time.
    #[error("still waiting for {waiting_for} after {} s; {seen}", after.as_secs())]
    NotReady {
        /// The expected state.
        waiting_for: String,
        /// The time after which the wait ended.
        after: Duration,
        /// The last state, and the daemons' last log lines if they help.
        seen: String,
    },
    /// The monitors answered a command with an error.
    #[error("the monitor command `{command}` failed: {message} (errno {errno})")]
    MonCommand {
        /// The command's prefix, such as `osd pool create`.
        command: String,
        /// The positive error number.
        errno: i32,
        /// The message of the monitors.
        message: String,
    },
    /// A librados or librbd call failed.
    #[error("{operation} on {target} failed: {source}")]
    Rados {
        /// The operation in words.
        operation: &'static str,
        /// The cluster or pool.
        target: String,
        /// The error of the library.
        source: io::Error,
    },
    /// The monitors' answer is not the JSON that this crate expects.
    #[error("the answer to `{command}` is not understood: {source}")]
    Answer {
        /// The command's prefix.
        command: String,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// An argument was refused before anything was started.
    #[error("{0}")]
    Invalid(String),
    /// The daemon is not in the state that the operation needs.
    #[error("{daemon} {state}")]
    State {
        /// The daemon.
        daemon: Daemon,
        /// The state, such as `is not running; start it first`.
        state: &'static str,
    },
    /// Every port of the range is taken.
    #[error(
        "no free port on 127.0.0.1 in {}-{}: end other test clusters, or give the monitor another range \
         with Builder::monitor_ports",
        range.start(), range.end()
    )]
    NoFreePort {
        /// The searched range.
        range: RangeInclusive<u16>,
    },
    /// A file or process operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The action, such as `writing`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn install_hint(program: &str) -> String {
    let packages =
        if program == "rbd-mirror" { "rbd-mirror" } else { "ceph-mon ceph-osd ceph-mgr ceph-common" };
    format!("on Debian and Ubuntu: apt-get install --no-install-recommends {packages}")
}

/// Adds the action and the path to an `io::Error`.
pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
