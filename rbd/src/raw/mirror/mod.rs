//! Mirroring of a pool or namespace: its mode, its identity, the bootstrap of peers.

pub(crate) mod aio;
pub(crate) mod image;
pub(crate) mod list;
pub(crate) mod peer;

use std::ffi::{CStr, c_char};

use librbd_sys as sys;
use zeroize::Zeroizing;

use crate::raw::RawResult;
use crate::raw::cluster::Cluster;
use crate::raw::ffi::conversion::{check, grow_string};
use crate::raw::ffi::late::{LateResult, need};
use crate::raw::ffi::secret::grow_secret;
use crate::raw::ioctx::IoCtx;

impl Cluster {
    pub(crate) fn mirror_site_name(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_mirror_site_name_get(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    pub(crate) fn set_mirror_site_name(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rbd_mirror_site_name_set(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }
}

impl IoCtx {
    pub(crate) fn mirror_mode(&self) -> RawResult<u32> {
        let mut mode = sys::RBD_MIRROR_MODE_DISABLED;
        // SAFETY: the handle is valid, the out pointer lives through the call.
        check(unsafe { sys::rbd_mirror_mode_get(self.as_ptr(), &raw mut mode) })?;
        Ok(mode.0)
    }

    pub(crate) fn set_mirror_mode(&self, mode: u32) -> RawResult<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rbd_mirror_mode_set(self.as_ptr(), sys::rbd_mirror_mode_t(mode)) })?;
        Ok(())
    }

    pub(crate) fn mirror_uuid(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_mirror_uuid_get(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    pub(crate) fn mirror_remote_namespace(&self) -> LateResult<String> {
        let get = need(&sys::late::rbd_mirror_remote_namespace_get)?;
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { get(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        Ok(unsafe { grow_string(64, fetch) }?)
    }

    pub(crate) fn set_mirror_remote_namespace(&self, namespace: &CStr) -> LateResult<()> {
        let set = need(&sys::late::rbd_mirror_remote_namespace_set)?;
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { set(self.as_ptr(), namespace.as_ptr()) })?;
        Ok(())
    }

    /// Returns the token. It contains a key, so no other copy stays in memory.
    pub(crate) fn mirror_bootstrap_create(&self) -> RawResult<Zeroizing<String>> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_mirror_peer_bootstrap_create(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_secret(1024, fetch) }
    }

    pub(crate) fn mirror_bootstrap_import(&self, direction: u32, token: &CStr) -> RawResult<()> {
        let direction = sys::rbd_mirror_peer_direction_t(direction);
        // SAFETY: the handle is valid, the token lives through the call.
        check(unsafe { sys::rbd_mirror_peer_bootstrap_import(self.as_ptr(), direction, token.as_ptr()) })?;
        Ok(())
    }
}
