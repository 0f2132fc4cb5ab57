//! Metadata of images and pools (pairs of key and value), and the configuration options that they
//! override.

use std::ffi::{CStr, c_char, c_int};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string};
use crate::raw::image::Image;
use crate::raw::ioctx::IoCtx;

/// An option that an image or pool may override, its current value and the source of the value.
#[derive(Debug)]
pub(crate) struct RawConfigOption {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) source: sys::rbd_config_source_t,
}

/// How many pairs one call asks for.
const PAGE: u64 = 64;
/// The most bytes of a page. An OSD bounds the size of keys and values.
const LIMIT: usize = 1 << 28;

/// The C functions that list metadata. They differ only in their handle.
type List = unsafe extern "C" fn(
    *mut std::ffi::c_void,
    *const c_char,
    u64,
    *mut c_char,
    *mut usize,
    *mut c_char,
    *mut usize,
) -> c_int;

/// Returns all pairs, sorted by key.
///
/// # Safety
/// `handle` must be one that `list` takes.
unsafe fn all(list: List, handle: *mut std::ffi::c_void) -> RawResult<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut start = std::ffi::CString::default();
    loop {
        // SAFETY: the caller's promise.
        let (keys, values) = unsafe { page(list, handle, &start) }?;
        let Some(last) = keys.last() else { return Ok(pairs) };
        start.clone_from(last);
        let text = |bytes: std::ffi::CString| bytes.to_string_lossy().into_owned();
        pairs.extend(keys.into_iter().map(text).zip(values.into_iter().map(text)));
    }
}

type Page = (Vec<std::ffi::CString>, Vec<std::ffi::CString>);

/// Returns up to [`PAGE`] keys that follow `start`, with their values.
///
/// # Safety
/// See [`all`].
unsafe fn page(list: List, handle: *mut std::ffi::c_void, start: &CStr) -> RawResult<Page> {
    let (mut keys_len, mut values_len) = (4096, 16384);
    loop {
        let (mut keys, mut values) = (vec![0u8; keys_len], vec![0u8; values_len]);
        // SAFETY: both buffers have the lengths that are passed; the lengths needed or used come
        // back in the same place.
        let code = unsafe {
            list(
                handle,
                start.as_ptr(),
                PAGE,
                keys.as_mut_ptr().cast(),
                &raw mut keys_len,
                values.as_mut_ptr().cast(),
                &raw mut values_len,
            )
        };
        if code == -libc::ERANGE && keys_len.max(values_len) < LIMIT {
            // Leaves room for a key that is set meanwhile.
            keys_len = keys_len.max(keys.len()) + 256;
            values_len = values_len.max(values.len()) + 4096;
            continue;
        }
        check(code)?;
        let (keys, values) = (terminated(&keys, keys_len), terminated(&values, values_len));
        return if keys.len() == values.len() { Ok((keys, values)) } else { Err(Errno::EBADMSG) };
    }
}

/// Returns the NUL-terminated strings in the first `len` bytes, including empty ones.
fn terminated(buffer: &[u8], len: usize) -> Vec<std::ffi::CString> {
    let used = &buffer[..len.min(buffer.len())];
    used.split_inclusive(|byte| *byte == 0)
        .filter_map(|text| CStr::from_bytes_with_nul(text).ok().map(CStr::to_owned))
        .collect()
}

