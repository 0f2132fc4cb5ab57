//! Watches of RADOS objects.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::mark::CallbackMark;

/// What a watch calls on threads of librados. It must not block.
pub(in crate::raw) trait Hear: Send + Sync + 'static {
    /// Hears a notification. Its sender waits until it is acknowledged, which is at once if this
    /// returns it.
    fn hear(&self, message: &[u8], notification: Notification) -> Option<Notification>;

    /// The watch was lost, so it may miss notifications.
    fn lost(&self) {}
}

/// A notification that is not acknowledged: its number, and the cookie of the watch.
pub(in crate::raw) struct Notification(u64, u64);

/// A registered watch. Dropping it ends it. The drop blocks; it must not run on a thread of Ceph.
pub(in crate::raw) struct Watch<H: Hear> {
    shared: Arc<Shared<H>>,
    cookie: u64,
}

struct Shared<H> {
    ioctx: Arc<IoCtx>,
    object: CString,
    ear: H,
}

impl<H: Hear> Watch<H> {
    /// Blocks.
    pub(in crate::raw) fn begin(ioctx: Arc<IoCtx>, object: CString, ear: H) -> RawResult<Watch<H>> {
        let shared = Arc::new(Shared { ioctx, object, ear });
        let arg = Arc::as_ptr(&shared).cast_mut().cast::<c_void>();
        let mut cookie = 0;
        // SAFETY: the pool is open; name and out pointer live through the call; what `arg` points
        // to lives until the drop has ended the watch and its callbacks.
        check(unsafe {
            sys::rados_watch3(
                shared.ioctx.as_ptr(),
                shared.object.as_ptr(),
                &raw mut cookie,
                Some(on_notify::<H>),
                Some(on_error::<H>),
                0,
                arg,
            )
        })?;
        Ok(Watch { shared, cookie })
    }

    pub(in crate::raw) fn ear(&self) -> &H {
        &self.shared.ear
    }

    pub(in crate::raw) fn acknowledge(&self, notification: Notification) {
        self.shared.acknowledge(notification);
    }

    /// Waits until the callbacks have run for all notifications that were sent. Blocks.
    pub(in crate::raw) fn catch_up(&self) -> RawResult<()> {
        // The OSD has sent each notification to all watchers before it answers this, on the same
        // connection.
        self.shared.ioctx.object_stat(&self.shared.object)?;
        self.flush();
        Ok(())
    }

    /// Sends a message to all watchers of the object. Blocks until they have acknowledged it.
    pub(in crate::raw) fn notify(&self, message: &[u8], timeout: Duration) {
        let (start, len) = (message.as_ptr().cast::<c_char>(), message.len() as c_int);
        // SAFETY: the pool is open; name and message live through the call; librados accepts null
        // if the replies are not wanted.
        unsafe {
            sys::rados_notify2(
                self.shared.ioctx.as_ptr(),
                self.shared.object.as_ptr(),
                start,
                len,
                timeout.as_millis() as u64,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
    }

    /// Waits until the callbacks have run for all notifications that have arrived.
    fn flush(&self) {
        // SAFETY: the cluster is connected.
        unsafe { sys::rados_watch_flush(self.shared.ioctx.cluster().as_ptr()) };
    }
}

impl<H: Hear> Drop for Watch<H> {
    fn drop(&mut self) {
        // SAFETY: our watch. librados forgets it even if the OSD does not answer.
        unsafe { sys::rados_unwatch2(self.shared.ioctx.as_ptr(), self.cookie) };
        self.flush();
    }
}

impl<H> Shared<H> {
    fn acknowledge(&self, Notification(number, cookie): Notification) {
        // SAFETY: the pool is open, the name lives through the call, which does not block. An
        // answer without content has no length; librbd ignores it.
        unsafe {
            sys::rados_notify_ack(self.ioctx.as_ptr(), self.object.as_ptr(), number, cookie, ptr::null(), 0)
        };
    }
}

unsafe extern "C" fn on_notify<H: Hear>(
    arg: *mut c_void,
    number: u64,
    cookie: u64,
    _notifier: u64,
    data: *mut c_void,
    len: usize,
) {
    let _mark = CallbackMark::set();
    // SAFETY: `begin` passed a Shared that lives as long as this can be called.
    let shared = unsafe { &*arg.cast::<Shared<H>>() };
    let message = if data.is_null() || len == 0 {
        &[]
    } else {
        // SAFETY: librados lends `len` bytes for this call.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }
    };
    if let Some(notification) = shared.ear.hear(message, Notification(number, cookie)) {
        shared.acknowledge(notification);
    }
}

unsafe extern "C" fn on_error<H: Hear>(arg: *mut c_void, _cookie: u64, _errno: c_int) {
    let _mark = CallbackMark::set();
    // SAFETY: as in `on_notify`.
    let shared = unsafe { &*arg.cast::<Shared<H>>() };
    shared.ear.lost();
}
