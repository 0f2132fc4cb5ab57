//! File systems that volumes may have: made, checked and grown by their own programs.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// A file system that a volume can be formatted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FileSystem {
    /// ext4, by `mke2fs`, `e2fsck` and `resize2fs` (package e2fsprogs).
    #[default]
    Ext4,
    /// XFS, by `mkfs.xfs` and `xfs_growfs` (package xfsprogs).
    Xfs,
}

impl FileSystem {
    /// Returns the kernel's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// Makes the file system. The tables of ext4 are written now, since writing them later would
    /// slow down the first mount.
    pub(crate) fn make(self, device: &Path, options: &[String], force: bool) -> Result<(), String> {
        let mut command = match self {
            FileSystem::Ext4 => {
                let mut command = Command::new("mke2fs");
                // `-F`: without it, mke2fs asks questions that nobody answers.
                command.args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
                command
            }
            FileSystem::Xfs => {
                let mut command = Command::new("mkfs.xfs");
                command.arg("-q").args(force.then_some("-f"));
                command
            }
        };
        run(command.args(options).arg(device), &[0])
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no file system that a volume can be formatted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no file system that a volume can be formatted with; use ext4 or xfs")]
pub struct UnknownFileSystem(String);

impl FromStr for FileSystem {
    type Err = UnknownFileSystem;

    fn from_str(text: &str) -> Result<FileSystem, UnknownFileSystem> {
        match text {
            "ext4" => Ok(FileSystem::Ext4),
            "xfs" => Ok(FileSystem::Xfs),
            _ => Err(UnknownFileSystem(text.to_owned())),
        }
    }
}

/// Repairs the file system before it is mounted. XFS repairs itself when it is mounted.
pub(crate) fn check(device: &Path, kind: &str) -> Result<(), String> {
    if !kind.starts_with("ext") {
        return Ok(());
    }
    // 1: faults were repaired.
    run(Command::new("e2fsck").arg("-p").arg(device), &[0, 1])
}

/// Grows a mounted file system to the size of its device.
pub(crate) fn grow(device: &Path, mounted_at: &Path, kind: &str) -> Result<(), String> {
    match kind {
        "xfs" => run(Command::new("xfs_growfs").arg("-d").arg(mounted_at), &[0]),
        kind if kind.starts_with("ext") => run(Command::new("resize2fs").arg(device), &[0]),
        _ => Err(format!("no program is known that grows {kind}")),
    }
}

fn run(command: &mut Command, good: &[i32]) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|error| {
        let package = if name.contains("xfs") { "xfsprogs" } else { "e2fsprogs" };
        format!("{name} cannot be run ({error}); install the package {package}")
    })?;
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let said =
        [&*output.stderr, &*output.stdout].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let said = said.iter().find(|said| !said.is_empty()).cloned().unwrap_or_default();
    Err(format!("{name} failed ({}): {said}", output.status))
}
