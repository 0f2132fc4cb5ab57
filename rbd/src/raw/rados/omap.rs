//! The keys and values, and the extended attributes, of an object.

use std::ffi::{CStr, CString};
use std::ptr;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, copy_string};
use crate::raw::ioctx::IoCtx;
use crate::raw::rados::objects::bytes;

/// How many keys one call asks for.
const PAGE: u64 = 1024;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A read operation. It is released when it is dropped.
pub(in crate::raw) struct ReadOp(pub(in crate::raw) sys::rados_read_op_t);

impl Drop for ReadOp {
    fn drop(&mut self) {
        // SAFETY: we own it.
        unsafe { sys::rados_release_read_op(self.0) }
    }
}

/// A write operation. It is released when it is dropped.
struct WriteOp(sys::rados_write_op_t);

impl Drop for WriteOp {
    fn drop(&mut self) {
        // SAFETY: we own it.
        unsafe { sys::rados_release_write_op(self.0) }
    }
}

/// The result of an operation. It is ended when it is dropped. Null if the operation did not run.
struct OmapIter(sys::rados_omap_iter_t);

impl Drop for OmapIter {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: we own it.
            unsafe { sys::rados_omap_get_end(self.0) }
        }
    }
}

struct AttributeIter(sys::rados_xattrs_iter_t);

impl Drop for AttributeIter {
    fn drop(&mut self) {
        // SAFETY: we own it.
        unsafe { sys::rados_getxattrs_end(self.0) }
    }
}

impl IoCtx {
    /// Returns all keys with their values, sorted by key.
    pub(crate) fn omap(&self, object: &CStr) -> RawResult<Pairs> {
        let mut all = Pairs::new();
        let mut start = CString::default();
        loop {
            let (page, more) = self.omap_page(object, &start)?;
            let last = page.last().map(|(key, _)| key.clone());
            all.extend(page);
            match last {
                // C cannot continue after a key that contains a NUL.
                Some(key) if more => start = CString::new(key).map_err(|_| Errno::EBADMSG)?,
                _ => return Ok(all),
            }
        }
    }

    /// Returns keys that follow `start` with their values, and whether more follow.
    fn omap_page(&self, object: &CStr, start: &CStr) -> RawResult<(Pairs, bool)> {
        // SAFETY: needs nothing.
        let op = ReadOp(unsafe { sys::rados_create_read_op() });
        let mut iter = OmapIter(ptr::null_mut());
        let (mut more, mut result) = (0, 0);
        // SAFETY: the strings and out pointers live until the operation has run below; librados
        // makes the iterator at once.
        let code = unsafe {
            let (prefix, iter) = (ptr::null(), &raw mut iter.0);
            let (more, result) = (&raw mut more, &raw mut result);
            sys::rados_read_op_omap_get_vals2(op.0, start.as_ptr(), prefix, PAGE, iter, more, result);
            sys::rados_read_op_operate(op.0, self.as_ptr(), object.as_ptr(), 0)
        };
        check(code)?;
        check(result)?;
        // SAFETY: the operation has filled the iterator.
        let mut pairs = Pairs::with_capacity(unsafe { sys::rados_omap_iter_size(iter.0) } as usize);
        loop {
            let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
            let (mut key_len, mut value_len) = (0, 0);
            // SAFETY: as above; all out pointers live through the call.
            check(unsafe {
                sys::rados_omap_get_next2(
                    iter.0,
                    &raw mut key,
                    &raw mut value,
                    &raw mut key_len,
                    &raw mut value_len,
                )
            })?;
            if key.is_null() {
                return Ok((pairs, more != 0));
            }
            // SAFETY: both point to as many bytes, which the iterator owns.
            pairs.push(unsafe { (bytes(key, key_len), bytes(value, value_len)) });
        }
    }

    /// Sets these keys atomically.
    pub(crate) fn omap_set(&self, object: &CStr, pairs: &[(&[u8], &[u8])]) -> RawResult<()> {
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_ptr().cast()).collect();
        let values: Vec<_> = pairs.iter().map(|(_, value)| value.as_ptr().cast()).collect();
        let key_lens: Vec<usize> = pairs.iter().map(|(key, _)| key.len()).collect();
        let value_lens: Vec<usize> = pairs.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: needs nothing.
        let op = WriteOp(unsafe { sys::rados_create_write_op() });
        // SAFETY: all arrays have as many elements as is said, each with its length; librados
        // copies them.
        unsafe {
            sys::rados_write_op_omap_set2(
                op.0,
                keys.as_ptr(),
                values.as_ptr(),
                key_lens.as_ptr(),
                value_lens.as_ptr(),
                pairs.len(),
            );
        }
        self.operate(&op, object)
    }

    /// Removes these keys atomically.
    pub(crate) fn omap_remove(&self, object: &CStr, keys: &[&[u8]]) -> RawResult<()> {
        let starts: Vec<_> = keys.iter().map(|key| key.as_ptr().cast()).collect();
        let lens: Vec<usize> = keys.iter().map(|key| key.len()).collect();
        // SAFETY: needs nothing.
        let op = WriteOp(unsafe { sys::rados_create_write_op() });
        // SAFETY: both arrays have as many elements as is said; librados copies the keys.
        unsafe { sys::rados_write_op_omap_rm_keys2(op.0, starts.as_ptr(), lens.as_ptr(), keys.len()) };
        self.operate(&op, object)
    }

    fn operate(&self, op: &WriteOp, object: &CStr) -> RawResult<()> {
        // SAFETY: the pool is open; the name lives through the call; null means the current time.
        check(unsafe {
            sys::rados_write_op_operate(op.0, self.as_ptr(), object.as_ptr(), ptr::null_mut(), 0)
        })?;
        Ok(())
    }

    /// Returns all extended attributes.
    pub(crate) fn object_attributes(&self, object: &CStr) -> RawResult<Vec<(String, Vec<u8>)>> {
        let mut iter = ptr::null_mut();
        // SAFETY: the pool is open; name and out pointer live through the call.
        check(unsafe { sys::rados_getxattrs(self.as_ptr(), object.as_ptr(), &raw mut iter) })?;
        let iter = AttributeIter(iter);
        let mut attributes = Vec::new();
        loop {
            let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the iterator is open, all out pointers live through the call.
            check(unsafe { sys::rados_getxattrs_next(iter.0, &raw mut name, &raw mut value, &raw mut len) })?;
            if name.is_null() {
                return Ok(attributes);
            }
            // SAFETY: a C string and as many bytes, which the iterator owns.
            attributes.push(unsafe { (copy_string(name), bytes(value, len)) });
        }
    }
}
