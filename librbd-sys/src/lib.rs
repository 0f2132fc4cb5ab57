#![doc = include_str!("../README.md")]

/// The declarations that every supported release has.
#[cfg(not(feature = "bindgen"))]
#[path = "generated/bindings.rs"]
#[allow(missing_docs, unused_imports, non_camel_case_types, clippy::pedantic)]
mod bindings;

#[cfg(feature = "bindgen")]
#[allow(missing_docs, unused_imports, non_camel_case_types, clippy::all, clippy::pedantic)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub mod late;
mod symbols;

pub use bindings::*;
pub use symbols::{LATE_ITEMS, SYMBOLS, Symbol};

/// The argument of `rados_ioctx_snap_set_read` that reads the current state of the objects, not a
/// snapshot.
pub const LIBRADOS_SNAP_HEAD: u64 = -2_i64 as u64;
/// The snapshot id that stands for all of an object's clones.
pub const LIBRADOS_SNAP_DIR: u64 = -1_i64 as u64;

/// The version of the librados header that was bound.
pub const LIBRADOS_VERSION_CODE: u32 =
    LIBRADOS_VERSION(LIBRADOS_VER_MAJOR, LIBRADOS_VER_MINOR, LIBRADOS_VER_EXTRA);
/// The version of the librbd header that was bound.
pub const LIBRBD_VERSION_CODE: u32 = LIBRBD_VERSION(LIBRBD_VER_MAJOR, LIBRBD_VER_MINOR, LIBRBD_VER_EXTRA);

/// Encodes a version like `LIBRADOS_VERSION_CODE`.
#[allow(non_snake_case)]
pub const fn LIBRADOS_VERSION(major: u32, minor: u32, extra: u32) -> u32 {
    (major << 16) + (minor << 8) + extra
}

/// Encodes a version like `LIBRBD_VERSION_CODE`.
#[allow(non_snake_case)]
pub const fn LIBRBD_VERSION(major: u32, minor: u32, extra: u32) -> u32 {
    (major << 16) + (minor << 8) + extra
}
