//! A client of librados that watches an object and answers notifications.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::OnceLock;

use librbd_sys as sys;

/// Returns the answer to a notification.
type Answer = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A client with a watch on an object.
pub(crate) struct Watcher {
    cluster: sys::rados_t,
    watched: Box<Watched>,
    cookie: u64,
}

struct Watched {
    io: sys::rados_ioctx_t,
    object: CString,
    answer: OnceLock<Answer>,
}

// SAFETY: librados allows all calls below on any thread.
unsafe impl Send for Watcher {}
// SAFETY: as above.
unsafe impl Sync for Watcher {}

/// Called by librados with a `Watched`.
unsafe extern "C" fn notified(
    arg: *mut c_void,
    notify: u64,
    cookie: u64,
    _: u64,
    data: *mut c_void,
    len: usize,
) {
    // SAFETY: the watch ends before its argument.
    let watched = unsafe { &*arg.cast::<Watched>() };
    let data = if len == 0 {
        &[][..]
    } else {
        // SAFETY: librados passes this many bytes.
        unsafe { std::slice::from_raw_parts(data.cast_const().cast(), len) }
    };
    let answer = watched.answer.get().map_or_else(Vec::new, |answer| answer(data));
    // SAFETY: the pool is open; the bytes are valid.
    unsafe {
        sys::rados_notify_ack(
            watched.io,
            watched.object.as_ptr(),
            notify,
            cookie,
            answer.as_ptr().cast(),
            answer.len().try_into().unwrap(),
        )
    };
}

impl Watcher {
    pub(crate) fn new(conf: &CStr, namespace: &CStr, object: &CStr) -> Watcher {
        let (mut cluster, mut io, mut cookie) = (ptr::null_mut(), ptr::null_mut(), 0);
        // SAFETY: each string and out pointer lives through its call; the cluster and the pool are
        // used in their order of life; the argument of the watch lives until the watch has ended.
        unsafe {
            assert_eq!(sys::rados_create(&raw mut cluster, c"admin".as_ptr()), 0);
            assert_eq!(sys::rados_conf_read_file(cluster, conf.as_ptr()), 0);
            assert_eq!(sys::rados_connect(cluster), 0);
            assert_eq!(sys::rados_ioctx_create(cluster, c"rbd".as_ptr(), &raw mut io), 0);
            sys::rados_ioctx_set_namespace(io, namespace.as_ptr());
            let watched = Box::new(Watched { io, object: object.to_owned(), answer: OnceLock::new() });
            let arg = (&raw const *watched).cast_mut().cast();
            let code = sys::rados_watch2(io, object.as_ptr(), &raw mut cookie, Some(notified), None, arg);
            assert_eq!(code, 0);
            Watcher { cluster, watched, cookie }
        }
    }

    /// Sets the answer to notifications. Before, they get an empty one.
    pub(crate) fn answer(&self, answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) {
        assert!(self.watched.answer.set(Box::new(answer)).is_ok());
    }

    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    pub(crate) fn client(&self) -> u64 {
        // SAFETY: the cluster is connected.
        unsafe { sys::rados_get_instance_id(self.cluster) }
    }

    /// Calls a method of an object class on the object.
    pub(crate) fn execute(&self, class: &CStr, method: &CStr, input: &[u8]) {
        // SAFETY: the pool is open, strings and bytes live through the call.
        let code = unsafe {
            sys::rados_exec(
                self.watched.io,
                self.watched.object.as_ptr(),
                class.as_ptr(),
                method.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                ptr::null_mut(),
                0,
            )
        };
        assert_eq!(code, 0, "{method:?}");
    }

    /// Notifies all watchers of the object and waits for their answers.
    pub(crate) fn notify(&self, data: &[u8]) {
        // SAFETY: the pool is open, the bytes live through the call; null means no answers.
        let code = unsafe {
            sys::rados_notify2(
                self.watched.io,
                self.watched.object.as_ptr(),
                data.as_ptr().cast(),
                data.len().try_into().unwrap(),
                0,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        assert!(code == 0 || code == -libc::ETIMEDOUT, "{code}");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // SAFETY: in the reverse order of `new`. After the flush no callback runs.
        unsafe {
            sys::rados_unwatch2(self.watched.io, self.cookie);
            sys::rados_watch_flush(self.cluster);
            sys::rados_ioctx_destroy(self.watched.io);
            sys::rados_shutdown(self.cluster);
        }
    }
}
