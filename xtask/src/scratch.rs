//! A temporary directory that is removed with its owner, even if the owner is killed (Ctrl-C,
//! SIGKILL).

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use crate::cmd;

/// Processes with this variable belong to the directory that is its value, and are ended with it.
pub(crate) const MARK: &str = "RBD_XTASK_RUN";

/// A temporary directory. A shell in its own process group, which Ctrl-C does not reach, makes and
/// removes it.
pub(crate) struct Scratch {
    path: PathBuf,
    keeper: Child,
}

impl Scratch {
    /// Makes `PREFIX.XXXXXX` in the directory for temporary files.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let mut command = cmd::command("sh", ["-c", include_str!("scratch.sh"), "rbd-xtask-scratch"]);
        command.arg(std::env::temp_dir().join(format!("{prefix}.XXXXXX"))).arg(MARK);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().context("cannot start sh")?;
        let mut line = Vec::new();
        if let Some(pipe) = keeper.stdout.take() {
            BufReader::new(pipe).read_until(b'\n', &mut line)?;
        }
        if line.pop().is_none() {
            bail!("cannot make a temporary directory: {}", keeper.wait()?);
        }
        Ok(Self { path: PathBuf::from(OsString::from_vec(line)), keeper })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    /// Waits until the directory is removed.
    fn drop(&mut self) {
        if let Some(mut pipe) = self.keeper.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !reached() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn it_goes_with_all_that_is_in_it() {
        let scratch = Scratch::new("rbd-scratch").unwrap();
        let path = scratch.path().to_owned();
        fs::create_dir(path.join("cluster")).unwrap();
        fs::write(path.join("cluster/log"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn it_goes_with_its_processes_when_the_owner_is_killed() {
        // The pipe closes when the owner is killed, without a line before.
        let mut scratch = Scratch::new("rbd-scratch").unwrap();
        let path = scratch.path().to_owned();
        let write = "for _ in $(seq 600); do mkdir -p \"$RBD_XTASK_RUN/again\"; sleep 0.1; done";
        let mut child = cmd::command("sh", ["-c", write]).env(MARK, &path).spawn().unwrap();
        wait_for("the process writes into the directory", || path.join("again").exists());
        drop(scratch.keeper.stdin.take());
        wait_for("the process was killed", || child.try_wait().unwrap().is_some());
        wait_for("the directory was removed", || !path.exists());
        assert!(scratch.keeper.wait().unwrap().success());
        assert!(!path.exists());
    }

    #[test]
    fn where_none_can_be_made_the_reason_is_told() {
        assert!(Scratch::new("no/such/directory").is_err());
    }
}
