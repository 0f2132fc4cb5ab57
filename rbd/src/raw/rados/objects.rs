//! The objects of a pool, below images.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, grow};
use crate::raw::ioctx::IoCtx;

/// The most bytes of one read or write. Objects are much smaller.
const MOST: usize = 1 << 30;

/// A listing of a pool's objects, with its position.
#[derive(Debug)]
pub(crate) struct RawObjectList {
    handle: Address<c_void>,
    /// Never read: it keeps the pool open.
    _ioctx: Arc<IoCtx>,
}

impl Drop for RawObjectList {
    fn drop(&mut self) {
        // SAFETY: we own the handle.
        unsafe { sys::rados_nobjects_list_close(self.handle.get()) }
    }
}

impl RawObjectList {
    pub(crate) fn open(ioctx: Arc<IoCtx>) -> RawResult<RawObjectList> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pool is open, the out pointer lives through the call.
        check(unsafe { sys::rados_nobjects_list_open(ioctx.as_ptr(), &raw mut handle) })?;
        // SAFETY: the list belongs to no thread, and one thread at a time uses it, because
        // `advance` borrows it mutably.
        let handle = unsafe { Address::new(handle) };
        Ok(RawObjectList { handle, _ioctx: ioctx })
    }

    /// Returns name and namespace of the next object, or `None` at the end.
    pub(crate) fn advance(&mut self) -> RawResult<Option<(String, String)>> {
        let (mut name, mut key, mut space) = (ptr::null(), ptr::null(), ptr::null());
        let (mut name_len, mut key_len, mut space_len) = (0, 0, 0);
        // SAFETY: the list is open, all out pointers live through the call.
        let code = unsafe {
            sys::rados_nobjects_list_next2(
                self.handle.get(),
                &raw mut name,
                &raw mut key,
                &raw mut space,
                &raw mut name_len,
                &raw mut key_len,
                &raw mut space_len,
            )
        };
        match check(code) {
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
            // SAFETY: on success they point to as many bytes, which live until the next call.
            Ok(_) => Ok(Some(unsafe { (text(name, name_len), text(space, space_len)) })),
        }
    }
}

/// # Safety
/// `start` must be null or point to `len` bytes.
unsafe fn text(start: *const c_char, len: usize) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(&unsafe { bytes(start, len) }).into_owned()
}

/// Copies bytes of the library.
///
/// # Safety
/// `start` must be null or point to `len` bytes.
pub(in crate::raw) unsafe fn bytes(start: *const c_char, len: usize) -> Vec<u8> {
    if start.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, so it points to as many bytes.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) }.to_vec()
}

impl IoCtx {
    /// Returns the size in bytes, and the time of the last change in seconds and nanoseconds since
    /// 1970. Older libraries return whole seconds.
    pub(crate) fn object_stat(&self, name: &CStr) -> RawResult<(u64, i64, i64)> {
        let mut size = 0;
        if let Some(stat2) = sys::late::rados_stat2.get() {
            // SAFETY: a struct of integers; all zeros are valid.
            let mut time: libc::timespec = unsafe { std::mem::zeroed() };
            // SAFETY: the pool is open; name and out pointers live through the call.
            check(unsafe { stat2(self.as_ptr(), name.as_ptr(), &raw mut size, &raw mut time) })?;
            return Ok((size, time.tv_sec, time.tv_nsec));
        }
        let mut seconds = 0;
        // SAFETY: as above.
        check(unsafe { sys::rados_stat(self.as_ptr(), name.as_ptr(), &raw mut size, &raw mut seconds) })?;
        Ok((size, seconds, 0))
    }

    /// Returns how many bytes were read: fewer at the end of the object.
    pub(crate) fn object_read(&self, name: &CStr, offset: u64, buffer: &mut [u8]) -> RawResult<usize> {
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len().min(MOST));
        // SAFETY: the pool is open, the name lives through the call, the buffer has `len` bytes.
        let code = unsafe { sys::rados_read(self.as_ptr(), name.as_ptr(), start, len, offset) };
        Ok(usize::try_from(check(code)?).unwrap_or(0))
    }

    pub(crate) fn object_write(&self, name: &CStr, offset: u64, data: &[u8]) -> RawResult<()> {
        let (start, len) = fit(data)?;
        // SAFETY: the pool is open; name and data live through the call.
        check(unsafe { sys::rados_write(self.as_ptr(), name.as_ptr(), start, len, offset) })?;
        Ok(())
    }

    pub(crate) fn object_write_full(&self, name: &CStr, data: &[u8]) -> RawResult<()> {
        let (start, len) = fit(data)?;
        // SAFETY: the pool is open; name and data live through the call.
        check(unsafe { sys::rados_write_full(self.as_ptr(), name.as_ptr(), start, len) })?;
        Ok(())
    }

    /// Calls a method of a class of the OSDs. Only an answer that is longer than the first buffer
    /// needs a second call, and a method that writes has no answer.
    pub(crate) fn object_execute(
        &self,
        object: &CStr,
        class: &CStr,
        method: &CStr,
        input: &[u8],
    ) -> RawResult<Vec<u8>> {
        let (start, input_len) = fit(input)?;
        let fetch = |buffer: *mut u8, len: usize| {
            // SAFETY: the pool is open; names, input and output live through the call, and input
            // and output have the lengths that are passed.
            let code = unsafe {
                sys::rados_exec(
                    self.as_ptr(),
                    object.as_ptr(),
                    class.as_ptr(),
                    method.as_ptr(),
                    start,
                    input_len,
                    buffer.cast(),
                    len,
                )
            };
            (code.min(0), usize::try_from(code).unwrap_or(0))
        };
        // SAFETY: zero is a valid u8; `fetch` writes at most the length it is given.
        unsafe { grow(512, fetch) }
    }

    pub(crate) fn object_remove(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the pool is open; the name lives through the call.
        check(unsafe { sys::rados_remove(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }
}

fn fit(data: &[u8]) -> RawResult<(*const c_char, usize)> {
    if data.len() > MOST { Err(Errno::E2BIG) } else { Ok((data.as_ptr().cast(), data.len())) }
}
