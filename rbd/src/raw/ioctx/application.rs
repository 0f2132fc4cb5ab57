//! The applications of a pool, and their metadata.

use std::ffi::{CStr, c_char, c_int};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, grow_strings, split};
use crate::raw::ioctx::IoCtx;

/// The largest buffer. Monitors keep this data in the map of all pools, so it is smaller.
const LIMIT: usize = 1 << 24;

impl IoCtx {
    /// Enables an application on the pool.
    pub(crate) fn application_enable(&self, application: &CStr, force: bool) -> RawResult<()> {
        // SAFETY: the pool is open; the name lives through the call.
        check(unsafe {
            sys::rados_application_enable(self.as_ptr(), application.as_ptr(), c_int::from(force))
        })?;
        Ok(())
    }

    pub(crate) fn applications(&self) -> RawResult<Vec<String>> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed or used comes back in `len`.
            let code = unsafe { sys::rados_application_list(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_strings(256, fetch) }
    }

    /// Returns pairs of key and value.
    pub(crate) fn application_metadata(&self, application: &CStr) -> RawResult<Vec<(String, String)>> {
        let (mut keys_len, mut values_len) = (1024, 4096);
        loop {
            let (mut keys, mut values) = (vec![0 as c_char; keys_len], vec![0 as c_char; values_len]);
            // SAFETY: both buffers have the lengths that are passed; the lengths needed or used
            // come back in the same place.
            let code = unsafe {
                sys::rados_application_metadata_list(
                    self.as_ptr(),
                    application.as_ptr(),
                    keys.as_mut_ptr(),
                    &raw mut keys_len,
                    values.as_mut_ptr(),
                    &raw mut values_len,
                )
            };
            if code == -libc::ERANGE && keys_len.max(values_len) < LIMIT {
                (keys_len, values_len) = (keys_len.max(keys.len()) * 2, values_len.max(values.len()) * 2);
                continue;
            }
            check(code)?;
            // Values may be empty, keys not.
            let keys = split(&keys[..keys_len.min(keys.len())]).take_while(|key| !key.is_empty());
            return Ok(keys.zip(split(&values)).collect());
        }
    }

    pub(crate) fn application_set(&self, application: &CStr, key: &CStr, value: &CStr) -> RawResult<()> {
        let (application, key, value) = (application.as_ptr(), key.as_ptr(), value.as_ptr());
        // SAFETY: the pool is open, all strings live through the call.
        check(unsafe { sys::rados_application_metadata_set(self.as_ptr(), application, key, value) })?;
        Ok(())
    }

    pub(crate) fn application_remove(&self, application: &CStr, key: &CStr) -> RawResult<()> {
        let (application, key) = (application.as_ptr(), key.as_ptr());
        // SAFETY: the pool is open, both strings live through the call.
        check(unsafe { sys::rados_application_metadata_remove(self.as_ptr(), application, key) })?;
        Ok(())
    }
}
