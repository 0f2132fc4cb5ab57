//! The end of a queue: what is in flight comes first, then the image, then the memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::errno::Errno;
use crate::error::Result;
use crate::image::Image;
use crate::raw::queue::Entries;
use crate::raw::thread::background::spawn_detached;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::{in_callback, must_not_block};

/// An image and the operations in flight on it. Neither goes before all of those have ended.
pub(super) struct Drained(Option<(Arc<Image>, Entries)>);

impl Drained {
    pub(super) fn new(image: Arc<Image>, entries: Entries) -> Drained {
        Drained(Some((image, entries)))
    }

    pub(super) fn parts(&self) -> &(Arc<Image>, Entries) {
        self.0.as_ref().expect("empty only while it is dropped")
    }

    pub(super) fn parts_mut(&mut self) -> &mut (Arc<Image>, Entries) {
        self.0.as_mut().expect("empty only while it is dropped")
    }

    pub(super) fn close(mut self) -> Result<()> {
        // Waiting here might wait for this very thread: dropping it leaves all that to another.
        if in_callback() {
            return Ok(());
        }
        self.0.take().map_or(Ok(()), end_bounded)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            if parts.0.raw().is_forked() {
                // librbd has what is in flight in another process, and this copy of it ends never.
                return std::mem::forget(parts);
            }
            let background = parts.0.raw().closes_in_background() || must_not_block();
            // A drop cannot tell how the closing went; `close` does.
            if background {
                spawn_detached(move || drop(end(parts)));
            } else {
                drop(end_bounded(parts));
            }
        }
    }
}

/// [`end`] on a thread that is given up after the call timeout. The thread then goes on by itself.
fn end_bounded(parts: (Arc<Image>, Entries)) -> Result<()> {
    let (cluster, label) = (parts.0.ioctx().cluster().clone(), Arc::clone(parts.0.label()));
    let slot = Arc::new(Mutex::new(Some(parts)));
    let job = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = move || Ok::<_, Errno>(take(&job).map_or(Ok(()), end));
    match cluster.bounded_call("close", || label.object(), run) {
        Ok(closed) => closed,
        Err(error) if error.is_timed_out() => Err(error),
        // There was no thread for it.
        Err(_) => take(&slot).map_or(Ok(()), end),
    }
}

/// Closes the image, too, unless somebody else still has it.
fn end((image, mut entries): (Arc<Image>, Entries)) -> Result<()> {
    drain(&mut entries);
    drop(entries);
    Arc::into_inner(image).map_or(Ok(()), Image::close)
}

fn drain(entries: &mut Entries) {
    while !entries.is_idle() {
        // A buffer's owner is foreign code: its panic must not free the buffers that librbd still
        // has.
        while catch_panic(|| entries.reap().map(drop)) != Some(None) {}
        if !entries.is_idle() {
            // An interruption only makes it look again.
            let _ = entries.wait_for_librbd(None);
        }
    }
}
