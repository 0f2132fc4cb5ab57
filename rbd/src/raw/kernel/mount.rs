//! Mounting and unmounting.

use std::ffi::CStr;
use std::ptr;

use crate::errno::Errno;
use crate::raw::RawResult;

/// Mounts the file system of a device.
pub(crate) fn mount(device: &CStr, target: &CStr, kind: &CStr, read_only: bool) -> RawResult<()> {
    call(device, target, Some(kind), if read_only { libc::MS_RDONLY } else { 0 })
}

/// Shows a mounted directory at a second place. The kernel takes read-only in a second step only.
pub(crate) fn bind(source: &CStr, target: &CStr, read_only: bool) -> RawResult<()> {
    call(source, target, None, libc::MS_BIND)?;
    if read_only {
        if let Err(errno) = call(source, target, None, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY) {
            // Writable is not what was asked for.
            let _ = unmount(target);
            return Err(errno);
        }
    }
    Ok(())
}

pub(crate) fn unmount(target: &CStr) -> RawResult<()> {
    // SAFETY: the path ends in NUL.
    check(unsafe { libc::umount2(target.as_ptr(), libc::UMOUNT_NOFOLLOW) })
}

fn call(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> RawResult<()> {
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: the strings end in NUL; type and data may be null, which says that there are none.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, ptr::null()) })
}

fn check(result: libc::c_int) -> RawResult<()> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}
