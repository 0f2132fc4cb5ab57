//! The size of an open image, and changing it.

use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::image::Image;
use crate::raw::image::silent_owner::Change;
pub(crate) use crate::raw::op::ask::positive;
use crate::raw::op::hold::Hold;
use crate::raw::op::target::{Identity, Target};
use crate::raw::thread::mark::{in_callback, must_not_call};
use crate::raw::thread::progress::with_progress;

/// How often a resize that did not take effect is tried again.
const ATTEMPTS: u32 = 3;

impl Image {
    pub(crate) fn size(&self) -> RawResult<u64> {
        if self.shared().header().len() > 0 {
            return self.fresh_size().map_or_else(|| self.ask_size(), Ok);
        }
        match positive(self.number(sys::rbd_get_size)?) {
            // The size is negative, which only an encryption header can cause. No I/O may reach
            // librbd.
            0 => self.ask_size(),
            size => Ok(size),
        }
    }

    /// Returns the size of the encryption header in bytes; 0 if no encryption is loaded.
    pub(crate) fn header_len(&self) -> u64 {
        self.shared().header().len()
    }

    /// Sets the size of the encryption header.
    pub(crate) fn set_header_len(&self, len: u64) {
        self.shared().header().set_len(len);
    }

    /// Returns whether the image is smaller than its encryption header: see
    /// [`crate::raw::op::header`]. Blocks after a change.
    pub(crate) fn is_cut(&self) -> RawResult<bool> {
        self.shared().is_cut()
    }

    /// Learns the size: part of the opening, and blocks. Afterwards [`size_for`](Image::size_for)
    /// knows it.
    pub(in crate::raw) fn learn_size(&mut self) -> RawResult<()> {
        let shared = Arc::clone(&self.shared);
        // The watch comes first, so that no change is missed.
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
            // librbd needs this very thread to read the header.
            None if in_callback() => {
                self.shared().refresh_size();
                Err(Errno::EDEADLK)
            }
            None => self.ask_size(),
        }
    }

    /// Returns the size if requests may begin without asking the cluster.
    pub(crate) fn ready(&self) -> Option<u64> {
        self.shared().ready()
    }

    /// Fails with `ENOLCK` if the handle has lost an exclusive lock that was acquired explicitly.
    /// Blocks.
    pub(crate) fn check_lease(&self) -> RawResult<()> {
        self.shared().check_lease()
    }

    /// Returns whether the exclusive lock is in doubt, or lost.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.shared().lease().is_valid()
    }

    /// Returns the size, unless the header has changed since it was asked for.
    pub(crate) fn fresh_size(&self) -> Option<u64> {
        self.shared().size().fresh()
    }

    /// Waits until nothing is in flight on any handle that this process has of the image, and keeps
    /// new operations. A shrink needs that: librbd 16.2 aborts the process if the object map
    /// shrinks below a request in flight.
    pub(in crate::raw) fn hold(&self) -> RawResult<AllHeld> {
        if must_not_call() {
            return Err(Errno::EDEADLK);
        }
        let held = AllHeld::begin(self.shared());
        while !held.is_drained() {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(held)
    }

    /// Refreshes the known size after a call that may have changed it.
    pub(in crate::raw) fn size_changed(&self) {
        // An answer that is on its way may be the old size.
        self.shared.size().changed();
        // If this fails, the size is asked for later.
        let _ = self.ask_size();
    }

    /// Asks for the size and stores it. Blocks.
    pub(in crate::raw) fn ask_size(&self) -> RawResult<u64> {
        self.shared().ask_size()
    }

    /// Resizes the image, and asks the OSDs for the size. An owner of the exclusive lock that has
    /// not heard of an earlier change, because it had lost its watch, reports a size that it
    /// believes the image to have as a success, and does nothing (16.2). Then this handle acquires
    /// the lock and enlarges the image itself. It does not shrink again: another client may have
    /// enlarged the image since, and written to it.
    ///
    /// Fails with `ESTALE` if the image has another size afterwards.
    pub(crate) fn resize(&self, size: u64, allow_shrink: bool, progress: Progress<'_>) -> RawResult<()> {
        let _turn = Turn::take(self.shared());
        let _alone = if allow_shrink { Some(self.hold()?) } else { None };
        if allow_shrink {
            self.take_lock()?;
        }
        self.request_size(size, allow_shrink, progress)?;
        for attempt in 0.. {
            let Some(now) = self.shared().stored()?.map(|stored| stored.size) else { break };
            // Releases after 16.2 add the header of an encrypted image.
            let is_made = now == size || now == size + self.header_len();
            if is_made || now > size && !allow_shrink {
                break;
            }
            if now > size || attempt == ATTEMPTS {
                return Err(Errno::ESTALE);
            }
            self.take_lock()?;
            self.request_size(size, false, Progress::default())?;
        }
        Ok(())
    }

    /// Makes the change, or asks the owner of the exclusive lock to make it.
    fn request_size(&self, size: u64, allow_shrink: bool, progress: Progress<'_>) -> RawResult<()> {
        let change = Change::watch(self, move |image| {
            let now = image.ask_size();
            now.is_ok_and(|now| now == size || now + image.header_len() == size)
        });
        // SAFETY: the image is open; the progress state lives through the call.
        let resized = self.change(|| unsafe {
            with_progress(change.listen(progress), |report, arg| {
                sys::rbd_resize2(self.as_ptr(), size, allow_shrink, Some(report), arg)
            })
        });
        drop(change);
        self.size_changed();
        resized.map(drop)
    }

    /// Acquires the exclusive lock, so that librbd resizes the image here. If it asks the owner to
    /// shrink the image instead, a new owner can receive a request that an earlier one has carried
    /// out, and shrink the image again after it has grown.
    ///
    /// If another client keeps the lock, only the owner can resize the image.
    fn take_lock(&self) -> RawResult<()> {
        let is_locked = self.features()? & sys::RBD_FEATURE_EXCLUSIVE_LOCK != 0;
        if !is_locked || self.owns_exclusive_lock()? {
            return Ok(());
        }
        match self.flush() {
            Err(Errno::EROFS) => Ok(()),
            flushed => flushed,
        }
    }
}

