//! Mounts and bind mounts.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount};

/// Mounts the file system of a device.
pub(crate) fn mount(
    device: &Path,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    words: &[String],
) -> io::Result<()> {
    let words = (!words.is_empty()).then(|| CString::new(words.join(","))).transpose()?;
    Ok(rustix::mount::mount(device, target, kind, flags, words.as_deref())?)
}

/// Mounts a mounted directory or a device at a second place, with the flags of the first.
pub(crate) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    mount_bind(source, target)?;
    if !read_only {
        return Ok(());
    }
    // The kernel takes the flag only in a second step. If that fails, no writable mount may remain.
    make_read_only(target).inspect_err(|_| {
        let _ = unmount(target);
    })
}

/// Makes a mount read-only. A remount drops every flag that it does not name, so it names those
/// that are set.
fn make_read_only(target: &Path) -> io::Result<()> {
    const KEPT: [(StatVfsMountFlags, MountFlags); 6] = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let set = statvfs(target)?.f_flag;
    let kept = KEPT.iter().filter(|(seen, _)| set.contains(*seen)).map(|(_, flag)| *flag);
    let flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY, |all, flag| all | flag);
    Ok(mount_remount(target, flags, "")?)
}

/// Unmounts a directory. A symbolic link is not followed.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
}
