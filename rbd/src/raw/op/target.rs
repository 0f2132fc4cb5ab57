//! The target of operations: counts the operations in flight on an image, for which closing and
//! shrinking wait, and records whether completions go to a queue.
//!
//! librbd's close waits only for operations that have reached its lowest layer. One that is still
//! in one of its queues (because of an I/O limit, or an exclusive lock that another client has)
//! would use a freed image.
//!
//! For shrinks see [`hold`](crate::raw::op::hold).

use std::ffi::c_void;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::op::answer::{Asking, Cause, Causes, Stored};
use crate::raw::op::header::Header;
use crate::raw::op::kept::Holds;
use crate::raw::op::kind::Kind;
use crate::raw::op::known_size::KnownSize;
use crate::raw::op::lease::Lease;
use crate::raw::op::sync::{Apart, AtomicU64, AtomicUsize, Mutex, Ordering, UnsafeCell};
use crate::raw::op::unheard::Failures;
use crate::raw::thread::exit::Busy;

type Closer = Box<dyn FnOnce() + Send>;

/// Bit of the state word: the image is being closed.
pub(super) const CLOSING: u64 = 1;
/// Bit: the image is held.
pub(super) const HELD: u64 = 2;
/// Bit: completions go to a queue. It is never cleared.
pub(super) const QUEUED: u64 = 4;
/// Bit: that queue exists.
const ATTACHED: u64 = 8;
/// One operation in flight.
pub(super) const ONE: u64 = 16;
/// One blocking call on a thread of this crate. More operations than fit below it would need more
/// memory than any machine has, and more calls than fit above it more threads.
pub(super) const CALL: u64 = 1 << 40;

/// The most bytes of a range that librbd gets at once, and the most stripe units.
const MOST: u64 = 1 << 30;
const MOST_UNITS: u64 = 4096;

/// The properties of an open image that never change.
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
    pub(super) state: Apart<AtomicU64>,
    /// The blocking calls. They are counted separately, because a queue may begin while they run.
    pub(super) blocking: AtomicUsize,
    pub(super) holds: Holds,
    closer: Closers,
    /// The known size of the image.
    size: KnownSize,
    header: Header,
    /// The lease of the exclusive lock, if it was acquired explicitly.
    lease: Lease,
    asking: Mutex<Asking>,
    /// How many locks were removed that no handle knew of: see [`Cause::LeftLock`].
    pub(in crate::raw) freed: AtomicUsize,
    identity: OnceLock<Identity>,
    /// The queue's state for callbacks, with the descriptor to which librbd may write until the
    /// image is closed.
    pub(super) queue: OnceLock<Arc<dyn Busy>>,
    /// Whether data was ever written through this handle.
    written: AtomicBool,
    /// Whether librbd caches the image. Empty if it is not known.
    pub(in crate::raw) has_cache: OnceLock<bool>,
    /// Whether a thread has given up its wait for an operation.
    given_up: AtomicBool,
    failures: Failures,
    /// Locked while encryption is loaded or formatted: librbd fails an assertion if two threads do
    /// so (seen with 16.2).
    encryption: std::sync::Mutex<()>,
}

/// The function that closes the image.
struct Closers(UnsafeCell<Option<Closer>>);

