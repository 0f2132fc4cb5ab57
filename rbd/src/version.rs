//! Versions of the Ceph libraries.

use std::fmt;

/// The version of a loaded library: `1.16.0` of librbd, `3.0.0` of librados.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: i32,
    /// Second number: it counts Ceph's releases for librbd (16 for Pacific, 18 for Reef, 20 for
    /// Tentacle).
    pub minor: i32,
    /// Third number.
    pub extra: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.extra)
    }
}
