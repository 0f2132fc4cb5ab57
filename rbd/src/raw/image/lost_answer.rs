//! Replaces answers of the exclusive lock's owner that librbd loses.
//!
//! If another client owns the exclusive lock, librbd asks that client to make a change, with a
//! numbered request to all watchers of the image's header. The owner announces the end of the
//! change to all watchers, with that number. librbd asks for these changes (16.2 to 20.2): create
//! a snapshot (also of a mirrored image), resize, flatten, sparsify, rebuild the object map, set
//! and remove metadata, migrate, and all changes of features but enabling journaling; remove a
//! snapshot (also of a group) if the image has fast-diff or journaling; rename an image or
//! snapshot, protect and unprotect a snapshot if it has journaling. For other changes it acquires
//! the lock.
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
//!
//! An announcement cannot answer another request, not even one of a later handle. The number of a
//! watch is an address, so a later handle can have that of an earlier one. But the monitors give
//! each connection its own number, and all handles of a process count their requests together (16.2
//! to 20.2), so no two requests have the same client and number.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use librbd_sys as sys;

use crate::features::Features;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::ioctx::IoCtx;
use crate::raw::ioctx::watch::{Hear, Notification, Watch};
use crate::raw::thread::mark::in_callback;
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

#[derive(Default)]
struct Shared {
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
}

/// The header object of an image.
type Header = (Arc<IoCtx>, CString);

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
        let _listening = Listening::begin(header_of_name(self, name).into_iter().collect());
        call()
    }

    /// Makes a change to these images, of these pools, that the owners of their exclusive locks may
    /// make for this client.
    pub(in crate::raw) fn change_all<T>(
        &self,
        images: impl IntoIterator<Item = (i64, CString)>,
        call: impl FnOnce() -> T,
    ) -> T {
        let header = |(pool, name): (i64, CString)| header_of_name(&self.sibling(pool).ok()?.into(), &name);
        let _listening = Listening::begin(images.into_iter().filter_map(header).collect());
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

/// The header of an image with this id, which images of format 1 lack.
fn header(ioctx: &Arc<IoCtx>, id: &str) -> Option<Header> {
    let header = (!id.is_empty()).then(|| header_of(id, c"").ok())??;
    Some((Arc::clone(ioctx), header))
}

fn header_of_name(ioctx: &Arc<IoCtx>, name: &CStr) -> Option<Header> {
    let object = CString::new([b"rbd_id.", name.to_bytes()].concat()).ok()?;
    header(ioctx, &ioctx.image_id(&object).ok()?)
}

impl Listening {
    fn begin_of(image: &Image) -> Listening {
        let lock = Features::EXCLUSIVE_LOCK.bits();
        let is_locked = image.features().is_ok_and(|features| features & lock != 0);
        let id = if is_locked { image.id().ok() } else { None };
        let headers = image.ioctx.iter().zip(id).filter_map(|(ioctx, id)| header(ioctx, &id));
        Listening::begin(headers.collect())
    }

    /// Watches headers of images, on another thread. If that is impossible, only the call timeout
    /// ends a call whose answer is lost.
    fn begin(headers: Vec<Header>) -> Listening {
        if headers.is_empty() || in_callback() {
            return Listening(None);
        }
        let shared = Arc::new(Shared::default());
        let watching = Arc::clone(&shared);
        if start(move || watching.watch(headers)).is_err() {
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
    fn watch(&self, headers: Vec<Header>) {
        let begin = |(ioctx, header): Header| {
            let client = ioctx.cluster().instance_id();
            Watch::begin(ioctx, header, Ear { client, heard: Mutex::default() }).ok()
        };
        let watches: Vec<_> = headers.into_iter().filter_map(begin).collect();
        self.set(|state| state.begun = true);
        while !watches.is_empty() && !self.wait(PATIENCE, |state| state.ended) {
            for watch in &watches {
                let announcements = watch.ear().heard().0.clone();
                for message in announcements {
                    watch.notify(&message, PATIENCE);
                }
            }
        }
        drop(watches);
        self.set(|state| state.unwatched = true);
    }
}

/// Keeps the announcements to a client.
struct Ear {
    client: u64,
    heard: Mutex<Announcements>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Announcements> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hear for Ear {
    fn hear(&self, message: &[u8], notification: Notification) -> Option<Notification> {
        self.heard().hear(message, self.client);
        Some(notification)
    }
}

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
