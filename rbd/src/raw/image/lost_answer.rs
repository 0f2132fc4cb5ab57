//! Replaces answers of the exclusive lock's owner that librbd loses.
//!
//! If another client owns the exclusive lock, librbd asks that client to make a change, with a
//! numbered request to all watchers of the image's header. The owner announces the end of the
//! change to all watchers, with that number. librbd asks for these changes (16.2 to 20.2): create
//! a snapshot (also of a mirrored image), resize, flatten, sparsify, rebuild the object map, set
//! and remove metadata, migrate, and all changes of features but enabling journaling; remove a
//! snapshot if the image has fast-diff or journaling; rename an image or snapshot, protect and
//! unprotect a snapshot if it has journaling. For other changes it acquires the lock.
//!
//! librbd loses an answer as follows. When it is told that a client has acquired the lock, it
//! cancels its requests and sends them again with the same numbers, because the last owner may not
//! have received them. On a busy machine the notice arrives late, and librbd cancels a request that
//! the new owner is already carrying out. If the owner announces the end before librbd sends the
//! request again, librbd does not wait for the announcement and drops it. The owner accepts the
//! repeated request, because it knows the number, and announces nothing again. librbd repeats the
//! request every 30 s and gets the same answer each time, so the call never returns. Only success
//! is lost: a failure is the answer to the repeated request.
//!
//! So this crate also watches the header during such a change, and keeps the announcements for its
//! own connection. If the call still runs some seconds later, this crate sends the kept
//! announcements to all watchers again, unchanged. librbd accepts the one that it waits for and
//! ignores the others.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::features::Features;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::mark::{CallbackMark, in_callback};
use crate::raw::thread::worker::start;

/// The time after which announcements are repeated. Most changes end sooner.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest time that a change waits for the watch to begin or to end.
const LIMIT: Duration = Duration::from_secs(2);

/// The largest number of kept announcements. Those for other handles of this connection are kept,
/// too.
const MOST: usize = 64;

/// The watch for a change that the owner of the lock may make for this client. The change has ended
/// when this is dropped. The drop blocks for a short time.
struct Listening(Option<Arc<Shared>>);

struct Shared {
    ioctx: Arc<IoCtx>,
    header: CString,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The watch has begun, or cannot begin.
    begun: bool,
    /// The change has ended.
    ended: bool,
    /// The watch has ended.
    unwatched: bool,
    announcements: Announcements,
}

impl Image {
    /// Makes a change that the owner of the exclusive lock may make for this handle.
    pub(in crate::raw) fn change<T>(&self, call: impl FnOnce() -> T) -> T {
        let _listening = Listening::begin_of(self);
        call()
    }
}

impl IoCtx {
    /// Makes a change to the image of this name that the owner of its exclusive lock may make for
    /// this client.
    pub(in crate::raw) fn change<T>(self: &Arc<IoCtx>, name: &CStr, call: impl FnOnce() -> T) -> T {
        let object = CString::new([b"rbd_id.", name.to_bytes()].concat());
        let id = object.map_err(|_| Errno::EINVAL).and_then(|object| self.image_id(&object));
        let _listening = Listening::begin(Some(self), &id.unwrap_or_default());
        call()
    }

    pub(crate) fn rename(self: &Arc<IoCtx>, from: &CStr, to: &CStr) -> RawResult<()> {
        self.change(from, || {
            // SAFETY: the handle is valid, both names live through the call.
            check(unsafe { sys::rbd_rename(self.as_ptr(), from.as_ptr(), to.as_ptr()) })
        })?;
        Ok(())
    }
}

impl Listening {
    fn begin_of(image: &Image) -> Listening {
        let lock = Features::EXCLUSIVE_LOCK.bits();
        let is_locked = image.features().is_ok_and(|features| features & lock != 0);
        match image.id() {
            Ok(id) if is_locked => Listening::begin(image.ioctx.as_ref(), &id),
            _ => Listening(None),
        }
    }

