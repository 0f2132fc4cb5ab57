//! The cluster's directory: a temporary one that is removed with the cluster, or one that is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::IoContext as _;
use crate::supervisor::Watchdog;
use crate::{Error, Result};

/// A temporary directory is removed when this and all users of its watchdog are dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    temporary: bool,
    watchdog: Arc<Watchdog>,
}

impl Directory {
    /// Makes a new directory: `keep`, or a temporary one.
    pub(crate) fn create(keep: Option<&Path>) -> Result<Self> {
        let kept = keep.map(create_empty).transpose()?;
        let parent = std::env::temp_dir();
        let parent = std::path::absolute(&parent).context("resolving", &parent)?;
        let wanted = kept.is_none().then_some(&*parent);
        let (watchdog, made) = Watchdog::start(wanted).context("making a directory in", &parent)?;
        let temporary = kept.is_none();
        let path = kept.unwrap_or(made);
        let this = Self { path, temporary, watchdog: Arc::new(watchdog) };
        this.check()?;
        Ok(this)
    }

    /// Refuses a path in which the daemons could not make their sockets, or which the configuration
    /// file cannot contain.
    fn check(&self) -> Result<()> {
        const LONGEST: usize = 107 - "/run/rbd-mirror.a.asok".len();
        let refuse = |reason: &str| {
            let path = self.path.display();
            let reason = format!("{path} {reason}; set TMPDIR or keep_directory to another");
            Err(Error::Invalid(reason))
        };
        let Some(path) = self.path.to_str() else { return refuse("is not UTF-8") };
        if path.len() > LONGEST {
            return refuse("is too long for sockets, at most 85 bytes are possible");
        }
        let plain = |c: char| c.is_alphanumeric() || " /._-+@:,~".contains(c);
        if !path.chars().all(plain) {
            return refuse("has characters with a meaning in Ceph's configuration");
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the watchdog over the directory and the daemons in it.
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

    /// Removes a temporary directory. Returns failures.
    pub(crate) fn close(self) -> Result<()> {
        let Self { path, temporary, watchdog } = self;
        drop(watchdog);
        if temporary && path.exists() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty)).context("removing", &path);
        }
        Ok(())
    }
}

/// Makes sure that the directory `path` exists and is empty. Returns its absolute path, because the
/// daemons run elsewhere.
fn create_empty(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).context("creating", path)?;
    let path = path.canonicalize().context("resolving", path)?;
    if fs::read_dir(&path).context("reading", &path)?.next().is_some() {
        let reason = format!("{} is not empty; a new cluster needs its own", path.display());
        return Err(Error::Invalid(reason));
    }
    Ok(path)
}
