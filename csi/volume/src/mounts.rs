//! The mounts of this process, from the kernel's list.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// The numbers of the device whose file system is mounted.
    pub device: (u32, u32),
    /// The part of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Whether this mount is read-only.
    pub read_only: bool,
    /// The file system, by the kernel's name for it.
    pub file_system: String,
    /// What is mounted: a device's path, for file systems on devices.
    pub source: PathBuf,
}

/// Returns all mounts of this process, in the order in which they were made.
pub fn mounts() -> io::Result<Vec<Mount>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// Returns what is mounted at exactly this path, the topmost one last.
pub fn mounts_at(target: impl AsRef<Path>) -> io::Result<Vec<Mount>> {
    // The kernel's list has no symbolic links.
    let target = match std::fs::canonicalize(&target) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // What is mounted there may not answer any more.
        Err(_) => target.as_ref().to_owned(),
    };
    Ok(mounts()?.into_iter().filter(|mount| mount.target == target).collect())
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext4 /dev/x rw`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (root, target) = (path(fields.next()?), path(fields.next()?));
    let read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let file_system = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = path(rest.next()?);
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(Mount { device, root, target, read_only, file_system, source })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        if let Some(byte) = code {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_all_its_odd_characters() {
        let line = br"36 35 252:16 / /a\040b\134c ro,nosuid shared:7 master:1 - ext4 /dev/rbd1 rw,errors=x";
        assert_eq!(
            parse(line).unwrap(),
            Mount {
                device: (252, 16),
                root: "/".into(),
                target: r"/a b\c".into(),
                read_only: true,
                file_system: "ext4".into(),
                source: "/dev/rbd1".into(),
            }
        );
        assert!(parse(b"").is_none() && parse(b"1 2 x").is_none());
        assert!(mounts().unwrap().iter().any(|mount| mount.target == Path::new("/proc")));
        assert!(mounts_at("/nonexistent").unwrap().is_empty());
    }
}