// SAFETY: written before CLOSING is set, and taken by the thread that sees CLOSING with nothing in
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
    /// The image must be open. Only the function given to [`close`](Target::close) may close it.
    pub(in crate::raw) unsafe fn new(image: Address<c_void>, causes: impl Causes + 'static) -> Target {
        Target {
            image,
            causes: Box::new(causes),
            state: Apart(AtomicU64::new(0)),
            blocking: AtomicUsize::new(0),
            holds: Holds::new(),
            written: AtomicBool::new(false),
            has_cache: OnceLock::new(),
            given_up: AtomicBool::new(false),
            failures: Failures::default(),
            encryption: std::sync::Mutex::new(()),
            closer: Closers(UnsafeCell::new(None)),
            size: KnownSize::new(),
            header: Header::new(),
            lease: Lease::none(),
            asking: Mutex::new(Asking::default()),
            freed: AtomicUsize::new(0),
            identity: OnceLock::new(),
            queue: OnceLock::new(),
        }
    }

    /// Returns the image. It is open as long as anything is in flight.
    pub(in crate::raw) fn image(&self) -> sys::rbd_image_t {
        self.image.get()
    }

    pub(in crate::raw) fn address(&self) -> Address<c_void> {
        self.image
    }

    /// Records that data is about to be written.
    pub(in crate::raw) fn mark_written(&self) {
        // It is usually set already. Then shared memory is not written.
        if !self.is_written() {
            self.written.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    pub(in crate::raw) fn is_written(&self) -> bool {
        self.written.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns the failed operations whose errors nobody has received.
    pub(in crate::raw) fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Locks the encryption of the image.
    pub(in crate::raw) fn encryption(&self) -> std::sync::MutexGuard<'_, ()> {
        self.encryption.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn size(&self) -> &KnownSize {
        &self.size
    }

    pub(in crate::raw) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Asks for the cookie of the exclusive lock: see [`Causes::lock_cookie`].
    pub(in crate::raw) fn lock_cookie(&self) -> RawResult<Option<String>> {
        self.identity.get().map_or(Ok(None), |identity| self.causes.lock_cookie(&identity.id))
    }

    /// See [`Causes::needs_lock`].
    ///
    /// # Safety
    /// The image must be open.
    pub(in crate::raw) unsafe fn needs_lock(&self) -> RawResult<bool> {
        // SAFETY: the caller's promise.
        unsafe { self.causes.needs_lock(self.image(), self.lease().is_disabled()) }
    }

    pub(in crate::raw) fn asking(&self) -> &Mutex<Asking> {
        &self.asking
    }

    /// Stores the identity, once, when the image is opened.
    pub(in crate::raw) fn identify(&self, identity: Identity) {
        let _ = self.identity.set(identity);
    }

    /// Returns whether both are handles of the same image.
    pub(in crate::raw) fn is_of_same_image(&self, other: &Target) -> bool {
        let ours = self.identity.get();
        std::ptr::eq(self, other)
            || ours.is_some_and(|ours| !ours.id.is_empty()) && ours == other.identity.get()
    }

    /// Returns the size of a stripe unit in bytes. Without striping it is the object size.
    pub(in crate::raw) fn stripe_unit(&self) -> u64 {
        self.identity.get().map_or(1, |identity| identity.stripe_unit)
    }

    /// Returns how much of a range librbd gets at once: a limited number of object requests. Parts
    /// end at the end of a stripe unit, so that no object that can be discarded whole is split.
    pub(in crate::raw) fn part(&self, kind: Kind, offset: u64, len: u64) -> u64 {
        if kind.moves_data() {
            return len;
        }
        let most = self.stripe_unit().saturating_mul(MOST_UNITS).clamp(MOST_UNITS, MOST);
        len.min(most - offset % most)
    }

    /// Returns whether no operations are in flight.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) < ONE
    }

    /// Counts an operation that begins. Must not be called after [`close`](Target::close). Returns
    /// false if its completion would go to a queue: then an operation with a callback must not be
    /// submitted, only leave.
    pub(in crate::raw) fn enter(&self) -> bool {
        self.state.fetch_add(ONE, Ordering::SeqCst) & QUEUED == 0
    }

    /// Counts a blocking call that begins. Closing waits for it. Must not be called after
    /// [`close`](Target::close).
    pub(in crate::raw) fn enter_call(&self) {
        self.state.fetch_add(CALL, Ordering::Relaxed);
    }

    /// Counts the call of the thread that renews leases, unless the image is being closed.
    pub(in crate::raw) fn enter_renewal(&self) -> bool {
        let entered = |state: u64| (state & CLOSING == 0).then_some(state + CALL);
        self.lease.set_renewing(true);
        let open = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, entered).is_ok();
        if !open {
            self.lease.set_renewing(false);
        }
        open
    }

    /// Counts the end of that call.
    ///
    /// # Safety
    /// `this` must be valid and entered by that thread; afterwards it may be invalid.
    pub(in crate::raw) unsafe fn leave_renewal(this: *const Target) {
        // SAFETY: the caller's promise.
        unsafe {
            (*this).lease.set_renewing(false);
            Target::leave_call(this);
        }
    }

    /// Counts the end of a blocking call.
    ///
    /// # Safety
    /// `this` must be valid and entered by a call; afterwards it may be invalid.
    pub(in crate::raw) unsafe fn leave_call(this: *const Target) {
        // SAFETY: the caller's promise.
        unsafe { Target::sub(this, CALL) };
    }

    /// Records that a thread has given up its wait for an operation.
    pub(in crate::raw) fn give_up(&self) {
        self.given_up.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns whether anything is running that may never end: a blocking call of a user, or an
    /// operation after a thread has given up its wait.
    pub(in crate::raw) fn has_calls(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let calls = state / CALL;
        calls > u64::from(self.lease.is_renewing())
            || state % CALL >= ONE && self.given_up.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Sends all completions to a queue from now on. Returns false while operations are in flight,
    /// or if the image had a queue before.
    pub(crate) fn begin_queue(&self) -> bool {
        let begun =
            |state: u64| (state & QUEUED == 0 && state % CALL < ONE).then_some(state | QUEUED | ATTACHED);
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).is_ok()
    }

    /// Undoes `begin_queue`.
    pub(crate) fn cancel_queue(&self) {
        self.state.fetch_and(!(QUEUED | ATTACHED), Ordering::Relaxed);
    }

    /// Ends the queue: the image may be closed.
    pub(in crate::raw) fn detach_queue(self: Arc<Self>) {
        // SAFETY: the Arc keeps it valid. The bit was set by `begin_queue`.
        unsafe { Target::sub(Arc::as_ptr(&self), ATTACHED) };
    }

    /// Returns whether a queue gets the completions, now or earlier.
    pub(crate) fn is_queued(&self) -> bool {
        self.state.load(Ordering::Relaxed) & QUEUED != 0
    }

    /// Keeps the parts of the queue that librbd may use until the image is closed.
    pub(crate) fn keep(&self, queue: Arc<dyn Busy>) {
        // An image has at most one queue.
        let _ = self.queue.set(queue);
    }

    /// Asks why requests fail. Blocks, for a while at most.
    ///
    /// # Safety
    /// The image must be open.
    pub(in crate::raw) unsafe fn cause(&self) -> Option<Cause> {
        // SAFETY: the caller's promise.
        let cause = unsafe { self.causes.look_up(self.image()) };
        if cause == Some(Cause::LeftLock) {
            self.freed.fetch_add(1, Ordering::Relaxed);
        }
        cause.or_else(|| self.lease().is_released().then_some(Cause::Released))
    }

    pub(in crate::raw) fn header(&self) -> &Header {
        &self.header
    }

    /// Asks the OSDs for the stored size. Returns `None` if the size of this handle never changes,
    /// and for an image of the old format. Blocks.
    pub(in crate::raw) fn stored(&self) -> RawResult<Option<Stored>> {
        match self.identity.get() {
            Some(identity) if !identity.id.is_empty() => self.causes.stored(&identity.id),
            _ => Ok(None),
        }
    }

    /// Counts an operation that has ended. The last one runs the function given to `close`.
    ///
    /// # Safety
    /// `this` must be valid and entered; afterwards it may be invalid.
    pub(crate) unsafe fn leave(this: *const Target) {
        // SAFETY: the caller's promise.
        unsafe { Target::sub(this, ONE) };
    }

    /// # Safety
    /// `this` must be valid, and its state must contain `what`, which the caller added; afterwards
    /// it may be invalid.
    unsafe fn sub(this: *const Target, what: u64) {
        // SAFETY: valid, by the contract.
        if unsafe { (*this).state.fetch_sub(what, Ordering::SeqCst) } & !QUEUED == what | CLOSING {
            // SAFETY: we are the last user, so we own the target that was marked CLOSING.
            unsafe { Target::finish(this) };
        }
    }

    /// Runs `then` once nothing is in flight: at once, or on the thread on which the last operation
    /// ends.
    ///
    /// # Safety
    /// Called at most once, after the last operation has entered. `this` must be valid until `then`
    /// runs, which may free it.
    pub(crate) unsafe fn close(this: *const Target, then: impl FnOnce() + Send + 'static) {
        // SAFETY: valid; only this function uses the closer before CLOSING is set.
        unsafe { (*this).closer.0.with_mut(|cell| *cell = Some(Box::new(then))) };
        // SAFETY: valid, since `then` has not run.
        if unsafe { (*this).state.fetch_or(CLOSING, Ordering::AcqRel) } & !QUEUED == 0 {
            // SAFETY: nothing is in flight, so no other thread uses the target.
            unsafe { Target::finish(this) };
        }
    }

    /// # Safety
    /// `this` is valid, and only the caller still uses it.
    unsafe fn finish(this: *const Target) {
        // SAFETY: by the contract; the closer is moved out before it runs, because it may free the
        // target.
        let closer = unsafe { (*this).closer.0.with_mut(|cell| (*cell).take()) };
        if let Some(closer) = closer {
            closer();
        }
    }
}

impl Busy for Target {
    /// Completions in an abandoned queue count until they are taken out of it.
    fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) >= ONE || self.queue.get().is_some_and(|queue| queue.is_busy())
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
