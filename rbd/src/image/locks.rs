//! The exclusive lock of librbd, which decides which client may write.

use super::Image;
use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::features::Features;
use crate::holder::Holder;
use crate::names::c_string;
use crate::raw::image::locks::INTERNAL_TAG;

/// The owner of the exclusive lock of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOwner {
    /// The client's address with its nonce, which the blocklist accepts.
    pub address: ClientAddress,
}

/// The exclusive lock of an image, which librbd manages: see [`Image::exclusive_lock`].
#[derive(Debug, Clone, Copy)]
pub struct ExclusiveLock<'a>(&'a Image);

impl Image {
    /// Returns the group of calls that acquire, release and query the exclusive lock. librbd and
    /// the kernel acquire it before they write.
    ///
    /// The lock does not stop a client that wrongly believes that it owns the lock: fence such a
    /// client. See [`guide::locks`](crate::guide::locks), also for the difference from the [advisory
    /// locks](Self::advisory_locks).
    pub fn exclusive_lock(&self) -> ExclusiveLock<'_> {
        ExclusiveLock(self)
    }
}

impl ExclusiveLock<'_> {
    /// Acquires the exclusive lock and keeps it: no other client gets it until this handle releases
    /// it.
    ///
    /// Without this call, librbd acquires the lock at the first write and hands it over when
    /// another client asks. The call waits until the current owner releases the lock. If the owner
    /// keeps it, the call fails with [`Busy`](ErrorKind::Busy), which names the owner. If the owner
    /// does not answer, because it is dead or stopped, librbd fences it after about 30 s, and the
    /// call succeeds. If the call timeout is shorter, the call fails with
    /// [`TimedOut`](ErrorKind::TimedOut), and librbd fences the owner later nevertheless. Needs the
    /// feature exclusive-lock and a handle that can write.
    ///
    /// From then on, a thread asks the OSD every second whether this handle still has the lock. If
    /// another client has broken it, all later I/O of this handle fails with
    /// [`LockLost`](ErrorKind::LockLost), and so do [`flush`](Image::flush),
    /// [`close`](Image::close) and [`release`](Self::release), until this call succeeds again. This
    /// holds even if the client was paused, fenced and removed from the blocklist before it
    /// resumes.
    ///
    /// After such a pause of 5 s or longer, no further request is submitted. After a shorter one,
    /// and if the clock stands still meanwhile, as in a paused virtual machine, writes can succeed
    /// for 1 s plus the time of one request to an OSD. Requests that were in flight at the pause
    /// can still take effect. A client that was cut off from the cluster for more than 30 s can
    /// lose the lock, too. See [`guide::locks`](crate::guide::locks).
    ///
    /// The lock is also lost if another handle or client disables the feature: librbd lets the
    /// owner carry that out, and then nothing keeps other clients from writing. Until the thread
    /// has noticed it, after about 1 s, writes of several clients succeed. After `LockLost`,
    /// [`release`](Self::release) lets this handle write without a lock. If this handle disables
    /// the feature itself, it writes on.
    ///
    /// Implements: `rbd_lock_acquire`.
    #[doc(alias = "rbd_lock_acquire")]
    pub fn acquire(&self) -> Result<()> {
        let operation = "acquire the exclusive lock of";
        self.0.refuse_read_only(operation)?;
        if !self.0.features()?.contains(Features::EXCLUSIVE_LOCK) {
            let why = "it lacks the feature exclusive-lock; enable it first";
            return Err(self.0.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        self.0
            .bounded(operation, move |raw| raw.acquire_exclusive_lock())
            .map_err(|error| self.0.name_owner(error))
    }

    /// Releases the exclusive lock after all writes in flight. Fails with
    /// [`LockLost`](ErrorKind::LockLost) if the lock was lost since it was acquired: see
    /// [`acquire`](Self::acquire).
    ///
    /// **A handle that has released the lock does not acquire it again by writing.** Its writes and
    /// flushes fail with [`ReadOnly`](ErrorKind::ReadOnly), and reads work. A call that needs the
    /// lock, such as a resize or a snapshot, acquires it if it is free, and the handle keeps it
    /// again. So call [`acquire`](Self::acquire) before you write, or close the image and open it
    /// again. If the image has no feature exclusive-lock any more, the handle writes without a
    /// lock.
    ///
    /// Implements: `rbd_lock_release`.
    #[doc(alias = "rbd_lock_release")]
    pub fn release(&self) -> Result<()> {
        let operation = "release the exclusive lock of";
        self.0.refuse_read_only(operation)?;
        self.0.bounded(operation, move |raw| raw.release_exclusive_lock())
    }

    /// Returns whether this handle owns the exclusive lock. Asks the cluster.
    ///
    /// Implements: `rbd_is_exclusive_lock_owner`.
    #[doc(alias = "rbd_is_exclusive_lock_owner")]
    pub fn is_owner(&self) -> Result<bool> {
        self.0.bounded("look up the lock of", move |raw| raw.owns_exclusive_lock())
    }

    /// Returns the client that owns the exclusive lock, if there is one. Asks the cluster. If
    /// somebody has an advisory lock instead, this fails with [`Busy`](ErrorKind::Busy), which names
    /// it; a read-only handle returns `None`.
    ///
    /// Implements: `rbd_lock_get_owners`.
    #[doc(alias = "rbd_lock_get_owners")]
    pub fn owner(&self) -> Result<Option<LockOwner>> {
        let owners = match self.0.bounded("look up the lock owner of", move |raw| raw.exclusive_lock_owners())
        {
            // librbd does not know the owner on a read-only handle, or for an image without the
            // feature.
            Err(error) if error.errno() == Some(Errno::EINVAL) => {
                let holder = self.0.lock_holder()?;
                return Ok(holder.and_then(|holder| match holder {
                    Holder::LockOwner { address, .. } => Some(LockOwner { address }),
                    _ => None,
                }));
            }
            owners => owners.map_err(|error| self.0.name_lockers(error))?,
        };
        Ok(owners.into_iter().next().map(|address| LockOwner { address: ClientAddress::from_ceph(address) }))
    }

    /// Takes the exclusive lock from an owner that is gone. Blocklists that client, which prevents
    /// its writes, unless the option `rbd_blocklist_on_break_lock` is off.
    ///
    /// If the lock has become free meanwhile, this fails with
    /// [`NotFound`](ErrorKind::NotFound) of an [`ObjectKind::Lock`]. If another client has it by
    /// now, this fails with [`Busy`](ErrorKind::Busy), which names that client.
    ///
    /// Implements: `rbd_lock_break`.
    #[doc(alias = "rbd_lock_break")]
    pub fn break_lock(&self, owner: &LockOwner) -> Result<()> {
        let operation = "break the exclusive lock of";
        let address = c_string(operation, || self.0.object(), owner.address.as_str())?;
        self.0.bounded(operation, move |raw| raw.break_exclusive_lock(&address)).map_err(|error| {
            let missing = *error.kind() == ErrorKind::NotFound { what: ObjectKind::Image };
            if !missing && !error.is_busy() {
                return error;
            }
            match self.owner() {
                Ok(None) if missing => error
                    .with_kind(ErrorKind::NotFound { what: ObjectKind::Lock })
                    .with_detail("no client has the lock; it was released meanwhile"),
                Ok(Some(_)) => self.0.name_owner(error),
                _ => error,
            }
        })
    }
}

impl Image {
    /// Adds the lock owner to EROFS, which librbd returns if the owner keeps the lock.
    fn name_owner(&self, error: Error) -> Error {
        if !matches!(error.errno(), Some(Errno::EROFS | Errno::EBUSY | Errno::ENOENT)) || self.is_read_only()
        {
            return error;
        }
        match self.lock_holder() {
            Ok(Some(holder)) => error.with_kind(ErrorKind::Busy { holders: vec![holder] }),
            _ => error,
        }
    }

    /// Returns the owner of the exclusive lock, with its client. Asks the cluster.
    pub(crate) fn lock_holder(&self) -> Result<Option<Holder>> {
        let found = self.lockers("look up the lock owner of")?;
        let internal = found.tag == INTERNAL_TAG;
        let mut owners = found.lockers.into_iter().filter(|_| internal);
        Ok(owners.next().map(|(client, _, address)| Holder::LockOwner {
            client,
            address: ClientAddress::from_ceph(address),
        }))
    }

    /// Refuses to acquire or release the lock with a handle that only reads: librbd says that the
    /// feature is missing.
    fn refuse_read_only(&self, operation: &'static str) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::new(operation, self.object(), Errno::EROFS));
        }
        Ok(())
    }
}
