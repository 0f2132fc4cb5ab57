//! Ceph block device images from Rust: create them, manage their features and snapshots, read and write them, map them
//! through the kernel.
#![deny(unsafe_code)]

mod errno;
mod error;
mod features;
mod holder;
mod version;

pub use errno::Errno;
pub use error::{Error, ErrorKind, ObjectKind, Result};
pub use features::{
    Change, FeatureConflict, Features, Flags, ImmutableFeatures, OpFeatures, Plan, Rule, UnknownFeature,
};
pub use holder::{Holder, Watcher};
pub use version::Version;
