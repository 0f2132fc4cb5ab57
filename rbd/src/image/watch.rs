//! Being told of changes: of the image itself, and of snapshots about to be taken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::raw::contain::contain;
use crate::raw::thread::{is_shared, outside_callback, reap};
use crate::raw::watch::{QuiesceWatch as RawQuiesceWatch, Watch};

/// Calls back on changes of an image until it is dropped: see [`Image::watch_updates`]. It keeps the image open.
#[must_use = "dropping it ends the watch"]
pub struct UpdateWatch {
    image: Arc<Image>,
    watch: Option<(Watch, JoinHandle<()>)>,
    ended: Arc<AtomicBool>,
}

/// Freezes and thaws a user of the image around snapshots until it is dropped: see [`Image::watch_quiesce`].
#[must_use = "dropping it ends the watch"]
pub struct QuiesceWatch {
    image: Arc<Image>,
    watch: Option<RawQuiesceWatch>,
}

/// What a [quiesce watch](Image::watch_quiesce) is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiesce {
    /// A snapshot is about to be taken: stop writing and flush. It is taken when the callback has returned `Ok`, and fails
    /// with the errno otherwise.
    Freeze,
    /// The snapshot is taken, or given up: go on. What is returned does not matter.
    Thaw,
}

impl Image {
    /// Calls back after changes of the image by anybody: size, snapshots, features, metadata. Those that follow each other
    /// quickly may be told as one.
    ///
    /// The callback runs on a thread of its own and may block. A panic in it ends there. Dropping the watch waits for a
    /// callback that is running, unless it is dropped by that, or on a thread of librbd's.
    ///
    /// Implements: `rbd_update_watch`, `rbd_update_unwatch`.
    #[doc(alias = "rbd_update_watch")]
    #[doc(alias = "rbd_update_unwatch")]
    pub fn watch_updates(
        self: &Arc<Self>,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> Result<UpdateWatch> {
        // Not on librbd's thread: it does all watches of a connection, and closing any image waits for it.
        let (sender, receiver) = sync_channel::<()>(1);
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        let thread = self.start_thread("rbd-update", move || {
            for () in receiver {
                if is_ended.load(Ordering::Acquire) {
                    return;
                }
                contain(&callback);
            }
        })?;
        // Where the place is taken, what is told next is later than this change.
        let tell = move || sender.try_send(()).unwrap_or(());
        let watch = self.call("watch", |raw| raw.watch_updates(tell))?;
        Ok(UpdateWatch { image: Arc::clone(self), watch: Some((watch, thread)), ended })
    }

    /// Takes part in the taking of snapshots, by whichever client: the callback freezes what uses the image, a mounted
    /// file system for one, so that the snapshot is consistent.
    ///
    /// The callback runs on a thread of its own and may block: the one who takes the snapshot waits (unless told not to by
    /// its flags). A panic in it counts as an error. Dropping the watch ends it; a freeze under way then ends as failed.
    ///
    /// Implements: `rbd_quiesce_watch`, `rbd_quiesce_complete`, `rbd_quiesce_unwatch`.
    #[doc(alias = "rbd_quiesce_watch")]
    #[doc(alias = "rbd_quiesce_complete")]
    #[doc(alias = "rbd_quiesce_unwatch")]
    pub fn watch_quiesce(
        self: &Arc<Self>,
        callback: impl FnMut(Quiesce) -> Result<(), Errno> + Send + 'static,
    ) -> Result<QuiesceWatch> {
        let (sender, receiver) = channel::<Quiesce>();
        let (frozen, thawed) = (Mutex::new(sender.clone()), Mutex::new(sender));
        // The handle is known only after the watch began, and a snapshot may come before this thread has passed it on.
        let (handle_known, handle) = channel::<u64>();
        let (image, mut callback, mut known) = (Arc::downgrade(self), callback, None);
        let answer = move |event: Quiesce| {
            let code = match contain(|| callback(event)) {
                Some(Ok(())) => 0,
                Some(Err(errno)) => -errno.code(),
                None => -libc::EIO,
            };
            known = known.or_else(|| handle.recv().ok());
            if let (Quiesce::Freeze, Some(image), Some(known)) = (event, image.upgrade(), known) {
                image.raw.quiesce_done(known, code);
            }
        };
        self.start_thread("rbd-quiesce", move || receiver.into_iter().for_each(answer))?;
        let watch = self.call("watch for snapshots", |raw| {
            raw.watch_quiesce(move || tell(&frozen, Quiesce::Freeze), move || tell(&thawed, Quiesce::Thaw))
        })?;
        let _ = handle_known.send(watch.handle());
        Ok(QuiesceWatch { image: Arc::clone(self), watch: Some(watch) })
    }

    fn start_thread(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        thread::Builder::new().name(name.into()).spawn(run).map_err(|error| {
            let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EAGAIN));
            Error::new("start a thread to watch", self.object(), errno)
        })
    }
}

fn tell(to: &Mutex<Sender<Quiesce>>, event: Quiesce) {
    // The thread is there for as long as this sender is.
    let _ = to.lock().unwrap_or_else(PoisonError::into_inner).send(event);
}

impl Drop for UpdateWatch {
    fn drop(&mut self) {
        let Some((watch, thread)) = self.watch.take() else { return };
        self.ended.store(true, Ordering::Release);
        let image = Arc::clone(&self.image);
        // It fails only where the image knows no such watch.
        let end = move || image.raw.unwatch_updates(watch).is_ok();
        if is_shared() {
            reap(move || {
                end();
            });
        } else if end() && thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Drop for QuiesceWatch {
    fn drop(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        let image = Arc::clone(&self.image);
        outside_callback(move || {
            // It fails only where the image knows no such watch.
            let _ = image.raw.unwatch_quiesce(watch);
        });
    }
}
