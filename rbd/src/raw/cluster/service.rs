//! The registration of a client as a service of the cluster, and the cluster's own log.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::cluster::Cluster;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, copy_string};
use crate::raw::thread::background::outside_callback;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

/// A line of the cluster's log. The time is in seconds and nanoseconds since 1970.
#[derive(Debug)]
pub(crate) struct RawLogEntry {
    pub(crate) channel: String,
    pub(crate) name: String,
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
    pub(crate) sequence: u64,
    pub(crate) level: String,
    pub(crate) message: String,
}

type LogCallback = dyn Fn(RawLogEntry) + Send + Sync;

/// A watch of the cluster's log: a callback runs for each line until this is dropped.
pub(crate) struct RawLogWatch {
    cluster: Arc<Cluster>,
    callback: Address<Box<LogCallback>>,
}

impl Drop for RawLogWatch {
    fn drop(&mut self) {
        if self.cluster.is_forked() {
            return;
        }
        let (cluster, callback) = (Arc::clone(&self.cluster), self.callback);
        outside_callback(move || {
            // SAFETY: the handle is connected; null ends the watch. librados calls back under the
            // same lock, so no callback is running afterwards.
            if unsafe { sys::rados_monitor_log2(cluster.as_ptr(), c"".as_ptr(), None, ptr::null_mut()) } < 0 {
                // The callback may still be called, so it must stay.
                return;
            }
            // SAFETY: it is never called again, and the watch owned it.
            drop(unsafe { Box::from_raw(callback.get()) });
            cluster.log_watched().store(false, Ordering::Release);
        });
    }
}

impl RawLogWatch {
    /// Starts the watch. `level` is Ceph's word for a level. A connection has at most one watch: a
    /// second one fails with EBUSY.
    pub(crate) fn start(
        cluster: &Arc<Cluster>,
        level: &CStr,
        callback: impl Fn(RawLogEntry) + Send + Sync + 'static,
    ) -> RawResult<RawLogWatch> {
        let watched: &AtomicBool = cluster.log_watched();
        if watched.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        let callback: *mut Box<LogCallback> = Box::into_raw(Box::new(Box::new(callback)));
        // SAFETY: the handle is connected; the callback stays at its address until the watch has
        // ended, or is leaked.
        let code = unsafe {
            sys::rados_monitor_log2(cluster.as_ptr(), level.as_ptr(), Some(on_line), callback.cast())
        };
        if code < 0 {
            // SAFETY: it was not registered, so the pointer is ours alone.
            drop(unsafe { Box::from_raw(callback) });
            watched.store(false, Ordering::Release);
        }
        check(code)?;
        // SAFETY: the callback is Send and Sync.
        let callback = unsafe { Address::new(callback) };
        Ok(RawLogWatch { cluster: Arc::clone(cluster), callback })
    }
}

unsafe extern "C" fn on_line(
    arg: *mut c_void,
    _line: *const c_char,
    channel: *const c_char,
    _who: *const c_char,
    name: *const c_char,
    seconds: u64,
    nanoseconds: u64,
    sequence: u64,
    level: *const c_char,
    message: *const c_char,
) {
    let _mark = CallbackMark::set();
    // SAFETY: `start` passed a Box<LogCallback> that lives as long as this can be called.
    let callback = unsafe { &*arg.cast::<Box<LogCallback>>() };
    // SAFETY: librados passes C strings.
    let entry = unsafe {
        RawLogEntry {
            channel: copy_string(channel),
            name: copy_string(name),
            seconds,
            nanoseconds,
            sequence,
            level: copy_string(level),
            message: copy_string(message),
        }
    };
    catch_panic(|| callback(entry));
}

impl Cluster {
    /// `metadata` are alternating keys and values, each ended by a NUL, and a final NUL.
    pub(crate) fn service_register(&self, service: &CStr, daemon: &CStr, metadata: &Dict) -> RawResult<()> {
        let (service, daemon) = (service.as_ptr(), daemon.as_ptr());
        // SAFETY: the handle is connected, all strings live through the call, and the last one is
        // ended by an empty one.
        check(unsafe { sys::rados_service_register(self.as_ptr(), service, daemon, metadata.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn service_status(&self, status: &Dict) -> RawResult<()> {
        // SAFETY: as for `service_register`.
        check(unsafe { sys::rados_service_update_status(self.as_ptr(), status.as_ptr()) })?;
        Ok(())
    }
}

/// Keys and values in the form that librados takes.
#[derive(Debug)]
pub(crate) struct Dict(Vec<u8>);

impl Dict {
    /// Returns `None` for NULs and for empty keys, which would end the list.
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Dict> {
        let mut bytes = Vec::new();
        for (key, value) in pairs {
            if key.is_empty() || key.contains('\0') || value.contains('\0') {
                return None;
            }
            for word in [key, value] {
                bytes.extend_from_slice(word.as_bytes());
                bytes.push(0);
            }
        }
        bytes.push(0);
        Some(Dict(bytes))
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dict_ends_with_an_empty_key() {
        assert_eq!(Dict::new([("a", "1"), ("b", "")]).unwrap().0, b"a\x001\0b\0\0\0");
        assert!(Dict::new([("", "1")]).is_none() && Dict::new([("a", "\0")]).is_none());
    }
}
