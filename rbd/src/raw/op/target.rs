//! The operations in flight on one image, counted: closing waits for them, and so does shrinking.
//! And whether they go to a queue.
//!
//! librbd waits by itself only for those that have reached its lowest layer. One that still stands
//! in a queue of it (held up by a limit on I/O, or by an exclusive lock that another client has)
//! would meet a freed image.
//!
//! What a shrink does with them is in [`hold`](crate::raw::op::hold).

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use librbd_sys as sys;

use crate::raw::ffi::address::Address;
use crate::raw::op::answer::{Asking, Cause, Causes};
use crate::raw::op::kept::Holds;
use crate::raw::op::kind::Kind;
use crate::raw::op::known_size::KnownSize;
use crate::raw::op::sync::{AtomicUsize, Mutex, Ordering, UnsafeCell};
use crate::raw::thread::exit::Busy;

type Closer = Box<dyn FnOnce() + Send>;

/// The state: this once the image is to be closed,
pub(super) const CLOSING: usize = 1;
/// this while operations are kept,
pub(super) const HELD: usize = 2;
/// this once the completions of operations go to a queue, for good,
pub(super) const QUEUED: usize = 4;
/// this while that queue exists,
const ATTACHED: usize = 8;
/// this for each operation in flight,
pub(super) const ONE: usize = 16;
/// and this for each blocking call on a thread of this crate.
pub(super) const CALL: usize = 1 << (usize::BITS / 2);

/// The most bytes of a range that librbd gets at once, and the most stripe units.
const MOST: u64 = 1 << 30;
const MOST_UNITS: u64 = 4096;

/// What never changes of an open image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::raw) struct Identity {
    pub(in crate::raw) pool: i64,
    /// Empty for an image of the old format.
    pub(in crate::raw) id: String,
    pub(in crate::raw) stripe_unit: u64,
}

pub(crate) struct Target {
    image: Address<c_void>,
    causes: Box<dyn Causes>,
    pub(super) state: AtomicUsize,
    /// The blocking calls. Apart from the rest, since a queue may begin beside them.
    pub(super) blocking: AtomicUsize,
    pub(super) holds: Holds,
    closer: Closers,
    /// The ends of operations tell something about it.
    size: KnownSize,
    asking: Mutex<Asking>,
    identity: OnceLock<Identity>,
    /// The queue's descriptor, to which librbd may write until the image is closed, and what its
    /// callbacks use.
    pub(super) queue: OnceLock<Arc<dyn Busy>>,
    /// Whether data was ever changed through this handle.
    written: AtomicBool,
    /// Held by the one who loads or writes the encryption: librbd fails an assertion where two do
    /// (seen with 16.2).
    encryption: std::sync::Mutex<()>,
}

/// What closes the image in the end.
struct Closers(UnsafeCell<Option<Closer>>);

// SAFETY: written before CLOSING is set, and taken by the one that sees it set with nothing in
// flight.
unsafe impl Send for Closers {}
// SAFETY: as above.
unsafe impl Sync for Closers {}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Target {
    /// # Safety
    /// The image must be open, and be closed by what [`close`](Target::close) runs alone.
    pub(in crate::raw) unsafe fn new(image: Address<c_void>, causes: impl Causes + 'static) -> Target {
        Target {
            image,
            causes: Box::new(causes),
            state: AtomicUsize::new(0),
            blocking: AtomicUsize::new(0),
            holds: Holds::new(),
            written: AtomicBool::new(false),
            encryption: std::sync::Mutex::new(()),
            closer: Closers(UnsafeCell::new(None)),
            size: KnownSize::new(),
            asking: Mutex::new(Asking::default()),
            identity: OnceLock::new(),
            queue: OnceLock::new(),
        }
    }

    /// Open for as long as anything is in flight.
    pub(in crate::raw) fn image(&self) -> sys::rbd_image_t {
        self.image.get()
    }

    pub(in crate::raw) fn address(&self) -> Address<c_void> {
        self.image
    }

