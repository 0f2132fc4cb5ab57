//! Advisory locks: names on an image that cooperating programs agree to respect. They keep nobody
//! from writing.

use super::Image;
use crate::address::ClientAddress;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::holder::Holder;
use crate::names::c_string;
use crate::raw::image::locks::RawLockers;

/// The holders of the advisory locks on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lockers {
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
    pub address: ClientAddress,
}

/// The advisory locks on an image: see [`Image::advisory_locks`].
#[derive(Debug, Clone, Copy)]
pub struct AdvisoryLocks<'a>(&'a Image);

impl Image {
    /// Acquires, releases and lists advisory locks. They keep nobody from writing: programs agree
    /// to respect them.
    pub fn advisory_locks(&self) -> AdvisoryLocks<'_> {
        AdvisoryLocks(self)
    }
}

impl AdvisoryLocks<'_> {
    /// Acquires the exclusive advisory lock. The cookie is the caller's choice and tells apart
    /// several locks of one client.
    ///
    /// Implements: `rbd_lock_exclusive`.
    #[doc(alias = "rbd_lock_exclusive")]
    pub fn acquire_exclusive(&self, cookie: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.0.object(), cookie)?;
        self.0
            .bounded("lock", move |raw| raw.lock_exclusive(&c_cookie))
            .map_err(|error| self.0.name_lockers(error))
    }

    /// Acquires a shared advisory lock. All clients that share it must give the same tag.
    ///
    /// Implements: `rbd_lock_shared`.
    #[doc(alias = "rbd_lock_shared")]
    pub fn acquire_shared(&self, cookie: &str, tag: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.0.object(), cookie)?;
        let c_tag = c_string("lock", || self.0.object(), tag)?;
        self.0
            .bounded("lock", move |raw| raw.lock_shared(&c_cookie, &c_tag))
            .map_err(|error| self.0.name_lockers(error))
    }

    /// Releases a lock of this client.
    ///
    /// Implements: `rbd_unlock`.
    #[doc(alias = "rbd_unlock")]
    pub fn release(&self, cookie: &str) -> Result<()> {
        let c_cookie = c_string("unlock", || self.0.object(), cookie)?;
        self.0.bounded("unlock", move |raw| raw.unlock(&c_cookie)).map_err(|error| match error.kind() {
            ErrorKind::NotFound { what: ObjectKind::Image } => error
                .with_kind(ErrorKind::NotFound { what: ObjectKind::Lock })
                .with_detail(format!("this client has no lock with the cookie '{cookie}'")),
            _ => error,
        })
    }

    /// Lists the holders. The [exclusive lock](Image::exclusive_lock) is among them, with a cookie
    /// `auto …`.
    ///
    /// Asks the cluster. librbd's own list is that of the time when the image was opened.
    ///
    /// Implements: `rados_list_lockers`.
    #[doc(alias = "rbd_list_lockers")]
    #[doc(alias = "rados_list_lockers")]
    pub fn list(&self) -> Result<Lockers> {
        let raw = self.0.lockers("list the locks of")?;
        let locker =
            |(client, cookie, address)| Locker { client, cookie, address: ClientAddress::from_ceph(address) };
        Ok(Lockers {
            exclusive: raw.exclusive,
            tag: raw.tag,
            lockers: raw.lockers.into_iter().map(locker).collect(),
        })
    }

    /// Takes a lock away from another client. Blocklists that client, unless the option
    /// `rbd_blocklist_on_break_lock` is off.
    ///
    /// Implements: `rbd_break_lock`.
    #[doc(alias = "rbd_break_lock")]
    pub fn break_lock(&self, locker: &Locker) -> Result<()> {
        let operation = "break the lock of";
        let client = c_string(operation, || self.0.object(), &locker.client)?;
        let cookie = c_string(operation, || self.0.object(), &locker.cookie)?;
        self.0.bounded(operation, move |raw| raw.break_lock(&client, &cookie))
    }
}

impl Image {
    /// The locks that the cluster has now.
    pub(super) fn lockers(&self, operation: &'static str) -> Result<RawLockers> {
        let id = self.id()?;
        // An image of format 1 has no id.
        let header = if id.is_empty() { format!("{}.rbd", self.name()?) } else { format!("rbd_header.{id}") };
        let header = c_string(operation, || self.object(), &header)?;
        self.ioctx.bounded(operation, || self.object(), move |raw| raw.lockers(&header))
    }

    fn name_lockers(&self, error: Error) -> Error {
        if !error.is_busy() && !error.is_exists() {
            return error;
        }
        let holders = self.advisory_locks().list().map(|locks| locks.lockers).unwrap_or_default();
        let holder = |locker: Locker| Holder::LockOwner { client: locker.client, address: locker.address };
        error.with_kind(ErrorKind::Busy { holders: holders.into_iter().map(holder).collect() })
    }
}
