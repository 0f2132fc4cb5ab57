//! Volumes for containers on mapped RBD images: a file system on the device, mounted, and bound
//! into the container's directory.
//!
//! This is what a node does for a pod volume. [`Volume::stage`] reads the device, makes a file
//! system only if the device is empty, and mounts it. [`publish`] binds the mount into the pod.
//! [`unmount`] undoes either. Mapping itself is [`rbd::krbd`].
//!
//! ```no_run
//! use rbd::{Cluster, krbd};
//! use rbd_volume::Volume;
//!
//! let pool = Cluster::connect()?.ioctx("rbd")?;
//! let device = krbd::map(&pool, "foo").exclusive(true).run()?;
//! let stage = "/var/lib/node/plugins/rbd/rbd-image-foo";
//! Volume::new(&device).stage(stage)?;
//! rbd_volume::publish(stage, "/var/lib/node/pods/1/volumes/foo", false)?;
//!
//! rbd_volume::unmount("/var/lib/node/pods/1/volumes/foo")?;
//! rbd_volume::unmount(stage)?;
//! device.unmap().run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An image's content comes from a container, which is not trusted. So file systems are mounted
//! `nosuid` and `nodev`: set-user-ID programs and device nodes in them have no effect on the node.
//! [`Volume::allow_suid`] and [`Volume::allow_devices`] change this.
//!
//! All calls block as long as the device does, without a timeout. All need root.

#![forbid(unsafe_code)]

mod content;
mod error;
mod mount;

use std::path::Path;
use std::process::{Command, Stdio};

use rbd::krbd::Device;
use rustix::mount::MountFlags;

pub use content::Content;
pub use error::{Error, Result};

/// A mapped image to use as a volume.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    device: &'a Device,
    read_only: bool,
    suid: bool,
    devices: bool,
}

/// What [`Volume::stage`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staged {
    /// The file system, by the kernel's name for it.
    pub file_system: &'static str,
    /// Whether this call made the file system, because the device was empty.
    pub formatted: bool,
}

impl<'a> Volume<'a> {
    /// Returns a volume on a mapped device: read-only if the device is, mounted `nosuid` and
    /// `nodev`.
    pub fn new(device: &'a Device) -> Volume<'a> {
        Volume { device, read_only: device.is_read_only(), suid: false, devices: false }
    }

    /// Sets whether to mount the volume read-only. Then nothing is formatted: an empty device is an
    /// error. A read-only device stays read-only in any case.
    #[must_use]
    pub fn read_only(self, on: bool) -> Volume<'a> {
        Volume { read_only: on || self.device.is_read_only(), ..self }
    }

    /// Lets set-user-ID and set-group-ID programs on the volume take effect: mounts without
    /// `nosuid`. Off unless called.
    #[must_use]
    pub fn allow_suid(self, on: bool) -> Volume<'a> {
        Volume { suid: on, ..self }
    }

    /// Lets device nodes on the volume be opened: mounts without `nodev`. Off unless called.
    #[must_use]
    pub fn allow_devices(self, on: bool) -> Volume<'a> {
        Volume { devices: on, ..self }
    }

    /// Mounts the device at a directory, which is created if it is missing. Makes an ext4 file
    /// system first if the device is empty, that is, its first and last MiB are all zeroes.
    ///
    /// A device with content is never formatted. If the content is no file system, this is an
    /// error.
    pub fn stage(&self, directory: impl AsRef<Path>) -> Result<Staged> {
        let (path, target) = (self.device.path(), directory.as_ref());
        let content = Content::of(&path).map_err(|source| Error::Read { device: path.clone(), source })?;
        let staged = match content {
            Content::FileSystem(file_system) => Staged { file_system, formatted: false },
            Content::Empty if self.read_only => return Err(Error::Empty { device: path }),
            Content::Empty => {
                format(&path).map_err(|reason| Error::Format { device: path.clone(), reason })?;
                Staged { file_system: "ext4", formatted: true }
            }
            content => return Err(Error::NoFileSystem { device: path, content }),
        };
        create(target)?;
        mount::mount(&path, target, staged.file_system, self.flags()).map_err(|source| Error::Mount {
            device: path,
            file_system: staged.file_system,
            target: target.to_owned(),
            source,
        })?;
        Ok(staged)
    }

    fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::NODEV, !self.devices);
        flags
    }
}

/// Binds a staged volume to a second directory, which is created if it is missing. The second mount
/// has the `nosuid` and `nodev` of the first.
///
/// A second call for the same directory mounts on top of the first: [`unmount`] as often.
pub fn publish(staged: impl AsRef<Path>, target: impl AsRef<Path>, read_only: bool) -> Result<()> {
    let (staged, target) = (staged.as_ref(), target.as_ref());
    create(target)?;
    mount::bind(staged, target, read_only).map_err(|source| Error::Bind {
        staged: staged.to_owned(),
        target: target.to_owned(),
        source,
    })
}

/// Unmounts what [`publish`] or [`Volume::stage`] mounted. The directory stays.
pub fn unmount(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    mount::unmount(target).map_err(|source| Error::Unmount { target: target.to_owned(), source })
}

/// Makes an ext4 file system, or says why not. The tables are written now, since writing them later
/// would slow down the first mount.
fn format(path: &Path) -> Result<(), String> {
    let output = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("mke2fs cannot be run ({error}); install the package e2fsprogs"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "mke2fs failed: {}; the device was empty, but may hold an unfinished file system now: erase \
         it (blkdiscard) to have it formatted again",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn create(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .map_err(|source| Error::CreateDirectory { directory: directory.to_owned(), source })
}