    /// Data is about to be changed.
    pub(in crate::raw) fn mark_written(&self) {
        // Most find it set: then nothing is written to memory that others read.
        if !self.is_written() {
            self.written.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    pub(in crate::raw) fn is_written(&self) -> bool {
        self.written.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits for the one who is at the encryption.
    pub(in crate::raw) fn encryption(&self) -> std::sync::MutexGuard<'_, ()> {
        self.encryption.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn size(&self) -> &KnownSize {
        &self.size
    }

    pub(in crate::raw) fn asking(&self) -> &Mutex<Asking> {
        &self.asking
    }

    /// Known from the opening on.
    pub(in crate::raw) fn identify(&self, identity: Identity) {
        let _ = self.identity.set(identity);
    }

    /// Whether both are handles of one image.
    pub(in crate::raw) fn is_of_same_image(&self, other: &Target) -> bool {
        let ours = self.identity.get();
        std::ptr::eq(self, other)
            || ours.is_some_and(|ours| !ours.id.is_empty()) && ours == other.identity.get()
    }

    /// The size of a stripe unit in bytes; that of an object where the image has no other.
    pub(in crate::raw) fn stripe_unit(&self) -> u64 {
        self.identity.get().map_or(1, |identity| identity.stripe_unit)
    }

    /// How much of a range librbd gets at once: what makes no more object requests than memory has
    /// room for. Parts end where stripe units end, so that nothing that can be discarded as a whole
    /// is cut.
    pub(in crate::raw) fn part(&self, kind: Kind, offset: u64, len: u64) -> u64 {
        if kind.moves_data() {
            return len;
        }
        let most = self.stripe_unit().saturating_mul(MOST_UNITS).clamp(MOST_UNITS, MOST);
        len.min(most - offset % most)
    }

    /// Whether no operations are in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) < ONE
    }

    /// An operation begins. Not after [`close`](Target::close). False if its completion would go to
    /// a queue: one with a callback must not be submitted then, only leave.
    pub(in crate::raw) fn enter(&self) -> bool {
        self.state.fetch_add(ONE, Ordering::SeqCst) & QUEUED == 0
    }

    /// Counts a blocking call that begins, which closing waits for as it does for operations. Not
    /// after [`close`](Target::close).
    pub(in crate::raw) fn enter_call(&self) {
        self.state.fetch_add(CALL, Ordering::Relaxed);
    }

    /// Counts the end of a blocking call.
    ///
    /// # Safety
    /// `this` must be valid and entered by a call; afterwards it may not be valid any more.
    pub(in crate::raw) unsafe fn leave_call(this: *const Target) {
        // SAFETY: the caller's promise.
        unsafe { Target::sub(this, CALL) };
    }

    /// Whether blocking calls are at work.
    pub(in crate::raw) fn has_calls(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CALL
    }

    /// A queue gets all completions from here on. False while operations are in flight, or where
    /// there was one before.
    pub(crate) fn begin_queue(&self) -> bool {
        let begun =
            |state: usize| (state & QUEUED == 0 && state % CALL < ONE).then_some(state | QUEUED | ATTACHED);
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).is_ok()
    }

    /// It came to nothing.
    pub(crate) fn cancel_queue(&self) {
        self.state.fetch_and(!(QUEUED | ATTACHED), Ordering::Relaxed);
    }

    /// The queue has ended: the image may be closed.
    pub(in crate::raw) fn detach_queue(self: Arc<Self>) {
        // SAFETY: the Arc keeps it valid. The bit was set by `begin_queue`.
        unsafe { Target::sub(Arc::as_ptr(&self), ATTACHED) };
    }

    /// Whether a queue gets the completions, or did.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Keeps what librbd may use until the image is closed, of the queue that has begun.
    pub(crate) fn keep(&self, queue: Arc<dyn Busy>) {
        // There is one queue at most.
        let _ = self.queue.set(queue);
    }

    /// Asks why requests fail. Blocks, for a while at most.
    ///
    /// # Safety
    /// The image must be open.
    pub(in crate::raw) unsafe fn cause(&self) -> Option<Cause> {
        // SAFETY: the caller's promise.
        unsafe { self.causes.look_up(self.image()) }
    }

    /// An operation ends. The last one runs what `close` left.
    ///
    /// # Safety
    /// `this` must be valid and entered; afterwards it may not be valid any more.
    pub(crate) unsafe fn leave(this: *const Target) {
        // SAFETY: the caller's promise.
        unsafe { Target::sub(this, ONE) };
    }

    /// # Safety
    /// `this` must be valid, and its state have `what` in it from us; afterwards it may not be
    /// valid any more.
    unsafe fn sub(this: *const Target, what: usize) {
        // SAFETY: valid, by the contract.
        if unsafe { (*this).state.fetch_sub(what, Ordering::SeqCst) } & !QUEUED == what | CLOSING {
            // SAFETY: as the last, we have taken over the target from the one that set CLOSING.
            unsafe { Target::finish(this) };
        }
    }

    /// Runs `then` once nothing is in flight: at once, or on the thread where the last operation
    /// ends.
    ///
    /// # Safety
    /// Called at most once, when nobody enters any more. `this` must be valid until `then` runs,
    /// and may be freed by it.
    pub(crate) unsafe fn close(this: *const Target, then: impl FnOnce() + Send + 'static) {
        // SAFETY: valid; nobody else is at the closer before CLOSING is set.
        unsafe { (*this).closer.0.with_mut(|cell| *cell = Some(Box::new(then))) };
        // SAFETY: valid, since `then` has not run.
        if unsafe { (*this).state.fetch_or(CLOSING, Ordering::AcqRel) } & !QUEUED == 0 {
            // SAFETY: nothing is in flight, so nobody else will come.
            unsafe { Target::finish(this) };
        }
    }

    /// # Safety
    /// `this` is valid, and the caller is the only one left to use it.
    unsafe fn finish(this: *const Target) {
        // SAFETY: by the contract; the closer is moved out before it runs, since it may free the
        // target.
        let closer = unsafe { (*this).closer.0.with_mut(|cell| (*cell).take()) };
        if let Some(closer) = closer {
            closer();
        }
    }
}

impl Busy for Target {
    /// Completions in an abandoned queue count until they were taken out of it.
    fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) >= ONE || self.queue.get().is_some_and(|queue| queue.is_busy())
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
