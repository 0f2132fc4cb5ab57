//! Quiesce watches: callbacks of librbd's threads before and after a snapshot.
//!
//! librbd miscounts if the watches of a handle change while a snapshot is being taken (seen with
//! 16.2.15):
//!
//! - Ending a watch waits for the thaw, which is sent to the remaining watches. If none remains, it
//!   waits forever, and the handle receives no later snapshot. No moment is safe, because a
//!   snapshot may begin at any time.
//! - If the first watch begins between freeze and thaw, librbd aborts the process at the thaw.
//!
//! So each watch opens its own handle, which knows no earlier snapshot request. The handle is
//! closed while the watch is still registered: librbd then ends the request in progress, and
//! nothing waits for a thaw. A [gate](super::snapshot_gate) covers the time between the opening
//! and the registration: it shows if a snapshot was announced meanwhile, and that snapshot waits
//! until the handle is closed, which must happen without a watch. Then another handle is opened.

use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::image::snapshot_gate::SnapshotGate;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

/// The events that the callback receives.
pub(crate) enum Told {
    /// A snapshot is about to be taken. It waits for the answer.
    Freeze(FreezeAnswer),
    /// The snapshot was taken or abandoned.
    Thaw,
}

/// The answer for which the client that takes the snapshot waits. Dropping it unused answers that
/// the watch has ended.
pub(crate) struct FreezeAnswer(Arc<Party>);

/// A quiesce watch, registered until it is closed. It leaks if it is dropped instead.
pub(crate) struct QuiesceWatch {
    /// Owned by this watch alone, which is its only quiesce watch.
    image: Image,
    handle: u64,
    party: Arc<Party>,
}

struct Party {
    image: Address<c_void>,
    round: Mutex<Round>,
    tell: Arc<Tell>,
}

type Tell = dyn Fn(Told) + Send + Sync;

/// How often a watch tries to begin. An attempt fails if a snapshot is announced meanwhile. Each of
/// the clients that do that waits until the watch has begun.
const ATTEMPTS: usize = 20;

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts
struct Round {
    /// Unknown until the registration returns. A snapshot may begin before that.
    handle: Option<u64>,
    /// A freeze is not answered yet. librbd asserts that each gets one answer.
    owed: bool,
    /// An answer given before the handle was known.
    early: Option<i32>,
    /// The watch may have missed a freeze before this.
    begun: bool,
    /// librbd has called for a freeze.
    asked: bool,
    /// The callback knows of a freeze, so it receives the thaw.
    told: bool,
    stopped: bool,
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
            // SAFETY: an answer is owed, so librbd waits for it and the image is open. The image is
            // closed only after the round is unlocked and nothing is owed.
            Some(handle) => unsafe { sys::rbd_quiesce_complete(self.image.get(), handle, code) },
            None => round.early = Some(code),
        }
    }
}

impl FreezeAnswer {
    /// Answers: zero lets the snapshot continue, a negative errno makes it fail. Does nothing if
    /// the watch has stopped meanwhile.
    pub(crate) fn give(self, code: i32) {
        self.0.answer(&mut self.0.round(), code);
    }
}

impl Drop for FreezeAnswer {
    fn drop(&mut self) {
        // Does nothing if the answer was given. Otherwise the watch is ending.
        self.0.answer(&mut self.0.round(), -libc::ECANCELED);
    }
}

