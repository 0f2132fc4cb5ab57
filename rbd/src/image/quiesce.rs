//! Callbacks that freeze writers while a snapshot is taken.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use super::Image;
use crate::errno::Errno;
use crate::error::Result;
use crate::names::existing_name;
use crate::raw;
use crate::raw::image::open::By;
use crate::raw::image::quiesce::Told;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::thread::background::spawn_detached;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::must_not_block;
use crate::raw::thread::worker::start;

/// Calls back before and after each snapshot until it is dropped: see [`Image::watch_quiesce`].
#[must_use = "dropping it ends the watch"]
pub struct QuiesceWatch {
    image: Arc<Image>,
    watch: Option<raw::image::quiesce::QuiesceWatch>,
    stopped: Arc<AtomicBool>,
}

/// An event of a [quiesce watch](Image::watch_quiesce).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quiesce {
    /// A snapshot is about to be taken: stop writing and flush. The snapshot is taken after the
    /// callback returns `Ok`, and fails with the callback's errno otherwise (with EIO if that is
    /// zero). Do not take another snapshot of the image in the callback: it waits for the first
    /// snapshot, which waits for the callback, until a timeout ends both.
    Freeze,
    /// The snapshot was taken or has failed: resume writing. The return value is ignored.
    Thaw,
}

const WATCH: &str = "watch for snapshots";

impl Image {
    /// Calls back before and after any client takes a snapshot, so that the callback can freeze the
    /// users of the image, such as a mounted file system, and the snapshot is consistent. The call
    /// is refused for a read-only image, which receives no notifications.
    ///
    /// The callback runs on its own thread and may block: the client that takes the snapshot waits,
    /// unless its flags say otherwise. A panic in the callback counts as an error.
    ///
    /// Dropping the watch ends it without waiting for a running callback, and the callback itself
    /// may drop it. A freeze that is unanswered then fails with `ECANCELED`, and so does the
    /// snapshot. After an answered freeze, no [`Thaw`](Quiesce::Thaw) follows: resume writing
    /// yourself.
    ///
    /// Each watch opens the image again, so other clients see one more watcher. This avoids a fault
    /// of librbd 16.2, which hangs or aborts the process if the watches of an opened image change
    /// while a snapshot is taken. A snapshot that begins while `watch_quiesce` runs waits for it,
    /// and the callback does not receive it.
    ///
    /// Starting and dropping a watch block, as opening and closing an image do. The drop does not
    /// block if the image [closes in the background](Image::set_close_in_background), or on a thread of
    /// librbd.
    ///
    /// Implements: `rbd_quiesce_watch`, `rbd_quiesce_complete`, `rbd_quiesce_unwatch`.
    #[doc(alias = "rbd_quiesce_watch")]
    #[doc(alias = "rbd_quiesce_complete")]
    #[doc(alias = "rbd_quiesce_unwatch")]
    pub fn watch_quiesce(
        self: &Arc<Self>,
        callback: impl FnMut(Quiesce) -> Result<(), Errno> + Send + 'static,
    ) -> Result<QuiesceWatch> {
        if self.is_read_only() {
            let why =
                "it is open read-only, and librbd does not notify such a handle; open the image for writing";
            return Err(self.refuse(WATCH, why));
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel::<Told>();
        let (is_stopped, mut callback) = (Arc::clone(&stopped), callback);
        let take_part = move |told: Told| {
            if is_stopped.load(Ordering::Acquire) {
                return;
            }
            match told {
                Told::Freeze(answer) => answer.give(match catch_panic(|| callback(Quiesce::Freeze)) {
                    Some(Ok(())) => 0,
                    // For librbd, zero is a success.
                    Some(Err(errno)) if errno.code() != 0 => -errno.code(),
                    Some(Err(_)) | None => -libc::EIO,
                }),
                Told::Thaw => {
                    catch_panic(|| callback(Quiesce::Thaw));
                }
            }
        };
        self.start_thread("rbd-quiesce", move || receiver.into_iter().for_each(take_part))?;
        // The thread lives as long as this sender.
        let tell = move |told| drop(sender.send(told));
        let (id, name) = (self.id()?, self.name()?);
        let (by, name) = if id.is_empty() { (By::Name, &name) } else { (By::Id, &id) };
        let name = existing_name(WATCH, || self.object(), name)?;
        let ioctx = Arc::clone(self.ioctx.raw());
        let watch = self.bounded(WATCH, move |_| {
            let open = || raw::image::Image::open(Arc::clone(&ioctx), by, &name, None, false);
            let header = header_of(&id, &name)?;
            raw::image::quiesce::QuiesceWatch::begin(Arc::clone(&ioctx), header, open, tell)
        })?;
        Ok(QuiesceWatch { image: Arc::clone(self), watch: Some(watch), stopped })
    }
}

impl fmt::Debug for QuiesceWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuiesceWatch").field("image", &self.image).finish_non_exhaustive()
    }
}

impl Drop for QuiesceWatch {
    fn drop(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        if self.image.raw.is_forked() {
            return std::mem::forget(watch);
        }
        self.stopped.store(true, Ordering::Release);
        // The client that takes a snapshot does not have to wait for the close.
        watch.end();
        let image = Arc::clone(&self.image);
        let background = image.raw.closes_in_background() || must_not_block();
        let close = move || {
            // As with images, dropping a watch cannot report the result of the close.
            let _ = watch.close(&image.raw);
        };
        if background {
            return spawn_detached(close);
        }
        let timeout = self.image.ioctx.cluster().raw().call_timeout();
        // If no thread can be started, the handle leaks: closing it here could block without limit.
        let _ = start(close).map(|closing| closing.wait(timeout));
    }
}
