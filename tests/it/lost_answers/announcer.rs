//! A client that announces acquisitions of an image's exclusive lock that never happened.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::ptr;

use librbd_sys as sys;

/// A connection to the cluster.
pub(super) struct Announcer {
    cluster: sys::rados_t,
    ioctx: sys::rados_ioctx_t,
    header: CString,
}

// SAFETY: librados's calls may be made from any thread.
unsafe impl Sync for Announcer {}

impl Announcer {
    pub(super) fn connect(conf: &Path, namespace: &str, id: &str) -> Announcer {
        let (mut cluster, mut ioctx) = (ptr::null_mut(), ptr::null_mut());
        let conf = CString::new(conf.to_str().unwrap()).unwrap();
        let namespace = CString::new(namespace).unwrap();
        // SAFETY: texts and out pointers live through the calls; each handle is used after the call
        // that makes it.
        unsafe {
            assert_eq!(sys::rados_create(&raw mut cluster, c"admin".as_ptr()), 0);
            assert_eq!(sys::rados_conf_read_file(cluster, conf.as_ptr()), 0);
            assert_eq!(sys::rados_connect(cluster), 0);
            assert_eq!(sys::rados_ioctx_create(cluster, c"rbd".as_ptr(), &raw mut ioctx), 0);
            sys::rados_ioctx_set_namespace(ioctx, namespace.as_ptr());
        }
        Announcer { cluster, ioctx, header: CString::new(format!("rbd_header.{id}")).unwrap() }
    }

    /// Tells all clients that have the image open that a client of this number owns the lock.
    pub(super) fn announce_owner(&self, number: u64) {
        const ACQUIRED: u32 = 0;
        // Version, the oldest version that can read it, and the length.
        let head = [2, 1, 20, 0, 0, 0];
        let owner = [1 + number, 1].map(u64::to_le_bytes).concat();
        let message = [&head[..], &ACQUIRED.to_le_bytes(), &owner].concat();
        let (start, len) = (message.as_ptr().cast::<c_char>(), message.len() as c_int);
        let (reply, reply_len) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the handle is valid; name and message live through the call; no reply is wanted.
        unsafe { sys::rados_notify2(self.ioctx, self.header.as_ptr(), start, len, 1000, reply, reply_len) };
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        // SAFETY: both are ours, and nobody uses them any more.
        unsafe {
            sys::rados_ioctx_destroy(self.ioctx);
            sys::rados_shutdown(self.cluster);
        }
    }
}
