//! Taking part when snapshots are taken, by librbd's threads.
//!
//! librbd loses count of a snapshot under way when the watches of a handle change meanwhile (seen
//! with 16.2.15):
//!
//! - Ending one waits for the thaw, which is told to the watches that are left. With the last one
//!   gone it waits for ever, and the handle hears of no later snapshot. There is no time to do it
//!   in: a snapshot may begin at that very moment.
//! - Where the first one begins between freeze and thaw, librbd aborts the process at the thaw.
//!
//! So each watch has a handle of its own, which is opened for it and knows nothing of what began
//! before. It is closed with the watch still on: librbd brings what is under way to its end then,
//! and nobody waits for a thaw. What is left is the moment between the opening and the watch.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

/// What the callback is told.
pub(crate) enum Told {
    /// A snapshot is about to be taken, and waits for the answer.
    Freeze(FreezeAnswer),
    /// It is taken, or given up.
    Thaw,
}

/// The answer that the client which takes a snapshot waits for. If it is dropped without an answer,
/// the answer is an I/O error.
pub(crate) struct FreezeAnswer(Arc<Party>);

/// Takes part from its beginning until it is closed. Dropped without that, it leaks.
pub(crate) struct QuiesceWatch {
    /// Nobody else's, and this is its only watch of the kind.
    image: Image,
    handle: u64,
    party: Arc<Party>,
}

struct Party {
    image: Address<c_void>,
    round: Mutex<Round>,
    tell: Box<dyn Fn(Told) + Send + Sync>,
}

#[derive(Default)]
struct Round {
    /// Unknown until the watch has begun, which a snapshot may do before us.
    handle: Option<u64>,
    /// A freeze is not answered yet: librbd asserts that it gets one answer to each.
    owed: bool,
    /// An answer for which the handle is missing.
    early: Option<i32>,
    ended: bool,
}

impl Party {
    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, round: &mut Round, code: i32) {
        if !std::mem::take(&mut round.owed) {
            return;
        }
        match round.handle {
            // SAFETY: one is owed, so librbd has called and waits, for which the image is open. It
            // is not closed before the lock of the round is free and nothing is owed.
            Some(handle) => unsafe { sys::rbd_quiesce_complete(self.image.get(), handle, code) },
            None => round.early = Some(code),
        }
    }
}

impl FreezeAnswer {
    /// Zero lets the snapshot go on, a negative errno has it fail. Does nothing where the watch has
    /// ended meanwhile.
    pub(crate) fn give(self, code: i32) {
        self.0.answer(&mut self.0.round(), code);
    }
}

impl Drop for FreezeAnswer {
    fn drop(&mut self) {
        // Nothing, if it was given.
        self.0.answer(&mut self.0.round(), -libc::EIO);
    }
}

impl QuiesceWatch {
    /// Has `tell` called around snapshots, on a thread of librbd's. The image must have been opened
    /// just now, for this.
    pub(crate) fn begin(
        image: Image,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> RawResult<QuiesceWatch> {
        let party = Party { image: image.address(), round: Mutex::default(), tell: Box::new(tell) };
        let party = Arc::new(party);
        let arg = Arc::into_raw(Arc::clone(&party)).cast_mut().cast::<c_void>();
        let mut handle = 0;
        // SAFETY: the image is open; the party lives until `close` has closed it, or for ever.
        let code = unsafe {
            sys::rbd_quiesce_watch(image.as_ptr(), Some(on_quiesce), Some(on_unquiesce), arg, &raw mut handle)
        };
        if code < 0 {
            // SAFETY: it was not registered, so this count is ours.
            unsafe { Arc::decrement_strong_count(arg.cast::<Party>().cast_const()) };
        }
        check(code)?;
        let mut round = party.round();
        round.handle = Some(handle);
        if let Some(code) = round.early.take() {
            round.owed = true;
            party.answer(&mut round, code);
        }
        drop(round);
        Ok(QuiesceWatch { image, handle, party })
    }

    /// Tells nothing any more. A freeze under way fails.
    pub(crate) fn end(&self) {
        let mut round = self.party.round();
        round.ended = true;
        self.party.answer(&mut round, -libc::ECANCELED);
    }

    /// Ends it and closes its image. `other` must be open; which one does not matter. Blocks; must
    /// not run on a thread of Ceph's.
    pub(crate) fn close(self, other: &Image) -> RawResult<()> {
        self.end();
        let QuiesceWatch { image, handle, party } = self;
        let closed = image.close();
        // SAFETY: nothing is called any more; librbd frees the image whatever `close` gives. This
        // is the count that it had.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&party)) };
        // What librbd made for the watch is freed by this alone. It is in no list any more, least
        // of all in that of an image that never had such a watch: that it is unknown there is all
        // that comes back, and there is nothing to wait for. SAFETY: the image is open. The handle
        // is the address of an object that nobody but us knows of any more.
        unsafe { sys::rbd_quiesce_unwatch(other.as_ptr(), handle) };
        closed.map_err(|failure| failure.errno)
    }
}

unsafe extern "C" fn on_quiesce(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let party = arg.cast::<Party>().cast_const();
    // SAFETY: `begin` passed an Arc<Party> that lives for as long as this can be called; this makes
    // one more.
    let party = unsafe {
        Arc::increment_strong_count(party);
        Arc::from_raw(party)
    };
    let mut round = party.round();
    round.owed = true;
    if round.ended {
        // Nobody is left to be frozen.
        party.answer(&mut round, 0);
        return;
    }
    drop(round);
    catch_panic(|| (party.tell)(Told::Freeze(FreezeAnswer(Arc::clone(&party)))));
}

unsafe extern "C" fn on_unquiesce(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: as in `on_quiesce`.
    let party = unsafe { &*arg.cast::<Party>() };
    catch_panic(|| (party.tell)(Told::Thaw));
}
