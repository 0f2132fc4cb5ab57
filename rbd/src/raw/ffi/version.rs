//! The versions of the loaded libraries.

use std::ffi::c_int;

use librbd_sys as sys;

use crate::version::Version;

/// Returns the version of the loaded librados.
pub(crate) fn librados_version() -> Version {
    version(sys::rados_version)
}

/// Returns the version of the loaded librbd.
pub(crate) fn librbd_version() -> Version {
    version(sys::rbd_version)
}

fn version(call: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int)) -> Version {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid out pointers.
    unsafe { call(&raw mut major, &raw mut minor, &raw mut patch) };
    Version { major, minor, patch }
}
