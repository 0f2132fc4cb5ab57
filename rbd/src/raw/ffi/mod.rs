//! Conversions of values to C and back.

pub(in crate::raw) mod address;
pub(crate) mod conversion;
pub(crate) mod iovec;
pub(crate) mod late;
pub(crate) mod options;
#[cfg(feature = "mirror")]
pub(crate) mod secret;
pub(crate) mod version;