/// The images whose size is being changed, one handle each.
static CHANGED: Mutex<Vec<Arc<Target>>> = Mutex::new(Vec::new());
static CHANGED_NO_MORE: Condvar = Condvar::new();

/// While it lives, no other thread of this process changes the size of the image. Two concurrent
/// changes make librbd 16.2 abort the process, even without I/O: one truncates an object that the
/// other has removed from the object map.
pub(in crate::raw) struct Turn(Arc<Target>);

impl Turn {
    /// Waits until no other thread changes the size.
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

/// The handles that this process has, and the holds on them.
#[derive(Default)]
struct Handles {
    /// Some are closed already.
    open: Vec<Weak<Target>>,
    held: Vec<(u64, Arc<Target>, Vec<Hold>)>,
    next: u64,
}

static HANDLES: LazyLock<Mutex<Handles>> = LazyLock::new(Mutex::default);

fn handles() -> MutexGuard<'static, Handles> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(target: &Arc<Target>) {
    let mut handles = handles();
    handles.open.retain(|one| one.strong_count() > 0);
    handles.open.push(Arc::downgrade(target));
    // An image that is opened during a hold is held, too.
    for (_, of, holds) in &mut handles.held {
        if of.is_of_same_image(target) {
            holds.extend(Arc::clone(target).hold());
        }
    }
}

/// Holds on all handles that this process has of an image, also on those that are opened meanwhile.
pub(in crate::raw) struct AllHeld(u64);

impl AllHeld {
    fn begin(target: &Arc<Target>) -> AllHeld {
        let mut handles = handles();
        let open: Vec<_> = handles.open.iter().filter_map(Weak::upgrade).collect();
        let others = open.iter().filter(|one| !Arc::ptr_eq(one, target) && one.is_of_same_image(target));
        let holds = others.chain([target]).filter_map(|one| Arc::clone(one).hold()).collect();
        let number = handles.next;
        handles.next += 1;
        handles.held.push((number, Arc::clone(target), holds));
        // The last owner of a target frees it, and may end its connection, which blocks.
        drop(handles);
        drop(open);
        AllHeld(number)
    }

    fn is_drained(&self) -> bool {
        let handles = handles();
        let mut held = handles.held.iter().filter(|(number, ..)| *number == self.0);
        held.all(|(_, _, holds)| holds.iter().all(Hold::is_drained))
    }
}

impl Drop for AllHeld {
    fn drop(&mut self) {
        let mut handles = handles();
        let ended = handles.held.iter().position(|(number, ..)| *number == self.0);
        let ended = ended.map(|at| handles.held.swap_remove(at));
        // The end of a hold submits what was kept, and the last owner of a target frees it.
        drop(handles);
        drop(ended);
    }
}
