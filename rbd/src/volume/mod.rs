//! A volume for a container, out of a mapped image: a file system on it, mounted, and shown where the container looks.
//!
//! What a node does for a pod volume: [`Volume::stage`] looks at the device, makes a file system if and only if it is
//! empty, and mounts it; [`publish`] binds it into the pod. [`unmount`] undoes either.
//!
//! ```no_run
//! use rbd::{Cluster, krbd, volume::{self, Volume}};
//!
//! let pool = Cluster::connect()?.ioctx("rbd")?;
//! let device = krbd::map(&pool, "foo").exclusive(true).run()?;
//! let stage = "/var/lib/node/plugins/rbd/rbd-image-foo";
//! Volume::new(&device).stage(stage)?;
//! volume::publish(stage, "/var/lib/node/pods/1/volumes/foo", false)?;
//!
//! volume::unmount("/var/lib/node/pods/1/volumes/foo")?;
//! volume::unmount(stage)?;
//! device.unmap().run()?;
//! # Ok::<(), rbd::Error>(())
//! ```
//!
//! These calls block as long as the device does, without a time limit.

mod content;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::krbd::Device;
use crate::names::c_string;
use crate::raw;

pub use content::Content;

/// A mapped image that is to be a volume.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    device: &'a Device,
    read_only: bool,
}

/// What [`Volume::stage`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staged {
    /// The file system, by the kernel's name for it.
    pub file_system: &'static str,
    /// It was made now; before, the device was empty.
    pub formatted: bool,
}

impl<'a> Volume<'a> {
    /// Of a device that was mapped; with ext4 where a file system is to be made.
    pub fn new(device: &'a Device) -> Volume<'a> {
        Volume { device, read_only: device.is_read_only() }
    }

    /// Mount it read-only. Then nothing is formatted: an empty device is an error.
    #[must_use]
    pub fn read_only(self, on: bool) -> Volume<'a> {
        Volume { read_only: on || self.device.is_read_only(), ..self }
    }

    /// Mounts the device at a directory, which is made if it is not there. On an empty device, all zeroes, an ext4 file system
    /// is made before. Whatever else is found is never formatted: what is no file system is an error.
    pub fn stage(&self, directory: impl AsRef<Path>) -> Result<Staged> {
        let path = self.device.path();
        let object = || Object::new(ObjectKind::Device, path.display().to_string());
        let content = Content::of(&path)
            .map_err(|error| Error::new("read", object(), Errno::of(&error).unwrap_or(Errno::EIO)))?;
        let refuse = |what: &str| {
            Err(Error::new("mount", object(), Errno::EINVAL)
                .with_kind(ErrorKind::InvalidInput)
                .with_detail(what.to_owned()))
        };
        let staged = match content {
            Content::FileSystem(file_system) => Staged { file_system, formatted: false },
            Content::Empty if self.read_only => {
                return refuse("it is empty, and read-only: nothing can be made on it");
            }
            Content::Empty => {
                format(&path, object)?;
                Staged { file_system: "ext4", formatted: true }
            }
            Content::Other(what) => {
                return refuse(&format!("it holds {what}, which is no file system; it was not formatted"));
            }
            Content::Unknown => {
                return refuse(
                    "it holds data that is no known file system; it was not formatted; erase it to use it",
                );
            }
        };
        let directory = directory.as_ref();
        make(directory)?;
        let kind = c_string("mount", object, staged.file_system)?;
        let source = c_path(&path)?;
        let target = c_path(directory)?;
        raw::kernel::mount::mount(&source, &target, &kind, self.read_only).map_err(|errno| {
            let hint = match errno {
                Errno::EROFS if self.read_only => {
                    "; its journal has changes that must be written first: mount it once from a device that can be written to"
                }
                Errno::EBUSY => "; it is mounted there already",
                Errno::EPERM | Errno::EACCES => "; mounting takes root",
                _ => "",
            };
            Error::new("mount", object(), errno).with_detail(format!(
                "its {} at {}: {}{hint}",
                staged.file_system,
                directory.display(),
                errno.sentence()
            ))
        })?;
        Ok(staged)
    }
}

/// Shows a staged volume at a second directory, which is made if it is not there: bind mount. Done twice it is there twice, and
/// must be [unmounted](unmount) as often.
pub fn publish(staged: impl AsRef<Path>, target: impl AsRef<Path>, read_only: bool) -> Result<()> {
    let (staged, target) = (staged.as_ref(), target.as_ref());
    make(target)?;
    raw::kernel::mount::bind(&c_path(staged)?, &c_path(target)?, read_only)
        .map_err(|errno| Error::new("bind the volume to", file(target), errno))
}

/// Takes a mount away: of [`publish`] or of [`Volume::stage`]. The directory stays.
pub fn unmount(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    raw::kernel::mount::unmount(&c_path(target)?).map_err(|errno| match errno {
        Errno::EINVAL => Error::new("unmount", file(target), errno).with_detail("nothing is mounted there"),
        Errno::EBUSY => Error::new("unmount", file(target), errno)
            .with_detail("files in it are open, or something is mounted below it; end that use"),
        _ => Error::new("unmount", file(target), errno),
    })
}

/// Nothing is left for later, so that a first mount is not slowed down by it.
fn format(path: &Path, object: impl Fn() -> Object) -> Result<()> {
    let output = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::new("format", object(), Errno::of(&error).unwrap_or(Errno::ENOENT))
                .with_detail(format!("mke2fs cannot be run ({error}); install the package e2fsprogs"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new("format", object(), Errno::EIO).with_detail(format!(
        "mke2fs failed: {said}; the device was empty, but may hold the beginnings of a file system now: erase it (blkdiscard) \
         to have it formatted again"
    )))
}

fn make(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Error::new("make", file(directory), Errno::of(&error).unwrap_or(Errno::EIO)))
}

fn c_path(path: &Path) -> Result<std::ffi::CString> {
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("use", file(path), "a path cannot contain a NUL byte"))
}

fn file(path: &Path) -> Object {
    Object::new(ObjectKind::File, path.display().to_string())
}
