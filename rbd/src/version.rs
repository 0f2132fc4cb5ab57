//! The versions of the loaded Ceph libraries.

use std::fmt;

/// The version of a loaded library: `1.16.0` for librbd, `3.0.0` for librados.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Version {
    /// The first number.
    pub major: i32,
    /// The second number. For librbd it is the Ceph release (16 for Pacific, 18 for Reef, 20 for
    /// Tentacle).
    pub minor: i32,
    /// The third number.
    pub patch: i32,
}

impl Version {
    /// Creates a version, to compare the loaded one with: `version >= Version::new(1, 18, 0)`.
    pub const fn new(major: i32, minor: i32, patch: i32) -> Version {
        Version { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
