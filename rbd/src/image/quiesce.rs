//! Taking part when snapshots of an image are taken.

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
use crate::raw::thread::background::spawn_detached;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::must_not_block;
use crate::raw::thread::worker::start;

/// Freezes and thaws a user of the image around snapshots until it is dropped: see
/// [`Image::watch_quiesce`].
#[must_use = "dropping it ends the watch"]
pub struct QuiesceWatch {
    image: Arc<Image>,
    watch: Option<raw::image::quiesce::QuiesceWatch>,
    ended: Arc<AtomicBool>,
}

/// What a [quiesce watch](Image::watch_quiesce) is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quiesce {
    /// A snapshot is about to be taken: stop writing and flush. It is taken when the callback has
    /// returned `Ok`, and fails with the errno otherwise.
    Freeze,
    /// The snapshot is taken, or given up: go on. What is returned does not matter.
    Thaw,
}

const WATCH: &str = "watch for snapshots";

impl Image {
    /// Takes part in the taking of snapshots, by whichever client: the callback freezes what uses
    /// the image, a mounted file system for one, so that the snapshot is consistent. An image that
    /// is open read-only is not told of any, and refused.
    ///
    /// The callback runs on a thread of its own and may block: the one who takes the snapshot waits
    /// (unless told not to by its flags). A panic in it counts as an error.
    ///
    /// Dropping the watch ends it, without waiting for a callback that is running, and may be done
    /// by that. A freeze that is not answered by then fails with `ECANCELED`, and with it the
    /// snapshot. After a freeze that was answered no thaw comes any more: whoever drops the watch
    /// thaws.
    ///
    /// Each watch opens the image once more, so that others see one more watcher of it: where the
    /// watches of an opened image change while a snapshot is taken, librbd hangs or aborts the
    /// process (seen with 16.2). A few milliseconds of this are left: if a snapshot begins just
    /// while `watch_quiesce` runs, the process may be aborted when that snapshot is done. Whoever
    /// takes one snapshot after another should not do so while others begin to watch.
    ///
    /// Beginning and dropping a watch block as opening and closing do; the drop does not where the
    /// image [closes in the background](Image::close_in_background), or on a thread of librbd's.
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
            let why = "it is open read-only, and such an image is not told of snapshots; open it for writing";
            return Err(self.refuse(WATCH, why));
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel::<Told>();
        let (is_ended, mut callback) = (Arc::clone(&ended), callback);
        let take_part = move |told: Told| {
            if is_ended.load(Ordering::Acquire) {
                return;
            }
            match told {
                Told::Freeze(answer) => answer.give(match catch_panic(|| callback(Quiesce::Freeze)) {
                    Some(Ok(())) => 0,
                    Some(Err(errno)) => -errno.code(),
                    None => -libc::EIO,
                }),
                Told::Thaw => {
                    catch_panic(|| callback(Quiesce::Thaw));
                }
            }
        };
        self.start_thread("rbd-quiesce", move || receiver.into_iter().for_each(take_part))?;
        // The thread is there for as long as this sender is.
        let tell = move |told| drop(sender.send(told));
        let (id, name) = (self.id()?, self.name()?);
        let (by, name) = if id.is_empty() { (By::Name, &name) } else { (By::Id, &id) };
        let name = existing_name(WATCH, || self.object(), name)?;
        let ioctx = Arc::clone(self.ioctx.raw());
        let watch = self.bounded(WATCH, move |_| {
            raw::image::quiesce::QuiesceWatch::begin(
                raw::image::Image::open(ioctx, by, &name, None, false)?,
                tell,
            )
        })?;
        Ok(QuiesceWatch { image: Arc::clone(self), watch: Some(watch), ended })
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
        self.ended.store(true, Ordering::Release);
        // Whoever takes a snapshot need not wait for the closing.
        watch.end();
        let image = Arc::clone(&self.image);
        let background = image.raw.closes_in_background() || must_not_block();
        let close = move || {
            // As for images: who drops a watch cannot hear how the close went.
            let _ = watch.close(&image.raw);
        };
        if background {
            return spawn_detached(close);
        }
        let timeout = self.image.ioctx.cluster().raw().call_timeout();
        // Where no thread is to be had it stays as it is: closing it here could block for ever.
        let _ = start(close).map(|closing| closing.wait(timeout));
    }
}
