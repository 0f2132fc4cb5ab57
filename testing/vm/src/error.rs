//! The errors of this crate, and what to do about each.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a virtual machine could not be started, or what failed inside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Programs that the host needs are not installed.
    #[error("{} not installed; run: apt-get install {}", tools.join(", "), packages.join(" "))]
    MissingTools {
        /// The programs' names.
        tools: Vec<&'static str>,
        /// The Debian packages that contain them.
        packages: Vec<&'static str>,
    },
    /// A program on the host failed.
    #[error("`{command}` on the host ended with {status}: {}", stderr.trim())]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
    },
    /// No kernel package matches.
    #[error("no kernel package `{pattern}` {reason}")]
    NoKernel {
        /// The requested name or pattern.
        pattern: String,
        /// Where it was searched, and what to do.
        reason: String,
    },
    /// The package exists but cannot be booted.
    #[error("kernel package {package}: {reason}")]
    BadKernel {
        /// Its name.
        package: String,
        /// What the package lacks.
        reason: String,
    },
    /// A program or file for the guest cannot be put into it.
    #[error("{} cannot be put into the guest: {reason}", path.display())]
    Unpackable {
        /// The file on the host.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An input/output error on the host.
    #[error("{what}: {source}")]
    Io {
        /// The action and its file.
        what: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The guest did not come up in time.
    #[error("the virtual machine was not up after {limit:?}; its console ended with\n{}", tail(console))]
    BootTimedOut {
        /// The timeout of the boot.
        limit: Duration,
        /// The whole console.
        console: String,
    },
    /// A command in the guest, or the guest itself, hangs.
    #[error(
        "`{command}` had not ended after {limit:?} in the virtual machine\n{}its console ended with\n{}",
        said(stdout, stderr),
        tail(console)
    )]
    TimedOut {
        /// The command line.
        command: String,
        /// Its timeout.
        limit: Duration,
        /// Its standard output so far.
        stdout: Vec<u8>,
        /// Its standard error so far.
        stderr: Vec<u8>,
        /// The whole console.
        console: String,
    },
    /// The guest is gone: it panicked, ran out of memory, powered off, or QEMU failed.
    #[error("the virtual machine ended while {during}: {reason}; its console ended with\n{}", tail(console))]
    Died {
        /// The activity at that time.
        during: String,
        /// How QEMU ended, and its output.
        reason: String,
        /// The whole console.
        console: String,
    },
    /// The guest could not start the command.
    #[error("`{command}` cannot be started in the virtual machine: {reason}")]
    NotStarted {
        /// The command line.
        command: String,
        /// The guest's reason.
        reason: String,
    },
    /// The command failed. Only calls that require success return this.
    #[error("`{command}` in the virtual machine ended with {status}\n{}", said(stdout, stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its standard output.
        stdout: Vec<u8>,
        /// Its standard error.
        stderr: Vec<u8>,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many lines of the console an error's text contains.
const TAIL: usize = 40;

fn tail(console: &str) -> String {
    if console.trim().is_empty() {
        return "    (nothing)".to_owned();
    }
    let lines: Vec<_> = console.lines().filter(|line| !line.trim().is_empty()).collect();
    let last: Vec<_> =
        lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("    {line}")).collect();
    last.join("\n")
}

fn said(stdout: &[u8], stderr: &[u8]) -> String {
    let part = |name: &str, bytes: &[u8]| match String::from_utf8_lossy(bytes).trim_end() {
        "" => String::new(),
        text => format!("its {name} was\n{}\n", tail(text)),
    };
    part("standard output", stdout) + &part("standard error", stderr)
}

/// Adds the action to an input/output error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_shows_the_last_lines_of_the_console_and_what_the_command_said() {
        let console: String =
            (0..100).fold(String::new(), |console, line| console + &format!("line {line}\r\n"));
        let text = Error::TimedOut {
            command: "rbd map".into(),
            limit: Duration::from_secs(3),
            stdout: b"half a\n".to_vec(),
            stderr: Vec::new(),
            console,
        }
        .to_string();
        assert!(text.starts_with("`rbd map` had not ended after 3s"), "{text}");
        assert!(text.contains("its standard output was\n    half a\n"), "{text}");
        assert!(!text.contains("standard error"), "{text}");
        assert!(text.contains("    line 60\n") && text.ends_with("    line 99"), "{text}");
        assert!(!text.contains("line 59"), "{text}");
    }
}
