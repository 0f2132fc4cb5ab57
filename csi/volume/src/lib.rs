//! Volumes for containers on mapped RBD images: a file system on the device, mounted, and bound
//! into the container's directory.
//!
//! This is what a node does for a pod volume. [`Volume::stage`] looks at the device, makes a file
//! system only if the device is empty, repairs it after a crash, mounts it, and grows it to the
//! size of the device. [`publish`] binds the mount into the pod. [`unmount`] undoes either.
//! [`grow`] grows the file system after its device has grown, and [`usage()`] returns how much is
//! used. [`rbd::krbd`] maps the image.
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
//! All calls block as long as the device does, without a timeout. All need root. They run the
//! programs of util-linux, e2fsprogs and xfsprogs.

#![forbid(unsafe_code)]

mod content;
mod error;
mod file_system;
mod mount;
mod mounts;
mod options;
mod usage;

use std::fs::{self, OpenOptions};
use std::path::Path;

use rbd::krbd::Device;
use rustix::mount::MountFlags;

pub use content::Content;
pub use error::{Error, Result};
pub use file_system::{FileSystem, UnknownFileSystem};
pub use mounts::{Mount, mounts, mounts_at};
pub use usage::{Usage, usage};

/// A mapped image to use as a volume.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    device: &'a Device,
    read_only: bool,
    flags: MountFlags,
    file_system: Option<FileSystem>,
    make_options: Vec<String>,
    mount_options: Vec<String>,
    format_again: bool,
}

/// What [`Volume::stage`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staged {
    /// The file system, by the kernel's name for it.
    pub file_system: String,
    /// Whether this call made the file system, because the device was empty.
    pub formatted: bool,
}

impl<'a> Volume<'a> {
    /// Returns a volume on a mapped device: read-only if the device is, mounted `nosuid` and
    /// `nodev`.
    pub fn new(device: &'a Device) -> Volume<'a> {
        Volume {
            device,
            read_only: device.is_read_only(),
            flags: MountFlags::NOSUID | MountFlags::NODEV,
            file_system: None,
            make_options: Vec::new(),
            mount_options: Vec::new(),
            format_again: false,
        }
    }

    /// Sets whether to mount the volume read-only. Then nothing is formatted: an empty device is an
    /// error. A read-only device stays read-only in any case. On a writable device, the kernel may
    /// still write: it replays the journal after a crash. Default: what the device is.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Volume<'a> {
        Volume { read_only: read_only || self.device.is_read_only(), ..self }
    }

