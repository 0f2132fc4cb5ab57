//! Holds back the snapshots of an image while a quiesce watch begins.
//!
//! The client that takes a snapshot first notifies all watchers of the image's header, and
//! continues when each has acknowledged. A gate is one more watcher of the header. It keeps its
//! acknowledgements until it opens, so no snapshot reaches its thaw before that. It acknowledges
//! all other notifications at once. A notification that is held for too long times out at its
//! sender, which then repeats it.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::mark::CallbackMark;

/// The operation of librbd's notification of a snapshot that is about to be taken.
const QUIESCE: u32 = 18;

/// A registered gate. Dropping it opens it. The drop blocks; it must not run on a thread of Ceph.
pub(super) struct SnapshotGate {
    ioctx: Arc<IoCtx>,
    header: CString,
    cookie: u64,
    seen: Arc<Seen>,
}

struct Seen {
    ioctx: Arc<IoCtx>,
    header: CString,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The notifications that are not acknowledged, and the cookie of their watch.
    held: Vec<(u64, u64)>,
    /// How many snapshots were announced.
    announced: u64,
    /// The watch was lost, so announcements may have been missed.
    lost: bool,
    open: bool,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self, (notification, cookie): (u64, u64)) {
        // SAFETY: the pool is open, the name lives through the call, which does not block. An
        // answer without content has no length.
        unsafe {
            sys::rados_notify_ack(
                self.ioctx.as_ptr(),
                self.header.as_ptr(),
                notification,
                cookie,
                ptr::null(),
                0,
            )
        };
    }
}

impl SnapshotGate {
    /// Blocks.
    pub(super) fn close(ioctx: Arc<IoCtx>, header: CString) -> RawResult<SnapshotGate> {
        let seen = Seen { ioctx: Arc::clone(&ioctx), header: header.clone(), state: Mutex::default() };
        let seen = Arc::new(seen);
        let arg = Arc::as_ptr(&seen).cast_mut().cast::<c_void>();
        let mut cookie = 0;
        // SAFETY: the pool is open; name and out pointer live through the call; what `arg` points
        // to lives until the drop has ended the watch and its callbacks.
        check(unsafe {
            sys::rados_watch3(
                ioctx.as_ptr(),
                header.as_ptr(),
                &raw mut cookie,
                Some(on_notify),
                Some(on_error),
                0,
                arg,
            )
        })?;
        Ok(SnapshotGate { ioctx, header, cookie, seen })
    }

    /// Returns how many snapshots were announced to all watchers of this connection, or `None` if
    /// that is unknown. Blocks.
    pub(super) fn announced(&self) -> RawResult<Option<u64>> {
        // The OSD has sent each notification to all watchers before it answers this, on the same
        // connection.
        self.ioctx.object_stat(&self.header)?;
        self.flush();
        let state = self.seen.state();
        Ok((!state.lost).then_some(state.announced))
    }

    /// Waits until the callbacks have run for all notifications that have arrived.
    fn flush(&self) {
        // SAFETY: the cluster is connected.
        unsafe { sys::rados_watch_flush(self.ioctx.cluster().as_ptr()) };
    }
}

impl Drop for SnapshotGate {
    fn drop(&mut self) {
        let held = {
            let mut state = self.seen.state();
            state.open = true;
            std::mem::take(&mut state.held)
        };
        for notification in held {
            self.seen.acknowledge(notification);
        }
        // SAFETY: our watch. librados forgets it even if the OSD does not answer.
        unsafe { sys::rados_unwatch2(self.ioctx.as_ptr(), self.cookie) };
        self.flush();
    }
}

/// Returns whether a notification of librbd announces a snapshot: a version, the oldest version
/// that can read it, a length of 32 bits, and the operation.
fn is_quiesce(message: &[u8]) -> bool {
    message.get(6..10).is_some_and(|operation| operation == QUIESCE.to_le_bytes())
}

unsafe extern "C" fn on_notify(
    arg: *mut c_void,
    notification: u64,
    cookie: u64,
    _notifier: u64,
    data: *mut c_void,
    len: usize,
) {
    let _mark = CallbackMark::set();
    // SAFETY: `close` passed a Seen that lives as long as this can be called.
    let seen = unsafe { &*arg.cast::<Seen>() };
    let message = if data.is_null() || len == 0 {
        &[]
    } else {
        // SAFETY: librados lends `len` bytes for this call.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }
    };
    if is_quiesce(message) {
        let mut state = seen.state();
        state.announced += 1;
        if !state.open {
            state.held.push((notification, cookie));
            return;
        }
    }
    seen.acknowledge((notification, cookie));
}

unsafe extern "C" fn on_error(arg: *mut c_void, _cookie: u64, _errno: c_int) {
    let _mark = CallbackMark::set();
    // SAFETY: as in `on_notify`.
    let seen = unsafe { &*arg.cast::<Seen>() };
    seen.state().lost = true;
}

/// Returns the name of an image's header object. Images of format 1 have no id.
pub(crate) fn header_of(id: &str, name: &CStr) -> RawResult<CString> {
    let header = if id.is_empty() {
        [name.to_bytes(), b".rbd"].concat()
    } else {
        format!("rbd_header.{id}").into_bytes()
    };
    CString::new(header).map_err(|_| crate::errno::Errno::EINVAL)
}
