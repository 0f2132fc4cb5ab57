//! How much of a file system is used.

use std::path::Path;

use crate::error::{Error, Result};

/// How much of a mounted file system is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// All bytes.
    pub bytes: u64,
    /// The bytes that are used.
    pub used_bytes: u64,
    /// The bytes that programs without privileges can still use.
    pub available_bytes: u64,
    /// All inodes.
    pub inodes: u64,
    /// The inodes that are free.
    pub free_inodes: u64,
}

/// Returns how much of the file system at this path is used.
pub fn usage(path: impl AsRef<Path>) -> Result<Usage> {
    let path = path.as_ref();
    let found = rustix::fs::statvfs(path)
        .map_err(|error| Error::Usage { target: path.to_owned(), source: error.into() })?;
    Ok(Usage {
        bytes: found.f_blocks * found.f_frsize,
        used_bytes: (found.f_blocks - found.f_bfree) * found.f_frsize,
        available_bytes: found.f_bavail * found.f_frsize,
        inodes: found.f_files,
        free_inodes: found.f_ffree,
    })
}
