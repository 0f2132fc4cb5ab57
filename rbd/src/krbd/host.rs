//! The directories through which this module talks to the kernel.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{fs, str};

use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::krbd::support::KernelVersion;

/// The directories of a machine: sysfs, procfs, the device directory, and udev's run directory.
///
/// [`Host::default`] is this machine as this process sees it. In a container, name the mount points
/// of the host's directories: `Host::default().dev_dir("/host/dev")`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    sys: PathBuf,
    proc: PathBuf,
    dev: PathBuf,
    run: PathBuf,
}

impl Default for Host {
    fn default() -> Host {
        Host::at("/")
    }
}

impl Host {
    /// Returns the host whose root directory is mounted at `root`: its sysfs is `root/sys`, and so
    /// on.
    pub fn at(root: impl AsRef<Path>) -> Host {
        let root = root.as_ref();
        Host { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev"), run: root.join("run") }
    }

    /// Sets where sysfs is mounted.
    #[must_use]
    pub fn sys_dir(self, path: impl Into<PathBuf>) -> Host {
        Host { sys: path.into(), ..self }
    }

    /// Sets where procfs is mounted. To find holders, it must show all processes of the machine.
    #[must_use]
    pub fn proc_dir(self, path: impl Into<PathBuf>) -> Host {
        Host { proc: path.into(), ..self }
    }

    /// Sets the directory with the device nodes: that of the kernel (devtmpfs) or of udev.
    #[must_use]
    pub fn dev_dir(self, path: impl Into<PathBuf>) -> Host {
        Host { dev: path.into(), ..self }
    }

    /// Sets the directory that holds udev's run time data (`udev/control`, `udev/data`).
    #[must_use]
    pub fn run_dir(self, path: impl Into<PathBuf>) -> Host {
        Host { run: path.into(), ..self }
    }

    pub(crate) fn bus(&self) -> PathBuf {
        self.sys.join("bus/rbd")
    }

    pub(crate) fn sysfs(&self) -> &Path {
        &self.sys
    }

    pub(crate) fn procfs(&self) -> &Path {
        &self.proc
    }

    pub(crate) fn dev_path(&self) -> &Path {
        &self.dev
    }

    pub(crate) fn run_path(&self) -> &Path {
        &self.run
    }

    /// Returns the directory of a mapping on the kernel's rbd bus.
    pub(crate) fn on_bus(&self, id: u32) -> PathBuf {
        self.bus().join("devices").join(id.to_string())
    }

    /// Returns the directory of a mapping's disk.
    pub(crate) fn disk(&self, id: u32) -> PathBuf {
        self.sys.join("block").join(format!("rbd{id}"))
    }

    /// Returns whether the kernel's rbd module is loaded.
    pub fn is_module_loaded(&self) -> bool {
        self.bus().is_dir()
    }

    /// Returns whether udev runs here and will process a new device.
    pub(crate) fn has_udev(&self) -> bool {
        self.run.join("udev/control").exists()
    }

    /// Returns the version of the running kernel.
    pub fn kernel(&self) -> Result<KernelVersion> {
        let path = self.proc.join("sys/kernel/osrelease");
        let release = read(&path).map_err(|error| failed("read", &path, &error))?;
        release.parse().map_err(|error: Error| {
            Error::new("read", Object::new(ObjectKind::File, path.display().to_string()), Errno::EINVAL)
                .with_detail(error.to_string())
        })
    }

    /// Returns the path of `add` or `remove` on the bus. A kernel that uses one major number for
    /// all images refuses the plain name.
    pub(crate) fn control(&self, verb: &str) -> PathBuf {
        let single = self.bus().join(format!("{verb}_single_major"));
        if single.exists() { single } else { self.bus().join(verb) }
    }
}

/// Reads a small file, without the newline at its end.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// Parses the number in an attribute: decimal, or hexadecimal after `0x`.
pub(crate) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Writes everything in one system call, as sysfs requires.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = fs::OpenOptions::new().write(true).open(path)?.write(bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Returns the error of a failed file operation.
pub(crate) fn failed(operation: &'static str, path: &Path, error: &io::Error) -> Error {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::EIO);
    Error::new(operation, Object::new(ObjectKind::File, path.display().to_string()), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_both_bases() {
        assert_eq!(number("0x1bf"), Some(0x1bf));
        assert_eq!(number(" 252 "), Some(252));
        assert_eq!(number("0x"), None);
        assert_eq!(number("-1"), None);
    }

    #[test]
    fn the_single_major_file_is_preferred_where_it_exists() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        assert!(!host.is_module_loaded());
        fs::create_dir_all(host.bus()).unwrap();
        assert!(host.is_module_loaded());
        assert!(host.control("add").ends_with("bus/rbd/add"));
        fs::write(host.bus().join("add_single_major"), "").unwrap();
        assert!(host.control("add").ends_with("bus/rbd/add_single_major"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Host::at(root.path()).kernel().unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().contains("proc/sys/kernel/osrelease"), "{error}");
    }
}
