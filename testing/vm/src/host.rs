//! Programs on the host.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::error::{Context as _, Error, Result};

/// Programs that every machine needs, each with its Debian package.
const NEEDED: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("setpriv", "util-linux"),
    ("ldd", "libc-bin"),
];

/// Searches a program in `PATH` and in Debian's directories for administrators.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories =
        env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    directories.map(|directory| directory.join(program)).find(|candidate| candidate.is_file())
}

/// Fails if programs are missing. The error contains the command that installs all of them.
pub(crate) fn require_all() -> Result<()> {
    require(NEEDED)
}

/// Fails unless all these programs, each given with its package, are installed.
pub(crate) fn require(needed: &[(&'static str, &'static str)]) -> Result<()> {
    let (tools, packages): (Vec<_>, Vec<_>) =
        needed.iter().filter(|(tool, _)| find(tool).is_none()).copied().unzip();
    if tools.is_empty() { Ok(()) } else { Err(Error::MissingTools { tools, packages }) }
}

/// Returns a command for a program of the host, searched by `find`.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| PathBuf::from(program)));
    command.env("LC_ALL", "C");
    command
}

/// Runs a command, which may fail.
pub(crate) fn finish(command: &mut Command) -> Result<Output> {
    command.stdin(std::process::Stdio::null());
    command.output().context(|| format!("cannot run `{}`", line(command)))
}

/// Runs a command that must succeed, and returns its standard output.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    if !output.status.success() {
        return Err(Error::Tool {
            command: line(command),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words: Vec<_> =
        std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let wanted = [("sh", "dash"), ("no-such-tool-1", "package-1"), ("no-such-tool-2", "package-2")];
        let text = require(&wanted).unwrap_err().to_string();
        assert_eq!(
            text,
            "no-such-tool-1, no-such-tool-2 not installed; run: apt-get install package-1 package-2"
        );
    }

    #[test]
    fn a_failed_program_is_quoted() {
        let text = succeed(command("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(text, "`sh -c echo why >&2; exit 3` on the host ended with exit status: 3: why");
    }
}
