//! The size of an open image, and changing it.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::image::Image;
pub(crate) use crate::raw::op::ask::positive;
use crate::raw::op::hold::Hold;
use crate::raw::op::target::{Identity, Target};
use crate::raw::thread::mark::in_callback;
use crate::raw::thread::progress::with_progress;

impl Image {
    pub(crate) fn size(&self) -> RawResult<u64> {
        match positive(self.number(sys::rbd_get_size)?) {
            // Cut below its encryption header, for example: nothing may reach librbd from now on.
            0 => self.ask_size(),
            size => Ok(size),
        }
    }

    /// Belongs to the opening, and blocks as that does: [`size_for`](Image::size_for) has the
    /// answer from here on.
    pub(in crate::raw) fn learn_size(&mut self) -> RawResult<()> {
        let shared = Arc::clone(&self.shared);
        // First, so that no change comes in between.
        self.header_watch = Some(self.watch_updates(move || shared.size().changed())?);
        let (pool, id, stripe_unit) = (self.data_pool_id()?, self.id()?, self.stripe_unit()?);
        self.shared.identify(Identity { pool, id, stripe_unit });
        register(&self.shared);
        self.ask_size().map(drop)
    }

    /// Returns a size against which a range with this end can be checked. Blocks only for an end
    /// beyond the known size, if there may be a newer one: see [`crate::raw::op::known_size`].
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn size_for(&self, end: u64) -> RawResult<u64> {
        match self.shared().size().for_end(end) {
            Some(size) => Ok(size),
            // librbd would read the header with the threads that call back here.
            None if in_callback() => {
                self.shared().refresh_size();
                Err(Errno::EDEADLK)
            }
            None => self.ask_size(),
        }
    }

    /// Returns the size, unless the header was changed and nobody has asked for the size since.
    pub(crate) fn fresh_size(&self) -> Option<u64> {
        self.shared().size().fresh()
    }

    /// Waits until nothing is in flight on any handle that this process has of the image, and keeps
    /// what comes. A shrink needs that: librbd 16.2 ends the process when the object map becomes
    /// smaller below a request.
    pub(in crate::raw) fn hold(&self) -> RawResult<Vec<Hold>> {
        if in_callback() {
            return Err(Errno::EDEADLK);
        }
        let holds: Vec<_> = handles_of(self.shared()).into_iter().filter_map(Target::hold).collect();
        while !holds.iter().all(Hold::is_drained) {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(holds)
    }

    /// Refreshes the known size after a call that may have changed it.
    pub(in crate::raw) fn size_changed(&self) {
        // An answer that is under way may be that of before.
        self.shared.size().changed();
        // Without an answer it is asked for later.
        let _ = self.ask_size();
    }

    /// Asks for the size and keeps it. Blocks.
    pub(in crate::raw) fn ask_size(&self) -> RawResult<u64> {
        self.shared().ask_size()
    }

    pub(crate) fn resize(&self, size: u64, allow_shrink: bool, progress: Progress<'_>) -> RawResult<()> {
        let _turn = Turn::take(self.shared());
        let _alone = if allow_shrink { self.hold()? } else { Vec::new() };
        // SAFETY: the image is open; the progress state lives through the call.
        let resized = unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_resize2(self.as_ptr(), size, allow_shrink, Some(report), arg)
            })
        };
        self.size_changed();
        resized.map(drop)
    }
}

/// Images whose size is being changed, one handle of each.
static CHANGED: Mutex<Vec<Arc<Target>>> = Mutex::new(Vec::new());
static CHANGED_NO_MORE: Condvar = Condvar::new();

/// While it lives, nobody else in this process changes the size of the image. Two changes at once
/// meet in librbd 16.2, with no other I/O: one truncates an object that the other has taken out of
/// the object map, and the process ends.
pub(in crate::raw) struct Turn(Arc<Target>);

impl Turn {
    /// Waits for others that change the size.
    pub(in crate::raw) fn take(target: &Arc<Target>) -> Turn {
        let changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken =
            |changed: &mut Vec<Arc<Target>>| changed.iter().any(|one| one.is_of_same_image(target));
        let waited = CHANGED_NO_MORE.wait_while(changed, is_taken);
        waited.unwrap_or_else(PoisonError::into_inner).push(Arc::clone(target));
        Turn(Arc::clone(target))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CHANGED.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| !Arc::ptr_eq(one, &self.0));
        CHANGED_NO_MORE.notify_all();
    }
}

/// The images that are open, and some that were.
static OPEN: Mutex<Vec<Weak<Target>>> = Mutex::new(Vec::new());

fn register(target: &Arc<Target>) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|one| one.strong_count() > 0);
    open.push(Arc::downgrade(target));
}

/// The handles that this process has of one image, this one among them.
fn handles_of(target: &Arc<Target>) -> Vec<Arc<Target>> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let others = open.iter().filter_map(Weak::upgrade).filter(|other| !Arc::ptr_eq(other, target));
    let mut handles: Vec<_> = others.filter(|other| other.is_of_same_image(target)).collect();
    handles.push(Arc::clone(target));
    handles
}
