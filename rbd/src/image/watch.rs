//! Callbacks after changes of an image.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::raw::image::watch::Watch;
use crate::raw::thread::background::run_in_background;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::must_not_block;
use crate::raw::thread::worker::start;

/// Calls back after changes of an image until it is dropped: see [`Image::watch_updates`]. It keeps
/// the image open.
///
/// Dropping it waits for a running callback, without limit, unless the callback itself drops it or
/// a thread of librbd does.
#[must_use = "dropping it ends the watch"]
pub struct UpdateWatch {
    image: Arc<Image>,
    watch: Option<(Watch, JoinHandle<()>)>,
    stopped: Arc<AtomicBool>,
}

impl Image {
    /// Calls back after any client changes the image's size, snapshots, features or metadata.
    /// Changes in quick succession may cause one callback.
    ///
    /// The callback runs on its own thread and may block. A panic in it is caught. Dropping the
    /// watch waits for a running callback, unless the callback itself drops it or a thread of
    /// librbd does.
    ///
    /// Implements: `rbd_update_watch`, `rbd_update_unwatch`.
    #[doc(alias = "rbd_update_watch")]
    #[doc(alias = "rbd_update_unwatch")]
    pub fn watch_updates(
        self: &Arc<Self>,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> Result<UpdateWatch> {
        // librbd's thread must not run the callback: it serves all watches of a connection, and
        // closing any image waits for it.
        let (sender, receiver) = sync_channel::<()>(1);
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let thread = self.start_thread("rbd-update", move || {
            for () in receiver {
                if is_stopped.load(Ordering::Acquire) {
                    return;
                }
                catch_panic(&callback);
            }
        })?;
        // If the slot is taken, the pending callback will run after this change.
        let tell = move || sender.try_send(()).unwrap_or(());
        let watch = self.bounded("watch", move |raw| raw.watch_updates(tell))?;
        Ok(UpdateWatch { image: Arc::clone(self), watch: Some((watch, thread)), stopped })
    }

    pub(super) fn start_thread(
        &self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        thread::Builder::new().name(name.into()).spawn(run).map_err(|error| {
            let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EAGAIN));
            Error::new("start a thread to watch", self.object(), errno)
        })
    }
}

impl fmt::Debug for UpdateWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateWatch").field("image", &self.image).finish_non_exhaustive()
    }
}

impl Drop for UpdateWatch {
    fn drop(&mut self) {
        let Some((watch, thread)) = self.watch.take() else { return };
        if self.image.raw.is_forked() {
            return std::mem::forget((watch, thread));
        }
        self.stopped.store(true, Ordering::Release);
        let image = Arc::clone(&self.image);
        // This fails only if the image has no such watch.
        let end = move || image.raw.unwatch_updates(watch).is_ok();
        if must_not_block() {
            run_in_background(move || {
                end();
            });
            return;
        }
        let timeout = self.image.ioctx.cluster().raw().call_timeout();
        let stopped = start(end).ok().and_then(|ending| ending.wait(timeout));
        if stopped == Some(true) && thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}
