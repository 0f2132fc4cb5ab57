//! The cluster's directory: a temporary one that goes with the cluster, or one that the caller wants to keep.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::IoContext as _;
use crate::supervisor::Watchdog;
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Removes it when dropped; none if it is to be kept.
    temporary: Option<TempDir>,
    /// Removes it when the owner died. After `temporary`, for the owner may die while it removes the directory.
    watchdog: Arc<Watchdog>,
}

impl Directory {
    /// Makes a new one: `keep`, or a temporary one.
    pub(crate) fn create(keep: Option<&Path>) -> Result<Self> {
        let (path, temporary) = match keep {
            Some(path) => (create_empty(path)?, None),
            None => {
                let parent = std::env::temp_dir();
                let made = tempfile::Builder::new().prefix("rbd-testcluster.").tempdir_in(&parent);
                let made = made.context("creating a directory in", &parent)?;
                (made.path().to_owned(), Some(made))
            }
        };
        let watchdog = Watchdog::start(temporary.as_ref().map(TempDir::path))
            .context("starting a watchdog with", Path::new("/bin/sh"))?;
        Ok(Self { path, temporary, watchdog: Arc::new(watchdog) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The watchdog over the directory and the daemons in it.
    pub(crate) fn watchdog(&self) -> Arc<Watchdog> {
        self.watchdog.clone()
    }

    /// Removes everything in it.
    pub(crate) fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path).context("reading", &self.path)? {
            let entry = entry.context("reading", &self.path)?.path();
            let removed = if entry.is_dir() { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
            removed.context("removing", &entry)?;
        }
        Ok(())
    }

    /// Removes a temporary directory, telling if that fails.
    pub(crate) fn close(self) -> Result<()> {
        match self.temporary.map(TempDir::close) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("removing", &self.path)
            }
            _ => Ok(()),
        }
    }
}

/// Makes sure that the directory `path` exists and is empty. Returns its absolute path, for the daemons run elsewhere.
fn create_empty(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).context("creating", path)?;
    let path = path.canonicalize().context("resolving", path)?;
    if fs::read_dir(&path).context("reading", &path)?.next().is_some() {
        let reason = format!("{} is not empty; a new cluster needs its own", path.display());
        return Err(Error::Invalid(reason));
    }
    Ok(path)
}