impl QuiesceWatch {
    /// Registers `tell`, which librbd's threads call before and after snapshots, on handles of its
    /// own that `open` opens. `header` is the name of the image's header object in `ioctx`. Blocks.
    pub(crate) fn begin(
        ioctx: Arc<IoCtx>,
        header: CString,
        open: impl Fn() -> RawResult<Image>,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> RawResult<QuiesceWatch> {
        let tell: Arc<Tell> = Arc::new(tell);
        let gate = SnapshotGate::close(ioctx, header)?;
        for _ in 0..ATTEMPTS {
            let before = gate.announced()?;
            let image = open()?;
            if before.is_none() || gate.announced()? != before {
                // Closing it without a watch is safe.
                continue;
            }
            let watch = QuiesceWatch::register(image, Arc::clone(&tell))?;
            let after = gate.announced();
            // An announcement meanwhile was received before the registration or after it.
            if after == Ok(before) || (matches!(after, Ok(Some(_))) && watch.is_asked()) {
                watch.party.round().begun = true;
                return Ok(watch);
            }
            watch.withdraw();
            after?;
        }
        Err(Errno::EBUSY)
    }

    /// Returns whether a freeze reaches the watch soon, which then also receives its thaw.
    fn is_asked(&self) -> bool {
        (0..200).any(|_| {
            let asked = self.party.round().asked;
            if !asked {
                std::thread::sleep(Duration::from_millis(10));
            }
            asked
        })
    }

    /// Ends the watch of an image that received no freeze since the registration.
    fn withdraw(self) {
        let QuiesceWatch { image, handle, party } = self;
        // SAFETY: the image is open, and the handle was made for it. No snapshot is in progress
        // that this waits for.
        let code = unsafe { sys::rbd_quiesce_unwatch(image.as_ptr(), handle) };
        if code == 0 {
            // SAFETY: no callback runs any more; this is the count that the registration had.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&party)) };
        }
    }

    /// Registers `tell` on an image that was opened just now, for this watch.
    fn register(image: Image, tell: Arc<Tell>) -> RawResult<QuiesceWatch> {
        let party = Party { image: image.address(), round: Mutex::default(), tell };
        let party = Arc::new(party);
        let arg = Arc::into_raw(Arc::clone(&party)).cast_mut().cast::<c_void>();
        let mut handle = 0;
        // SAFETY: the image is open; the party lives until `close` has closed the image, or is
        // leaked.
        let code = unsafe {
            sys::rbd_quiesce_watch(image.as_ptr(), Some(on_quiesce), Some(on_unquiesce), arg, &raw mut handle)
        };
        if code < 0 {
            // SAFETY: it was not registered, so we own this count.
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

    /// Stops the events. A freeze in progress fails.
    pub(crate) fn end(&self) {
        let mut round = self.party.round();
        round.stopped = true;
        self.party.answer(&mut round, -libc::ECANCELED);
    }

    /// Ends the watch and closes its image. `other` can be any open image. Blocks; must not run on
    /// a thread of Ceph.
    pub(crate) fn close(self, other: &Image) -> RawResult<()> {
        self.end();
        let QuiesceWatch { image, handle, party } = self;
        let closed = image.close();
        // SAFETY: no callback runs any more, and librbd frees the image even if `close` fails. This
        // is the count that the registration had.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&party)) };
        // Only this call frees the object that librbd made for the watch. No list contains it any
        // more, so the call waits for nothing and returns only that the watch is unknown.
        // SAFETY: the image is open. The handle is the address of an object that only we still
        // know.
        unsafe { sys::rbd_quiesce_unwatch(other.as_ptr(), handle) };
        closed.map_err(|failure| failure.errno)
    }
}

unsafe extern "C" fn on_quiesce(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    let party = arg.cast::<Party>().cast_const();
    // SAFETY: `begin` passed an Arc<Party> that lives as long as this can be called. We take one
    // more count.
    let party = unsafe {
        Arc::increment_strong_count(party);
        Arc::from_raw(party)
    };
    let mut round = party.round();
    (round.owed, round.asked) = (true, true);
    if round.stopped || !round.begun {
        // The watch has stopped or not begun, so there is nothing to freeze.
        party.answer(&mut round, 0);
        return;
    }
    round.told = true;
    drop(round);
    catch_panic(|| (party.tell)(Told::Freeze(FreezeAnswer(Arc::clone(&party)))));
}

unsafe extern "C" fn on_unquiesce(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: as in `on_quiesce`.
    let party = unsafe { &*arg.cast::<Party>() };
    if std::mem::take(&mut party.round().told) {
        catch_panic(|| (party.tell)(Told::Thaw));
    }
}
