//! Holds back the snapshots of an image while a quiesce watch begins.
//!
//! The client that takes a snapshot first notifies all watchers of the image's header, and
//! continues when each has acknowledged. A gate is one more watcher of the header. It keeps its
//! acknowledgements until it opens, so no snapshot reaches its thaw before that. It acknowledges
//! all other notifications at once. A notification that is held for too long times out at its
//! sender, which then repeats it.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::raw::RawResult;
use crate::raw::ioctx::IoCtx;
use crate::raw::ioctx::watch::{Hear, Notification, Watch};

/// The operation of librbd's notification of a snapshot that is about to be taken.
const QUIESCE: u32 = 18;

/// A registered gate. Dropping it opens it. The drop blocks; it must not run on a thread of Ceph.
pub(super) struct SnapshotGate(Watch<Seen>);

#[derive(Default)]
struct Seen(Mutex<State>);

#[derive(Default)]
struct State {
    /// The notifications that are not acknowledged.
    held: Vec<Notification>,
    /// How many snapshots were announced.
    announced: u64,
    /// The watch was lost, so announcements may have been missed.
    lost: bool,
    open: bool,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hear for Seen {
    fn hear(&self, message: &[u8], notification: Notification) -> Option<Notification> {
        if !is_quiesce(message) {
            return Some(notification);
        }
        let mut state = self.state();
        state.announced += 1;
        if state.open {
            return Some(notification);
        }
        state.held.push(notification);
        None
    }

    fn lost(&self) {
        self.state().lost = true;
    }
}

impl SnapshotGate {
    /// Blocks.
    pub(super) fn close(ioctx: Arc<IoCtx>, header: CString) -> RawResult<SnapshotGate> {
        Ok(SnapshotGate(Watch::begin(ioctx, header, Seen::default())?))
    }

    /// Returns how many snapshots were announced to all watchers of this connection, or `None` if
    /// that is unknown. Blocks.
    pub(super) fn announced(&self) -> RawResult<Option<u64>> {
        self.0.catch_up()?;
        let state = self.0.ear().state();
        Ok((!state.lost).then_some(state.announced))
    }
}

impl Drop for SnapshotGate {
    fn drop(&mut self) {
        let held = {
            let mut state = self.0.ear().state();
            state.open = true;
            std::mem::take(&mut state.held)
        };
        for notification in held {
            self.0.acknowledge(notification);
        }
    }
}

/// Returns whether a notification of librbd announces a snapshot: a version, the oldest version
/// that can read it, a length of 32 bits, and the operation.
fn is_quiesce(message: &[u8]) -> bool {
    message.get(6..10).is_some_and(|operation| operation == QUIESCE.to_le_bytes())
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
