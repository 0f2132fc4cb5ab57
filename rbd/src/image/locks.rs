//! The exclusive lock of librbd: which client may write.

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::features::Features;
use crate::holder::Holder;
use crate::names::c_string;

/// Who has the exclusive lock of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOwner {
    /// The client's address with its nonce, as the blocklist takes it.
    pub address: String,
}

impl Image {
    /// Takes the exclusive lock and keeps it: no other client gets it until it is released here.
    ///
    /// Without this, librbd takes the lock at the first write and hands it over whenever another client asks. Waits for the
    /// present owner to let go; one that keeps it, as this call would, is an error that names it. Needs the feature exclusive-lock.
    ///
    /// Implements: `rbd_lock_acquire`.
    #[doc(alias = "rbd_lock_acquire")]
    pub fn acquire_exclusive_lock(&self) -> Result<()> {
        let operation = "take the exclusive lock of";
        if !self.features()?.contains(Features::EXCLUSIVE_LOCK) {
            let why = "it lacks the feature exclusive-lock; enable it first";
            return Err(self.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        self.call(operation, |raw| raw.acquire_exclusive_lock()).map_err(|error| self.name_owner(error))
    }

    /// Lets go of the exclusive lock, after all writes in flight.
    ///
    /// Implements: `rbd_lock_release`.
    #[doc(alias = "rbd_lock_release")]
    pub fn release_exclusive_lock(&self) -> Result<()> {
        self.call("release the exclusive lock of", |raw| raw.release_exclusive_lock())
    }

    /// Whether this handle has the exclusive lock.
    ///
    /// Implements: `rbd_is_exclusive_lock_owner`.
    #[doc(alias = "rbd_is_exclusive_lock_owner")]
    pub fn owns_exclusive_lock(&self) -> Result<bool> {
        self.call("look up the lock of", |raw| raw.owns_exclusive_lock())
    }

    /// Who has the exclusive lock: nobody, or one client.
    ///
    /// Implements: `rbd_lock_get_owners`.
    #[doc(alias = "rbd_lock_get_owners")]
    pub fn exclusive_lock_owner(&self) -> Result<Option<LockOwner>> {
        let owners = self.call("look up the lock owner of", |raw| raw.exclusive_lock_owners())?;
        Ok(owners.into_iter().next().map(|address| LockOwner { address }))
    }

    /// Takes the exclusive lock away from an owner that is gone, fencing that client off (unless
    /// `rbd_blocklist_on_break_lock` is off) so that it cannot write any more.
    ///
    /// Implements: `rbd_lock_break`.
    #[doc(alias = "rbd_lock_break")]
    pub fn break_exclusive_lock(&self, owner: &LockOwner) -> Result<()> {
        let operation = "break the exclusive lock of";
        let address = c_string(operation, || self.object(), &owner.address)?;
        self.call(operation, |raw| raw.break_exclusive_lock(&address))
    }

    /// An owner that does not let go shows as EROFS.
    fn name_owner(&self, error: Error) -> Error {
        if !matches!(error.errno(), Some(Errno::EROFS | Errno::EBUSY)) || self.is_read_only() {
            return error;
        }
        match self.exclusive_lock_owner() {
            Ok(Some(owner)) => {
                let holder = Holder::LockOwner { client: String::new(), address: owner.address };
                error.with_kind(ErrorKind::Busy { holders: vec![holder] })
            }
            _ => error,
        }
    }
}
