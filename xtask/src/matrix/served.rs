//! A cluster of one release for clients of another: daemons in a root, reached over the host's
//! loopback.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::binaries::Binary;
use super::root::Root;
use crate::scratch::Scratch;

/// A running cluster, with a client of its own release that listens for `tests/it/mixed.rs`. It
/// ends when it is dropped.
pub(crate) struct Served {
    child: Child,
    home: PathBuf,
}

impl Served {
    /// Starts the cluster, with these arguments of `rbd-testcluster run`, and waits until it is
    /// ready.
    pub(crate) fn start(
        root: &Root,
        scratch: &Scratch,
        binaries: &[Binary],
        wanted: &[&str],
    ) -> Result<Served> {
        let deps = binaries.first().and_then(|binary| binary.path.parent()).context("no test was built")?;
        let home = scratch.path().join(format!("{}-cluster", root.release.number()));
        let mut command = root.command(scratch);
        command.arg(deps.with_file_name("rbd-testcluster")).arg("run").args(wanted).arg("--keep").arg(&home);
        command.arg("--").arg(deps.with_file_name("examples/peer")).arg(home.join("peer"));
        let child = command.stdin(Stdio::piped()).spawn().context("cannot start the cluster")?;
        let mut served = Served { child, home };
        let deadline = Instant::now() + Duration::from_secs(180);
        while !served.socket().exists() {
            if let Some(status) = served.child.try_wait()? {
                bail!("the cluster of Ceph {} did not start: {status}", root.release.number());
            }
            if Instant::now() > deadline {
                bail!("the cluster of Ceph {} is not ready after 180 s", root.release.number());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(served)
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.home.join("ceph.conf")
    }

    /// Where the client of the cluster's own release listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("peer")
    }
}

impl Drop for Served {
    /// The client ends with its input, and the cluster with it.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