/// Returns options. The C functions for images and pools differ only in their handle.
///
/// # Safety
/// `list` must fill at most as many elements as its second argument says, and `cleanup` must free
/// what `list` allocates.
unsafe fn options(
    list: impl Fn(*mut sys::rbd_config_option_t, *mut c_int) -> c_int,
    cleanup: unsafe extern "C" fn(*mut sys::rbd_config_option_t, c_int),
) -> RawResult<Vec<RawConfigOption>> {
    let fetch = |buffer: *mut sys::rbd_config_option_t, capacity: usize| {
        let mut len = capacity as c_int;
        let code = list(buffer, &raw mut len);
        (code, usize::try_from(len).unwrap_or(0))
    };
    // SAFETY: a struct of pointers and an integer; all zeros are valid; `fetch` writes at most the
    // length it is given.
    let mut raw = unsafe { grow(128, fetch) }?;
    let options = raw
        .iter()
        .map(|option| RawConfigOption {
            // SAFETY: on success both strings are set.
            name: unsafe { copy_string(option.name) },
            // SAFETY: as above.
            value: unsafe { copy_string(option.value) },
            source: option.source,
        })
        .collect();
    // SAFETY: the library owns the strings, which are not used after this.
    unsafe { cleanup(raw.as_mut_ptr(), raw.len() as c_int) };
    Ok(options)
}

impl Image {
    pub(crate) fn metadata(&self) -> RawResult<Vec<(String, String)>> {
        // SAFETY: the image is open.
        let pairs = unsafe { all(sys::rbd_metadata_list, self.as_ptr()) }?;
        if pairs.is_empty() {
            // librbd takes a removed image for one without metadata.
            self.check_existence(None)?;
        }
        Ok(pairs)
    }

    pub(crate) fn metadata_value(&self, key: &CStr) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_metadata_get(self.as_ptr(), key.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(1024, fetch) }
    }

    pub(crate) fn metadata_set(&self, key: &CStr, value: &CStr) -> RawResult<()> {
        // SAFETY: the image is open; both strings live through the call.
        check(self.change(|| unsafe { sys::rbd_metadata_set(self.as_ptr(), key.as_ptr(), value.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn metadata_remove(&self, key: &CStr) -> RawResult<()> {
        // SAFETY: the image is open; the key lives through the call.
        check(self.change(|| unsafe { sys::rbd_metadata_remove(self.as_ptr(), key.as_ptr()) }))?;
        Ok(())
    }

    pub(crate) fn config_options(&self) -> RawResult<Vec<RawConfigOption>> {
        // SAFETY: the image is open; the buffer has `len` elements, the number needed or used comes
        // back there.
        let list = |buffer, len| unsafe { sys::rbd_config_image_list(self.as_ptr(), buffer, len) };
        // SAFETY: `cleanup` frees what `list` allocates.
        let options = unsafe { options(list, sys::rbd_config_image_list_cleanup) }?;
        if !options.iter().any(|option| option.source == sys::RBD_CONFIG_SOURCE_IMAGE) {
            // librbd takes a removed image for one that overrides nothing.
            self.check_existence(None)?;
        }
        Ok(options)
    }
}

impl IoCtx {
    pub(crate) fn metadata(&self) -> RawResult<Vec<(String, String)>> {
        // SAFETY: the handle is valid.
        unsafe { all(sys::rbd_pool_metadata_list, self.as_ptr()) }
    }

    pub(crate) fn metadata_value(&self, key: &CStr) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code =
                unsafe { sys::rbd_pool_metadata_get(self.as_ptr(), key.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(1024, fetch) }
    }

    pub(crate) fn metadata_set(&self, key: &CStr, value: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid; both strings live through the call.
        check(unsafe { sys::rbd_pool_metadata_set(self.as_ptr(), key.as_ptr(), value.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn metadata_remove(&self, key: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid; the key lives through the call.
        check(unsafe { sys::rbd_pool_metadata_remove(self.as_ptr(), key.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn config_options(&self) -> RawResult<Vec<RawConfigOption>> {
        // SAFETY: the handle is valid; the buffer has `len` elements, the number needed or used
        // comes back there.
        let list = |buffer, len| unsafe { sys::rbd_config_pool_list(self.as_ptr(), buffer, len) };
        // SAFETY: `cleanup` frees what `list` allocates.
        unsafe { options(list, sys::rbd_config_pool_list_cleanup) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_values_keep_their_place() {
        let values = terminated(b"a\0\0b\0rest", 5);
        let words: Vec<_> = values.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["a", "", "b"]);
    }
}
