//! The lease of a handle that has acquired the exclusive lock explicitly: the time of the last
//! proof that it still owns the lock.
//!
//! librbd does not check the lock when it writes. Suppose that this process is stopped, that
//! another client fences it and breaks the lock, and that the process resumes after it was removed
//! from the blocklist. Then librbd (seen with 16.2) either notices nothing or acquires the lock
//! again, and writes in both cases. So a thread regularly asks the OSD for a proof. If the last
//! proof is too old, requests of the handle wait for a new one. A handle that has lost the lock
//! writes nothing until the user acquires it again.
//!
//! The proof is the cookie of the lock. librbd changes the cookie only after the OSDs have ended
//! its watch, because they heard nothing for 30 s or because the client was fenced. Another client
//! may have owned the lock in the meantime. So a new cookie means that the lock was lost.
//!
//! If a client disables the feature, there is no lock any more, and every client may write. So the
//! handle has lost the lock, unless its own user has disabled the feature. The owner's librbd
//! carries out such a change for any other client.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// How long a proof is valid.
const VALID: Duration = Duration::from_secs(5);

/// No lock was acquired explicitly.
const NONE: u64 = 0;
/// The lock was lost.
const LOST: u64 = u64::MAX;

/// What the cluster says about the lock of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum Ownership {
    /// The handle has owned the lock all the time.
    Owned,
    /// The handle has lost the lock, perhaps only for a time.
    Lost,
    /// The user of the handle has disabled the feature, or librbd refuses all writes.
    Unneeded,
}

/// A point in time. The clock goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) struct Moment(u64);

impl Moment {
    pub(in crate::raw) fn now() -> Moment {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the place for the time lives through the call.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
        // At least 1, and 584 years after the boot there is no moment like LOST.
        Moment((now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64 + 1)
    }
}

#[derive(Debug)]
pub(in crate::raw) struct Lease {
    /// The moment of the last proof.
    proven: AtomicU64,
    /// The cookie of the lock.
    cookie: Mutex<String>,
    /// Locked while the lock is acquired, or given back after it was lost.
    turn: Mutex<()>,
    /// The thread that renews leases is asking.
    renewing: AtomicBool,
    /// The user of this handle disables the feature, or has done so.
    disabled: AtomicBool,
    /// The user has called for the lock, and the handle does not have it: that failed, or the lock
    /// was released. librbd does not acquire it for writes then.
    released: AtomicBool,
}

impl Lease {
    pub(in crate::raw) const fn none() -> Lease {
        Lease {
            proven: AtomicU64::new(NONE),
            cookie: Mutex::new(String::new()),
            turn: Mutex::new(()),
            renewing: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            released: AtomicBool::new(false),
        }
    }

    /// Returns whether requests may begin: there is no lease, or its last proof is not too old.
    pub(in crate::raw) fn is_valid(&self) -> bool {
        match self.proven.load(Ordering::Acquire) {
            NONE => true,
            LOST => false,
            proven => Moment::now().0.saturating_sub(proven) < VALID.as_nanos() as u64,
        }
    }

    /// Returns whether the lock was acquired and not released.
    pub(in crate::raw) fn is_there(&self) -> bool {
        self.proven.load(Ordering::Acquire) != NONE
    }

    pub(in crate::raw) fn is_lost(&self) -> bool {
        self.proven.load(Ordering::Acquire) == LOST
    }

    pub(in crate::raw) fn is_renewing(&self) -> bool {
        self.renewing.load(Ordering::Acquire)
    }

    pub(in crate::raw) fn set_renewing(&self, renewing: bool) {
        self.renewing.store(renewing, Ordering::Release);
    }

    pub(in crate::raw) fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Acquire)
    }

    pub(in crate::raw) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    pub(in crate::raw) fn set_released(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(in crate::raw) fn set_disabled(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Release);
    }

    /// Waits until no other thread acquires the lock or gives it back.
    pub(in crate::raw) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the turn if no other thread has it and the lock is lost.
    pub(in crate::raw) fn turn_after_loss(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.is_lost().then_some(turn)
    }

    /// Begins with the cookie of the lock, which was asked for at this moment.
    pub(in crate::raw) fn begin(&self, asked: Moment, cookie: String) {
        *self.cookie.lock().unwrap_or_else(PoisonError::into_inner) = cookie;
        self.proven.store(asked.0, Ordering::Release);
        self.released.store(false, Ordering::Release);
    }

    /// Ends it, because the lock was released.
    pub(in crate::raw) fn end(&self) {
        self.set_released();
        self.proven.store(NONE, Ordering::Release);
    }

    pub(in crate::raw) fn lose(&self) {
        self.proven.store(LOST, Ordering::Release);
    }

    /// Asks for a new proof and records the answer. Returns whether requests may begin. An answer
    /// counts only for the lease for which it was asked.
    pub(in crate::raw) fn renew<E>(&self, ask: impl Fn(&str) -> Result<Ownership, E>) -> Result<bool, E> {
        loop {
            let (before, asked) = (self.proven.load(Ordering::Acquire), Moment::now());
            match before {
                NONE => return Ok(true),
                LOST => return Ok(false),
                _ => {}
            }
            let cookie = self.cookie.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let after = match ask(&cookie)? {
                Ownership::Owned => asked.0,
                Ownership::Lost => LOST,
                Ownership::Unneeded => NONE,
            };
            match self.proven.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(after != LOST),
                // Another thread has asked meanwhile, or the lock was released or acquired again.
                Err(_) if after == LOST => {}
                Err(other) => return Ok(other != LOST),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn ago(time: Duration) -> Moment {
        Moment(Moment::now().0 - time.as_nanos() as u64)
    }

    fn renew(lease: &Lease, answer: Ownership) -> bool {
        lease.renew(|_| Ok::<_, ()>(answer)).unwrap()
    }

    #[test]
    fn without_a_lease_nothing_is_asked() {
        let lease = Lease::none();
        assert!(lease.is_valid() && !lease.is_there());
        assert_eq!(lease.renew(|_| Err("asked")), Ok(true));
    }

    #[test]
    fn an_old_proof_is_renewed() {
        let lease = Lease::none();
        lease.begin(ago(VALID), String::new());
        assert!(!lease.is_valid() && lease.is_there());
        assert_eq!(lease.renew(|_| Err("no answer")), Err("no answer"));
        assert!(!lease.is_valid());
        assert!(renew(&lease, Ownership::Owned) && lease.is_valid());
    }

    #[test]
    fn a_lost_lock_stays_lost_until_it_is_acquired_again() {
        let lease = Lease::none();
        lease.begin(Moment::now(), String::new());
        assert!(!renew(&lease, Ownership::Lost) && lease.is_lost() && !lease.is_valid());
        assert!(!renew(&lease, Ownership::Owned) && lease.is_lost());
        lease.begin(Moment::now(), String::new());
        assert!(lease.is_valid());
        assert!(renew(&lease, Ownership::Unneeded) && !lease.is_there() && lease.is_valid());
    }

    #[test]
    fn a_late_answer_does_not_count_for_a_new_lease() {
        let (lease, asked) = (Lease::none(), Cell::new(0));
        lease.begin(ago(VALID), String::new());
        let answer = |_: &str| {
            asked.set(asked.get() + 1);
            if asked.get() > 1 {
                return Ok::<_, ()>(Ownership::Owned);
            }
            lease.begin(Moment::now(), String::new());
            Ok(Ownership::Lost)
        };
        assert_eq!((lease.renew(answer), asked.get()), (Ok(true), 2));
        assert!(lease.is_valid());
    }
}
