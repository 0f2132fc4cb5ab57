//! `down`, and the choice of the cluster for `down` and `status`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rbd_testcluster::ProcessId;
use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// The file in a cluster's directory that says which process `up` is.
pub(crate) const OWNER: &str = "owner";

/// Ends the cluster's `up`, and waits until it has ended.
pub(crate) fn down(conf: Option<PathBuf>) -> Result<()> {
    let conf = find(conf)?;
    let directory = conf.parent().unwrap_or(Path::new("/"));
    let owner = owner_of(directory)
        .ok_or_else(|| format!("no `rbd-testcluster up` owns the cluster of {}", conf.display()))?;
    let pid = Pid::from_raw(i32::try_from(owner.pid)?).ok_or("a pid of zero")?;
    kill_process(pid, Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while owner.is_alive() {
        if Instant::now() > deadline {
            return Err(format!("process {} did not end within 60 s", owner.pid).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns the given configuration file, or that of the only running cluster of this user.
pub(crate) fn find(conf: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(conf) = conf {
        let missing = || format!("there is no {}", conf.display()).into();
        return conf.is_file().then(|| conf.clone()).ok_or_else(missing);
    }
    let mut up: Vec<_> = fs::read_dir(env::temp_dir())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rbd-testcluster."))
        })
        .filter(|path| owner_of(path).is_some())
        .map(|path| path.join("ceph.conf"))
        .collect();
    match (up.pop(), up.is_empty()) {
        (Some(conf), true) => Ok(conf),
        (None, _) => Err("no cluster is up; start one with `rbd-testcluster up`".into()),
        (Some(conf), false) => {
            up.push(conf);
            let list: Vec<_> = up.iter().map(|conf| conf.display().to_string()).collect();
            Err(format!("several clusters are up, choose one with --conf:\n{}", list.join("\n")).into())
        }
    }
}

/// Returns the process that keeps the cluster in `directory` running, if there is one.
fn owner_of(directory: &Path) -> Option<ProcessId> {
    let owner: ProcessId = fs::read_to_string(directory.join(OWNER)).ok()?.parse().ok()?;
    owner.is_alive().then_some(owner)
}