    /// Watches the header of an image, on another thread. If that is impossible, only the call
    /// timeout ends a call whose answer is lost.
    fn begin(ioctx: Option<&Arc<IoCtx>>, id: &str) -> Listening {
        let (Some(ioctx), Ok(header)) = (ioctx, header_of(id, c"")) else { return Listening(None) };
        if id.is_empty() || in_callback() {
            return Listening(None);
        }
        let (ioctx, state, changed) = (Arc::clone(ioctx), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { ioctx, header, state, changed });
        let watching = Arc::clone(&shared);
        if start(move || watching.watch()).is_err() {
            return Listening(None);
        }
        shared.wait(LIMIT, |state| state.begun);
        Listening(Some(shared))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.set(|state| state.ended = true);
            // A watch that outlives the call would count as a user of the image.
            shared.wait(LIMIT, |state| state.unwatched);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits for a state, but not longer than the limit. Returns whether it was reached.
    fn wait(&self, limit: Duration, is_reached: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), limit, |state| !is_reached(state));
        is_reached(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Watches until the change has ended.
    fn watch(self: &Arc<Shared>) {
        let watch = Watch::begin(self);
        self.set(|state| state.begun = true);
        if watch.is_ok() {
            while !self.wait(PATIENCE, |state| state.ended) {
                let announcements = self.state().announcements.0.clone();
                for message in announcements {
                    self.announce(&message);
                }
            }
        }
        drop(watch);
        self.set(|state| state.unwatched = true);
    }

    /// Sends a message to all watchers. Blocks until they have received it.
    fn announce(&self, message: &[u8]) {
        let (start, len) = (message.as_ptr().cast::<c_char>(), message.len() as c_int);
        let timeout = PATIENCE.as_millis() as u64;
        // SAFETY: the pool is open; name and message live through the call; librados accepts null
        // if the replies are not wanted.
        unsafe {
            sys::rados_notify2(
                self.ioctx.as_ptr(),
                self.header.as_ptr(),
                start,
                len,
                timeout,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
    }
}

/// A registered watch. Dropping it ends it, and blocks.
struct Watch<'a> {
    shared: &'a Shared,
    cookie: u64,
}

impl Watch<'_> {
    fn begin(shared: &Shared) -> RawResult<Watch<'_>> {
        let arg = ptr::from_ref(shared).cast_mut().cast::<c_void>();
        let mut cookie = 0;
        // SAFETY: the pool is open; name and out pointer live through the call; what `arg` points
        // to is borrowed until the drop has ended the watch and its callbacks.
        check(unsafe {
            sys::rados_watch3(
                shared.ioctx.as_ptr(),
                shared.header.as_ptr(),
                &raw mut cookie,
                Some(on_notify),
                Some(on_error),
                0,
                arg,
            )
        })?;
        Ok(Watch { shared, cookie })
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let ioctx = &self.shared.ioctx;
        // SAFETY: our watch. librados forgets it even if the OSD does not answer. Then this waits
        // for the callbacks that have begun; the cluster is connected.
        unsafe {
            sys::rados_unwatch2(ioctx.as_ptr(), self.cookie);
            sys::rados_watch_flush(ioctx.cluster().as_ptr());
        }
    }
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
    // SAFETY: `begin` passed a Shared that lives as long as this can be called.
    let shared = unsafe { &*arg.cast::<Shared>() };
    if !data.is_null() && len > 0 {
        // SAFETY: librados lends `len` bytes for this call.
        let message = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        shared.state().announcements.hear(message, shared.ioctx.cluster().instance_id());
    }
    // SAFETY: the pool is open, the name lives through the call, which does not block. An answer
    // without content has no length; librbd ignores it.
    unsafe {
        sys::rados_notify_ack(
            shared.ioctx.as_ptr(),
            shared.header.as_ptr(),
            notification,
            cookie,
            ptr::null(),
            0,
        )
    };
}

/// A watch that is lost hears nothing more.
unsafe extern "C" fn on_error(_arg: *mut c_void, _cookie: u64, _errno: c_int) {}

/// The successful ends of changes that were announced to one client, the last one of each request.
#[derive(Default)]
struct Announcements(VecDeque<Vec<u8>>);

impl Announcements {
    /// Keeps a message if it announces such an end to the client.
    fn hear(&mut self, message: &[u8], client: u64) {
        let Some(end) = End::read(message).filter(|end| end.client == client) else { return };
        self.0.retain(|kept| End::read(kept).is_some_and(|kept| kept.request != end.request));
        if end.result >= 0 {
            self.0.push_back(message.to_vec());
        }
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }
}

/// What an announcement of the end of a change contains.
struct End<'a> {
    /// The client that requested the change.
    client: u64,
    /// The client, its watch and the number of the request.
    request: &'a [u8],
    result: i32,
}

impl End<'_> {
    /// Reads a message of librbd: its version, the oldest version that can read it, its length (32
    /// bits), the operation (32 bits), the request (client, watch and number, 64 bits each) and the
    /// result (32 bits). Returns `None` for other operations.
    fn read(message: &[u8]) -> Option<End<'_>> {
        const ENDED: u32 = 5;
        if message.get(6..10)? != ENDED.to_le_bytes() {
            return None;
        }
        let request = message.get(10..34)?;
        let client = u64::from_le_bytes(*request.first_chunk()?);
        let result = i32::from_le_bytes(*message.get(34..)?.first_chunk()?);
        Some(End { client, request, result })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn message(operation: u32, client: u64, number: u64, result: i32) -> Vec<u8> {
        let request = [client, 7, number].map(u64::to_le_bytes).concat();
        [&[6, 1, 32, 0, 0, 0], &operation.to_le_bytes()[..], &request, &result.to_le_bytes()].concat()
    }

    #[test]
    fn the_last_success_of_each_request_of_this_client_is_kept() {
        let mut all = Announcements::default();
        let mut hear = |message: &[u8]| {
            all.hear(message, 4);
            all.0.len()
        };
        assert_eq!(hear(&message(5, 4, 1, 0)), 1);
        assert_eq!(hear(&message(5, 4, 1, 0)), 1, "heard again");
        assert_eq!(hear(&message(5, 5, 2, 0)), 1, "of another client");
        assert_eq!(hear(&message(4, 4, 3, 0)), 1, "progress");
        assert_eq!(hear(&message(5, 4, 2, 0)), 2);
        assert_eq!(hear(&message(5, 4, 1, -libc::EROFS)), 1, "failed later");
        assert_eq!(hear(&message(5, 4, 9, 0)[..37]), 1, "too short");
        assert_eq!(all.0, [message(5, 4, 2, 0)]);
    }

    #[test]
    fn not_too_many_are_kept() {
        let mut all = Announcements::default();
        (0..100).for_each(|number| all.hear(&message(5, 4, number, 0), 4));
        assert_eq!(all.0.len(), MOST);
        assert_eq!(all.0.back(), Some(&message(5, 4, 99, 0)));
    }
}
