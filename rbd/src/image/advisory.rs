//! Advisory locks: names on an image that cooperating programs agree to respect. They keep nobody from writing.

use super::Image;
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::names::c_string;

/// The advisory locks on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdvisoryLocks {
    /// Whether the one lock is exclusive.
    pub exclusive: bool,
    /// What the holders of a shared lock agreed on.
    pub tag: String,
    /// Who holds it; empty when nobody does.
    pub lockers: Vec<Locker>,
}

/// A holder of an advisory lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locker {
    /// The client: `client.4123`.
    pub client: String,
    /// What tells apart several locks of one client; chosen by it.
    pub cookie: String,
    /// Its address with the nonce.
    pub address: String,
}

impl Image {
    /// Puts an exclusive advisory lock on it, told apart by a cookie of the caller's choice.
    ///
    /// Implements: `rbd_lock_exclusive`.
    #[doc(alias = "rbd_lock_exclusive")]
    pub fn lock_exclusive(&self, cookie: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.object(), cookie)?;
        self.call("lock", |raw| raw.lock_exclusive(&c_cookie)).map_err(|error| self.name_lockers(error))
    }

    /// Puts a shared advisory lock on it; all that share it must give the same tag.
    ///
    /// Implements: `rbd_lock_shared`.
    #[doc(alias = "rbd_lock_shared")]
    pub fn lock_shared(&self, cookie: &str, tag: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.object(), cookie)?;
        let c_tag = c_string("lock", || self.object(), tag)?;
        self.call("lock", |raw| raw.lock_shared(&c_cookie, &c_tag)).map_err(|error| self.name_lockers(error))
    }

    /// Takes a lock of this client's off again.
    ///
    /// Implements: `rbd_unlock`.
    #[doc(alias = "rbd_unlock")]
    pub fn unlock(&self, cookie: &str) -> Result<()> {
        let c_cookie = c_string("unlock", || self.object(), cookie)?;
        self.call("unlock", |raw| raw.unlock(&c_cookie))
    }

    /// The advisory locks. An exclusive lock of librbd's own is among them, with a cookie `auto …`.
    ///
    /// Implements: `rbd_list_lockers`.
    #[doc(alias = "rbd_list_lockers")]
    pub fn advisory_locks(&self) -> Result<AdvisoryLocks> {
        let raw = self.call("list the locks of", |raw| raw.lockers())?;
        let locker = |(client, cookie, address)| Locker { client, cookie, address };
        Ok(AdvisoryLocks {
            exclusive: raw.exclusive,
            tag: raw.tag,
            lockers: raw.lockers.into_iter().map(locker).collect(),
        })
    }

    /// Takes another client's lock off, fencing that client off (unless `rbd_blocklist_on_break_lock` is off).
    ///
    /// Implements: `rbd_break_lock`.
    #[doc(alias = "rbd_break_lock")]
    pub fn break_advisory_lock(&self, locker: &Locker) -> Result<()> {
        let operation = "break the lock of";
        let client = c_string(operation, || self.object(), &locker.client)?;
        let cookie = c_string(operation, || self.object(), &locker.cookie)?;
        self.call(operation, |raw| raw.break_lock(&client, &cookie))
    }

    fn name_lockers(&self, error: Error) -> Error {
        if !error.is_busy() && !error.is_exists() {
            return error;
        }
        let holders = self.advisory_locks().map(|locks| locks.lockers).unwrap_or_default();
        let holder = |locker: Locker| Holder::LockOwner { client: locker.client, address: locker.address };
        error.with_kind(ErrorKind::Busy { holders: holders.into_iter().map(holder).collect() })
    }
}
