//! The calls of librados and librbd that an embedded cluster needs.

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::path::Path;
use std::ptr;

use librbd_sys as sys;

use crate::{Error, Result};

/// A connection to the monitors.
#[derive(Debug)]
pub(crate) struct Rados {
    handle: sys::rados_t,
}

// SAFETY: a rados_t may be used from several threads at the same time, as librados.h says.
unsafe impl Send for Rados {}
// SAFETY: as above.
unsafe impl Sync for Rados {}

impl Rados {
    /// Connects as `entity` (`client.admin`) with the settings of the file `conf`. `options`
    /// override them.
    pub(crate) fn connect(conf: &Path, entity: &str, options: &[(&str, &str)]) -> Result<Self> {
        let target = conf.display().to_string();
        let failed = |operation| {
            let target = target.clone();
            move |source| Error::Rados { operation, target, source }
        };
        let cluster = c_string("ceph")?;
        let name = c_string(entity)?;
        let path = c_string(conf.to_str().ok_or_else(|| not_text(conf))?)?;

        let mut handle = ptr::null_mut();
        // SAFETY: `handle` outlives the call, both names are NUL-terminated.
        check(unsafe { sys::rados_create2(&raw mut handle, cluster.as_ptr(), name.as_ptr(), 0) })
            .map_err(failed("creating a client"))?;
        let rados = Self { handle }; // From here on dropped, hence shut down, on every path.
        // SAFETY: `handle` is a live cluster handle, the path NUL-terminated.
        check(unsafe { sys::rados_conf_read_file(rados.handle, path.as_ptr()) })
            .map_err(failed("reading the configuration"))?;
        for (option, value) in options {
            let (option, value) = (c_string(option)?, c_string(value)?);
            // SAFETY: `handle` is a live cluster handle, both strings NUL-terminated.
            check(unsafe { sys::rados_conf_set(rados.handle, option.as_ptr(), value.as_ptr()) })
                .map_err(failed("configuring a client"))?;
        }
        // SAFETY: `handle` is a live, not yet connected cluster handle.
        check(unsafe { sys::rados_connect(rados.handle) }).map_err(failed("connecting"))?;
        Ok(rados)
    }

    /// Sends a command in JSON. The error is the errno of the transport or the monitors, with their
    /// message.
    pub(crate) fn mon_command(&self, json: &str, input: &[u8]) -> Result<Vec<u8>, (i32, String)> {
        let json = CString::new(json).map_err(|_| (22, "a NUL byte in the command".to_owned()))?;
        let mut commands = [json.as_ptr()];
        let (mut out, mut out_len) = (ptr::null_mut(), 0);
        let (mut message, mut message_len) = (ptr::null_mut(), 0);
        // SAFETY: `handle` is connected; one NUL-terminated command; `input` is valid for its
        // length; the four results outlive the call.
        let code = unsafe {
            sys::rados_mon_command(
                self.handle,
                commands.as_mut_ptr(),
                commands.len(),
                input.as_ptr().cast(),
                input.len(),
                &raw mut out,
                &raw mut out_len,
                &raw mut message,
                &raw mut message_len,
            )
        };
        // SAFETY: the call above returned both, and they are taken once.
        let (out, message) = unsafe { (take(out, out_len), take(message, message_len)) };
        if code < 0 {
            return Err((-code, String::from_utf8_lossy(&message).trim().to_owned()));
        }
        Ok(out)
    }

    /// Initialises `pool` for RBD: sets its application and writes the object `rbd_info`.
    pub(crate) fn init_pool(&self, pool: &str) -> Result<()> {
        let failed =
            |source| Error::Rados { operation: "preparing a pool for RBD", target: pool.to_owned(), source };
        let name = c_string(pool)?;
        let mut ioctx = ptr::null_mut();
        // SAFETY: `handle` is connected, the name NUL-terminated, `ioctx` outlives the call.
        check(unsafe { sys::rados_ioctx_create(self.handle, name.as_ptr(), &raw mut ioctx) })
            .map_err(failed)?;
        // SAFETY: `ioctx` was created above and is destroyed below, once.
        let result = check(unsafe { sys::rbd_pool_init(ioctx, false) });
        // SAFETY: `ioctx` is not used after this.
        unsafe { sys::rados_ioctx_destroy(ioctx) };
        result.map_err(failed)
    }
}

impl Drop for Rados {
    fn drop(&mut self) {
        // SAFETY: `handle` is live and not used after this; pool handles made from it are destroyed
        // where they are made. This never runs on a thread of librados, which would wait for
        // itself, because this crate registers no callbacks.
        unsafe { sys::rados_shutdown(self.handle) };
    }
}

/// Copies a buffer that librados allocated, and frees it.
///
/// # Safety
/// `data` is null, or a buffer of `len` bytes from librados that is freed only here.
unsafe fn take(data: *mut c_char, len: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller promises `len` bytes at `data`.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }.to_vec();
    // SAFETY: the caller promises that librados allocated it and that it is freed only here.
    unsafe { sys::rados_buffer_free(data) };
    bytes
}

fn check(code: c_int) -> io::Result<()> {
    if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Invalid(format!("{text:?} has a NUL byte")))
}

fn not_text(path: &Path) -> Error {
    Error::Invalid(format!("{} is not UTF-8", path.display()))
}
