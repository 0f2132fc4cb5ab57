//! The end of a queue: it waits for operations in flight, then closes the image, then frees the
//! memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::forked;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::image::check::failure;
use crate::image::{Image, closes_elsewhere};
use crate::raw::op::kind::Kind;
use crate::raw::queue::{End, Entries, Reaped};
use crate::raw::thread::background::spawn_detached;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::{must_not_block, must_not_call};

/// An image and the operations in flight on it. Neither is freed before all operations have
/// completed.
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
        let image = &self.parts().0;
        if must_not_call() {
            // Dropping moves the work to another thread.
            return Err(closes_elsewhere(image.object()));
        }
        if image.raw().is_forked() {
            // Dropping leaks the parts.
            return Err(forked("close", image.object()));
        }
        self.0.take().map_or(Ok(()), end_bounded)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            if parts.0.raw().is_forked() {
                // The operations are in flight in the parent process, and this copy of them never
                // completes.
                return std::mem::forget(parts);
            }
            let background = parts.0.raw().closes_in_background() || must_not_block();
            // A drop cannot report the result of the close; `close` does.
            if background {
                spawn_detached(move || drop(end(parts)));
            } else {
                drop(end_bounded(parts));
            }
        }
    }
}

/// Runs [`end`] on a thread, and stops waiting for it after the call timeout. The thread then
/// continues in the background.
fn end_bounded(parts: (Arc<Image>, Entries)) -> Result<()> {
    let (cluster, label) = (parts.0.ioctx().cluster().clone(), Arc::clone(parts.0.label()));
    let slot = Arc::new(Mutex::new(Some(parts)));
    let job = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = move || Ok::<_, Errno>(take(&job).map_or(Ok(()), end));
    match cluster.bounded_call("close", || label.object(), run) {
        Ok(closed) => closed,
        Err(error) if error.is_timed_out() => Err(error),
        // No thread could be started.
        Err(_) => take(&slot).map_or(Ok(()), end),
    }
}

/// Waits for operations in flight, and closes the image unless another `Arc` of it exists.
fn end((image, mut entries): (Arc<Image>, Entries)) -> Result<()> {
    let failed = drain(&image, &mut entries);
    drop(entries);
    let closed = Arc::into_inner(image).map_or(Ok(()), Image::close);
    failed.map_or(closed, Err)
}

/// Returns the first failure of a change or flush that nobody has reaped. This includes those that
/// were given up, because their timeout does not say whether they were done.
fn drain(image: &Image, entries: &mut Entries) -> Option<Error> {
    let mut first = entries.end().and_then(|ended| failure_of(image, &ended));
    let mut note = |ended: Reaped| first = first.take().or_else(|| failure_of(image, &ended));
    loop {
        // A buffer's owner is user code. If it panics, the buffers that librbd still uses must not
        // be freed.
        while catch_panic(|| entries.reap().map(&mut note)) != Some(None) {}
        if entries.is_idle() {
            return first;
        }
        // An interruption only repeats the check.
        let _ = entries.wait_for_librbd(None);
    }
}

fn failure_of(image: &Image, ended: &Reaped) -> Option<Error> {
    let explain = |fault| failure(image.label(), ended.kind, (ended.offset, ended.len), fault);
    match &ended.end {
        // The data of a read is of no use any more.
        _ if ended.kind == Kind::Read => None,
        End::Ended((_, outcome)) => {
            let error = explain(outcome.as_ref().err()?.clone());
            Some(match error.errno() {
                Some(Errno::ECANCELED) => error.with_detail("it was given up after a part of it was done"),
                _ => error,
            })
        }
        // Nothing times out any more.
        End::GivenUp(_) => None,
    }
}