    /// Sets whether set-user-ID and set-group-ID programs on the volume take effect: if so, it is
    /// mounted without `nosuid`. Default: off.
    #[must_use]
    pub fn allow_suid(mut self, allow_suid: bool) -> Volume<'a> {
        self.flags.set(MountFlags::NOSUID, !allow_suid);
        self
    }

    /// Sets whether device nodes on the volume can be opened: if so, it is mounted without `nodev`.
    /// Default: off.
    #[must_use]
    pub fn allow_devices(mut self, allow_devices: bool) -> Volume<'a> {
        self.flags.set(MountFlags::NODEV, !allow_devices);
        self
    }

    /// Sets the file system that an empty device gets. A device with another one is then an error.
    /// Default: an empty device gets ext4, and a device with any file system is accepted.
    #[must_use]
    pub fn file_system(self, file_system: FileSystem) -> Volume<'a> {
        Volume { file_system: Some(file_system), ..self }
    }

    /// Sets more arguments of the program that makes the file system, which follow those of this
    /// crate. Default: none.
    #[must_use]
    pub fn make_options(self, options: impl IntoIterator<Item = impl Into<String>>) -> Volume<'a> {
        Volume { make_options: options.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the mount options, as `mount -o` takes them. They win over the other settings: `suid`
    /// undoes `nosuid`. With `ro`, an empty device is still formatted; with
    /// [`read_only`](Self::read_only) it is not. Default: none.
    #[must_use]
    pub fn mount_options(self, options: impl IntoIterator<Item = impl Into<String>>) -> Volume<'a> {
        Volume { mount_options: options.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets whether to make the file system even if the device has content. **All data on it is
    /// lost.** Use it only for a device on which a first formatting was interrupted, and which has
    /// never been mounted. Default: off.
    #[must_use]
    pub fn format_again(self, format_again: bool) -> Volume<'a> {
        Volume { format_again, ..self }
    }

    /// Returns whether [`stage`](Self::stage) would make a file system. Reads the device.
    pub fn would_format(&self) -> Result<bool> {
        Ok(!self.read_only && (self.format_again || self.content()? == Content::Empty))
    }

    /// Makes a file system if the device is empty, that is, libblkid finds nothing on it and its
    /// first and last MiB are all zeroes. Does nothing else.
    ///
    /// A device with content is never formatted, unless [`format_again`](Self::format_again) says
    /// so.
    pub fn format(&self) -> Result<Staged> {
        let device = self.device.path();
        let made = match self.content()? {
            _ if self.format_again && !self.read_only => self.file_system.unwrap_or_default(),
            Content::FileSystem(found) => match self.file_system {
                Some(wanted) if wanted.as_str() != found => {
                    return Err(Error::OtherFileSystem { device, wanted, found });
                }
                _ => return Ok(Staged { file_system: found, formatted: false }),
            },
            Content::Empty if self.read_only => return Err(Error::Empty { device }),
            Content::Empty => self.file_system.unwrap_or_default(),
            content => return Err(Error::NoFileSystem { device, content }),
        };
        made.make(&device, &self.make_options, self.format_again)
            .map_err(|reason| Error::Format { device, reason })?;
        Ok(Staged { file_system: made.to_string(), formatted: true })
    }

    /// Mounts the device at a directory, which is created if it is missing. Makes a file system
    /// first if the device is empty, see [`format`](Self::format).
    ///
    /// Unless the volume is read-only, checks and repairs ext2, ext3 and ext4 before mounting
    /// (`e2fsck -p`), and grows ext4 and XFS to the size of the device afterwards. If the content
    /// is no file system, this is an error. After a failed growth, the volume stays mounted.
    pub fn stage(&self, directory: impl AsRef<Path>) -> Result<Staged> {
        let (device, target) = (self.device.path(), directory.as_ref());
        let mut flags = self.flags;
        flags.set(MountFlags::RDONLY, self.read_only);
        let (mut flags, mut words) =
            options::sort(&self.mount_options, flags).map_err(|option| Error::Option { option })?;
        flags.set(MountFlags::RDONLY, self.read_only || flags.contains(MountFlags::RDONLY));
        let staged = self.format()?;
        let kind = &*staged.file_system;
        if kind == "xfs" {
            // A clone has the same UUID as its parent, and both may be on this node.
            words.push("nouuid".into());
        }
        if self.device.is_read_only() && (kind == "xfs" || kind == "ext4" || kind == "ext3") {
            // Its journal cannot be replayed.
            words.push("norecovery".into());
        }
        let writable = !flags.contains(MountFlags::RDONLY);
        if writable && !staged.formatted {
            file_system::check(&device, kind).map_err(|reason| Error::Check {
                device: device.clone(),
                file_system: kind.to_owned(),
                reason,
            })?;
        }
        create(target)?;
        mount::mount(&device, target, kind, flags, &words).map_err(|source| Error::Mount {
            device: device.clone(),
            file_system: kind.to_owned(),
            target: target.to_owned(),
            source,
        })?;
        if writable && !staged.formatted && matches!(kind, "ext4" | "xfs") {
            grow_at(&device, target, kind)?;
        }
        Ok(staged)
    }

    fn content(&self) -> Result<Content> {
        let device = self.device.path();
        Content::of(&device).map_err(|source| Error::Read { device, source })
    }
}

/// Binds a staged volume to a second directory, which is created if it is missing. The second mount
/// has the `nosuid` and `nodev` of the first. If `staged` is no directory but a device, the target
/// is a file.
///
/// A second call for the same directory mounts on top of the first: [`unmount`] as often.
pub fn publish(staged: impl AsRef<Path>, target: impl AsRef<Path>, read_only: bool) -> Result<()> {
    let (staged, target) = (staged.as_ref(), target.as_ref());
    if staged.is_dir() {
        create(target)?;
    } else {
        create_file(target)?;
    }
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

/// Grows the file system that is mounted at this directory to the size of its device. Knows ext2,
/// ext3, ext4 and XFS.
pub fn grow(target: impl AsRef<Path>) -> Result<()> {
    let target = target.as_ref();
    let mounts = mounts_at(target).map_err(|source| Error::Mounts { source })?;
    let Some(mount) = mounts.last() else {
        let reason = "nothing is mounted there; stage the volume first".into();
        return Err(Error::Grow { target: target.to_owned(), reason });
    };
    grow_at(&mount.source, target, &mount.file_system)
}

fn grow_at(device: &Path, target: &Path, kind: &str) -> Result<()> {
    file_system::grow(device, target, kind)
        .map_err(|reason| Error::Grow { target: target.to_owned(), reason })
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .map_err(|source| Error::CreateDirectory { directory: directory.to_owned(), source })
}

fn create_file(file: &Path) -> Result<()> {
    if let Some(directory) = file.parent() {
        create(directory)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(file) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::CreateDirectory { directory: file.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
