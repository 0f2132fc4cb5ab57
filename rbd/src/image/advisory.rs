//! Advisory locks, which cooperating programs agree to respect.

use super::Image;
use crate::address::ClientAddress;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::holder::Holder;
use crate::names::c_string;
use crate::raw::image::locks::{INTERNAL_TAG, RawLockers};

/// The holders of the advisory locks on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lockers {
    /// Whether the lock is exclusive.
    pub exclusive: bool,
    /// The tag that the holders of a shared lock agreed on.
    pub tag: String,
    /// The holders; empty if there is none.
    pub lockers: Vec<Locker>,
}

/// A holder of an advisory lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locker {
    /// The client, such as `client.4123`.
    pub client: String,
    /// The cookie, chosen by the client, which distinguishes its locks.
    pub cookie: String,
    /// The client's address with its nonce.
    pub address: ClientAddress,
}

/// The advisory locks on an image: see [`Image::advisory_locks`].
#[derive(Debug, Clone, Copy)]
pub struct AdvisoryLocks<'a>(&'a Image);

impl Image {
    /// Returns the group of calls that acquire, release and list advisory locks. Programs agree to
    /// respect them.
    ///
    /// An image with the feature exclusive-lock cannot be written by anybody while an advisory lock
    /// is held, not even by its holder: librbd keeps its exclusive lock in the same place. Without
    /// the feature, advisory locks do not prevent writes.
    pub fn advisory_locks(&self) -> AdvisoryLocks<'_> {
        AdvisoryLocks(self)
    }
}

impl AdvisoryLocks<'_> {
    /// Acquires the exclusive advisory lock. The caller chooses the cookie, which distinguishes the
    /// locks of one client.
    ///
    /// If the image has the feature exclusive-lock, this fails with [`Busy`](ErrorKind::Busy) while
    /// a client owns that lock. While the advisory lock is held, writes of all clients wait, and
    /// fail with [`TimedOut`](ErrorKind::TimedOut), which names it.
    ///
    /// Implements: `rbd_lock_exclusive`.
    #[doc(alias = "rbd_lock_exclusive")]
    pub fn acquire_exclusive(&self, cookie: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.0.object(), cookie)?;
        self.0.check_existence()?;
        self.0
            .bounded("lock", move |raw| raw.lock_exclusive(&c_cookie))
            .map_err(|error| self.0.name_lockers(error))
    }

    /// Acquires a shared advisory lock. All clients that share it must give the same tag. It keeps
    /// clients from writing as [`acquire_exclusive`](Self::acquire_exclusive) does.
    ///
    /// Implements: `rbd_lock_shared`.
    #[doc(alias = "rbd_lock_shared")]
    pub fn acquire_shared(&self, cookie: &str, tag: &str) -> Result<()> {
        let c_cookie = c_string("lock", || self.0.object(), cookie)?;
        let c_tag = c_string("lock", || self.0.object(), tag)?;
        self.0.check_existence()?;
        self.0
            .bounded("lock", move |raw| raw.lock_shared(&c_cookie, &c_tag))
            .map_err(|error| self.0.name_lockers(error))
    }

    /// Releases a lock of this client. Refuses the cookie of an exclusive lock (`auto …`): librbd
    /// would write on without the lock.
    ///
    /// Implements: `rbd_unlock`.
    #[doc(alias = "rbd_unlock")]
    pub fn release(&self, cookie: &str) -> Result<()> {
        if cookie.starts_with("auto ") && self.0.lockers("look up the locks of")?.tag == INTERNAL_TAG {
            let why = "this is the exclusive lock of librbd, which would write on without it; release it \
                       with `exclusive_lock().release()`";
            return Err(self.0.refuse("unlock", why));
        }
        let c_cookie = c_string("unlock", || self.0.object(), cookie)?;
        self.0.bounded("unlock", move |raw| raw.unlock(&c_cookie)).map_err(|error| match error.kind() {
            ErrorKind::NotFound { what: ObjectKind::Image } => {
                error.with_kind(ErrorKind::NotFound { what: ObjectKind::Lock }).with_detail(format!(
                    "this client has no lock with the cookie '{cookie}'; `advisory_locks().list()` \
                                      shows the locks"
                ))
            }
            _ => error,
        })
    }

    /// Lists the holders, including the owner of the [exclusive lock](Image::exclusive_lock), whose
    /// cookie is `auto …`.
    ///
    /// Asks the cluster, because librbd's own list dates from the opening of the image.
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
    /// `rbd_blocklist_on_break_lock` is off. Fails with [`NotFound`](ErrorKind::NotFound) of an
    /// [`ObjectKind::Lock`] if that client no longer has the lock.
    ///
    /// Implements: `rbd_break_lock`.
    #[doc(alias = "rbd_break_lock")]
    pub fn break_lock(&self, locker: &Locker) -> Result<()> {
        let operation = "break the lock of";
        let client = c_string(operation, || self.0.object(), &locker.client)?;
        let cookie = c_string(operation, || self.0.object(), &locker.cookie)?;
        self.0.bounded(operation, move |raw| raw.break_lock(&client, &cookie)).map_err(|error| {
            if *error.kind() != (ErrorKind::NotFound { what: ObjectKind::Image }) {
                return error;
            }
            error.with_kind(ErrorKind::NotFound { what: ObjectKind::Lock }).with_detail(format!(
                "{} has no lock with the cookie '{}' any more; `advisory_locks().list()` shows the locks",
                locker.client, locker.cookie
            ))
        })
    }
}

impl Image {
    /// Returns the current locks from the cluster.
    pub(super) fn lockers(&self, operation: &'static str) -> Result<RawLockers> {
        let id = self.id()?;
        // An image of format 1 has no id.
        let header = if id.is_empty() { format!("{}.rbd", self.name()?) } else { format!("rbd_header.{id}") };
        let header = c_string(operation, || self.object(), &header)?;
        self.ioctx.bounded(operation, || self.object(), move |raw| raw.lockers(&header))
    }

    /// Adds the holders of the locks to an error that they cause.
    pub(super) fn name_lockers(&self, error: Error) -> Error {
        if !error.is_busy() && !error.is_already_exists() {
            return error;
        }
        let Ok(locks) = self.advisory_locks().list() else { return error };
        let holder = |Locker { client, cookie, address }: Locker| match &*locks.tag {
            INTERNAL_TAG => Holder::LockOwner { client, address },
            _ => Holder::AdvisoryLock { client, cookie, address },
        };
        error.with_kind(ErrorKind::Busy { holders: locks.lockers.into_iter().map(holder).collect() })
    }
}
