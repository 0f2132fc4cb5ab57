//! Asking the cluster about an image in the background: its size, and why requests fail.
//!
//! A completion runs on a thread of librbd, which must not wait for librbd, and some results mean
//! nothing before the answer. One thread for each image asks on behalf of all waiting operations.

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::op::answer::Answer;
use crate::raw::op::lease::Ownership;
use crate::raw::op::sync::PoisonError;
use crate::raw::op::target::Target;
use crate::raw::thread::background::try_spawn_detached;

impl Target {
    /// Asks the cluster, and runs `then` on a thread that may block. If no thread can be started,
    /// `then` gets an empty answer at once.
    ///
    /// # Safety
    /// The image must be open, and stay open until `then` runs.
    pub(in crate::raw) unsafe fn ask(&self, cause: bool, then: impl FnOnce(&Answer) + Send + 'static) {
        let mut asking = self.asking().lock().unwrap_or_else(PoisonError::into_inner);
        asking.waiting.push(Box::new(then));
        asking.cause |= cause;
        if asking.running {
            return;
        }
        asking.running = true;
        drop(asking);
        self.start_asking();
    }

    /// Asks for the size in the background if it is not known.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(in crate::raw) fn refresh_size(&self) {
        if self.size().fresh().is_some() {
            return;
        }
        let mut asking = self.asking().lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut asking.running, true) {
            return;
        }
        drop(asking);
        self.start_asking();
    }

    fn start_asking(&self) {
        // The thread counts as an operation, which keeps the image open.
        let _ = self.enter();
        let target = TargetPtr(self);
        let started = try_spawn_detached(move || {
            let target = target;
            // SAFETY: entered above, and left here.
            unsafe {
                (*target.0).answer_all(|cause| (*target.0).look(cause));
                Target::leave(target.0);
            }
        });
        if !started {
            self.answer_all(|_| Answer { size: Err(Errno::EAGAIN), cause: None });
            // SAFETY: entered above. The waiting operations have left, but this entry keeps the
            // target valid.
            unsafe { Target::leave(self) };
        }
    }

    /// Returns the size if requests may begin without asking the cluster: the size is known, and
    /// the exclusive lock is not in doubt.
    pub(in crate::raw) fn ready(&self) -> Option<u64> {
        self.size().fresh().filter(|_| self.lease().is_valid())
    }

    /// Asks for the size, even if it seems to be known, and then for the exclusive lock if it is in
    /// doubt: the size can take long. Fails with `ENOLCK` if the handle has lost the lock. Blocks.
    pub(in crate::raw) fn ask_ready(&self) -> RawResult<u64> {
        let size = self.ask_size();
        self.check_lease()?;
        size
    }

    /// Fails with `ENOLCK` if the handle has lost an exclusive lock that was acquired explicitly.
    /// Asks the cluster, and blocks, if the last proof is too old.
    pub(in crate::raw) fn check_lease(&self) -> RawResult<()> {
        if self.lease().is_valid() { Ok(()) } else { self.renew_lease() }
    }

    /// Asks the cluster whether the lease goes on. Blocks.
    pub(in crate::raw) fn renew_lease(&self) -> RawResult<()> {
        let ask = |cookie: &str| match self.lock_cookie()? {
            Some(found) if found == cookie => Ok(Ownership::Owned),
            // SAFETY: the image is open, as the caller makes sure.
            _ if unsafe { self.needs_lock() }? => Ok(Ownership::Lost),
            _ => Ok(Ownership::Unneeded),
        };
        if self.lease().renew(ask)? { Ok(()) } else { Err(Errno::ENOLCK) }
    }

    /// Asks for the size and stores it. Blocks.
    pub(in crate::raw) fn ask_size(&self) -> RawResult<u64> {
        let changes = self.size().changes();
        if self.look_for_cut()? {
            self.size().learn(0, changes);
            return Ok(0);
        }
        let mut size = 0;
        // SAFETY: the image is open, as the caller makes sure; the out pointer lives through the
        // call.
        check(unsafe { sys::rbd_get_size(self.image(), &raw mut size) })?;
        let size = positive(size);
        if size == 0 {
            // librbd has this size for a snapshot that was removed, but no flags.
            let mut flags = 0;
            // SAFETY: as above.
            check(unsafe { sys::rbd_get_flags(self.image(), &raw mut flags) })?;
        }
        self.size().learn(size, changes);
        Ok(size)
    }

    /// Returns whether the image is smaller than its encryption header, so that librbd must not get
    /// a call that needs the size. Asks the cluster, and blocks, only after a change.
    pub(in crate::raw) fn is_cut(&self) -> RawResult<bool> {
        let unchanged = || self.size().fresh().is_some() && !self.header().was_cut();
        if self.header().len() == 0 || unchanged() {
            return Ok(false);
        }
        self.ask_size()?;
        Ok(self.header().was_cut())
    }

    /// Asks the OSDs whether the image is smaller than its encryption header. Blocks if encryption
    /// is loaded.
    fn look_for_cut(&self) -> RawResult<bool> {
        let len = self.header().len();
        if len == 0 {
            return Ok(false);
        }
        // librbd subtracts nothing from a size of 0.
        let cut = self.stored()?.is_some_and(|stored| stored.size > 0 && stored.size < len);
        self.header().set_cut(cut);
        Ok(cut)
    }

    fn look(&self, cause: bool) -> Answer {
        let size = self.ask_ready();
        let unknown = size.is_err_and(|errno| errno != Errno::ENOLCK);
        // SAFETY: as for `ask_size`.
        let cause = if cause || unknown { unsafe { self.cause() } } else { None };
        Answer { size, cause }
    }

    fn answer_all(&self, look: impl Fn(bool) -> Answer) {
        let lock = || self.asking().lock().unwrap_or_else(PoisonError::into_inner);
        let mut asking = lock();
        loop {
            let (waiting, cause) = (std::mem::take(&mut asking.waiting), std::mem::take(&mut asking.cause));
            drop(asking);
            let answer = look(cause);
            for then in waiting {
                then(&answer);
            }
            asking = lock();
            if asking.waiting.is_empty() {
                asking.running = false;
                return;
            }
        }
    }
}

/// The target on its way to the thread that asks.
struct TargetPtr(*const Target);

// SAFETY: a target is Sync, and the sender keeps it valid.
unsafe impl Send for TargetPtr {}

/// Returns 0 for a negative size. librbd 16.2 subtracts the encryption header. If the image was cut
/// below it, no data is left, and I/O would abort the process.
pub(crate) fn positive(size: u64) -> u64 {
    if i64::try_from(size).is_ok() { size } else { 0 }
}
