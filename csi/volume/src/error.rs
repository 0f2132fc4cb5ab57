//! Errors: what failed, on which device or directory, why, and what to do next.

use std::io;
use std::path::PathBuf;

use crate::{Content, FileSystem};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a volume could not be staged, published or unmounted.
///
/// The text is one line and names the operation, the object, the reason and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be read to find out what it holds.
    #[error("cannot read device '{}': {source}", device.display())]
    #[non_exhaustive]
    Read {
        /// The path of the device.
        device: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The device is empty, and the volume is read-only: no file system can be made.
    #[error(
        "cannot mount device '{}': it is empty, and the volume is read-only; \
         stage it writable once to have it formatted",
        device.display()
    )]
    #[non_exhaustive]
    Empty {
        /// The path of the device.
        device: PathBuf,
    },
    /// The device holds something that is no file system. It was not formatted.
    #[error(
        "cannot mount device '{}': it holds {content}; it was not formatted; \
         to use it as a volume, erase it, which destroys its data",
        device.display()
    )]
    #[non_exhaustive]
    NoFileSystem {
        /// The path of the device.
        device: PathBuf,
        /// What the device holds.
        content: Content,
    },
    /// The device holds another file system than the one that is asked for.
    #[error(
        "cannot mount device '{}' as {wanted}: it holds {found}; it was not formatted; \
         name {found} as its file system, or erase the device, which destroys its data",
        device.display()
    )]
    #[non_exhaustive]
    OtherFileSystem {
        /// The path of the device.
        device: PathBuf,
        /// The file system that is asked for.
        wanted: FileSystem,
        /// The file system that is there.
        found: String,
    },
    /// A volume cannot have this mount option.
    #[error("cannot mount with the option '{option}': it means another operation than a mount; leave it out")]
    #[non_exhaustive]
    Option {
        /// The option.
        option: String,
    },
    /// The file system has faults that could not be repaired automatically.
    #[error(
        "cannot mount device '{}' ({file_system}): {reason}; repair it by hand (fsck)",
        device.display()
    )]
    #[non_exhaustive]
    Check {
        /// The path of the device.
        device: PathBuf,
        /// The file system, by the kernel's name for it.
        file_system: String,
        /// What the program said, or why it did not run.
        reason: String,
    },
    /// The file system could not be grown to the size of its device.
    #[error("cannot grow the file system at '{}': {reason}", target.display())]
    #[non_exhaustive]
    Grow {
        /// The directory where it is mounted.
        target: PathBuf,
        /// What the program said, or why it did not run.
        reason: String,
    },
    /// The file system's figures could not be read.
    #[error("cannot read how much of the file system at '{}' is used: {source}", target.display())]
    #[non_exhaustive]
    Usage {
        /// A path in the file system.
        target: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel's list of mounts could not be read.
    #[error("cannot read the list of mounts: {source}")]
    #[non_exhaustive]
    Mounts {
        /// The system's reason.
        source: io::Error,
    },
    /// No file system could be made on the empty device.
    #[error("cannot format device '{}': {reason}", device.display())]
    #[non_exhaustive]
    Format {
        /// The path of the device.
        device: PathBuf,
        /// What the program said, or why it did not run.
        reason: String,
    },
    /// A directory, or a file, to mount at could not be created.
    #[error("cannot create '{}' to mount at: {source}", directory.display())]
    #[non_exhaustive]
    CreateDirectory {
        /// The path of the directory or file.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel refused to mount the file system.
    #[error(
        "cannot mount device '{}' ({file_system}) at '{}': {source}{}",
        device.display(), target.display(), mount_advice(source)
    )]
    #[non_exhaustive]
    Mount {
        /// The path of the device.
        device: PathBuf,
        /// The file system, by the kernel's name for it.
        file_system: String,
        /// The directory to mount at.
        target: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused the bind mount.
    #[error(
        "cannot bind the volume at '{}' to '{}': {source}{}",
        staged.display(), target.display(), root_advice(source)
    )]
    #[non_exhaustive]
    Bind {
        /// The directory where the volume is staged.
        staged: PathBuf,
        /// The directory to bind it to.
        target: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel refused to unmount.
    #[error("cannot unmount '{}': {source}{}", target.display(), unmount_advice(source))]
    #[non_exhaustive]
    Unmount {
        /// The directory.
        target: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn mount_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the device is read-only, but the journal has changes that must be written first: \
             mount it once from a writable device"
        }
        io::ErrorKind::ResourceBusy => "; it is mounted there already",
        _ => root_advice(error),
    }
}

fn root_advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { "; mounting requires root" } else { "" }
}

fn unmount_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidInput => "; nothing is mounted there",
        io::ErrorKind::ResourceBusy => {
            "; files in it are open, or something is mounted below it: close or unmount those first"
        }
        _ => root_advice(error),
    }
}
