//! Answers of the cluster about an image, and the operations that wait for them.

use librbd_sys as sys;

use crate::errno::Errno;
use crate::holder::Holder;
use crate::raw::RawResult;

/// The answer about an image.
#[derive(Debug, Clone)]
pub(in crate::raw) struct Answer {
    /// Its size. `ENOLCK` if the handle has lost the exclusive lock.
    pub(in crate::raw) size: RawResult<u64>,
    pub(in crate::raw) cause: Option<Cause>,
}

/// Why librbd refuses requests. Its errno does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another client keeps the exclusive lock, or somebody has an advisory lock.
    Kept(Box<Holder>),
    /// A request that had timed out had left the exclusive lock, and the lock is free now.
    LeftLock,
    /// The handle has released the exclusive lock, or could not acquire it.
    Released,
    /// The pool with this id was deleted: the pool of the image, or that of its data.
    PoolDeleted { id: i64, data: bool },
}

impl Cause {
    /// Returns whether librbd uses this errno for this cause.
    pub(crate) fn explains(&self, errno: Errno) -> bool {
        match self {
            Cause::Kept(_) | Cause::Released => errno == Errno::EROFS,
            Cause::LeftLock => errno == Errno::EINVAL,
            Cause::PoolDeleted { .. } => true,
        }
    }
}

/// Returns whether the errno can have several causes, so that the cluster must be asked.
pub(crate) fn needs_cause(errno: Errno) -> bool {
    matches!(errno, Errno::EROFS | Errno::EPERM | Errno::ENOENT)
}

/// The size of an image in its header object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// In bytes, with the encryption header.
    pub(crate) size: u64,
    /// The size of an object as a power of two.
    pub(crate) order: u8,
}

/// A look-up of causes.
pub(in crate::raw) trait Causes: Send + Sync {
    /// Asks the cluster why requests fail. Blocks for a limited time.
    ///
    /// # Safety
    /// The image must be open.
    unsafe fn look_up(&self, image: sys::rbd_image_t) -> Option<Cause>;

    /// Asks the OSDs for the stored size of the image with this id. Returns `None` if the size of
    /// the handle never changes. Blocks.
    fn stored(&self, id: &str) -> RawResult<Option<Stored>>;

    /// Asks for the cookie of the exclusive lock of the image with this id. Returns `None` if this
    /// client does not have the lock. Blocks.
    fn lock_cookie(&self, id: &str) -> RawResult<Option<String>>;

    /// Returns whether a handle that has acquired the exclusive lock must have it to write.
    /// Otherwise it has `disabled` the feature itself, or the image is a mirrored copy, to which
    /// librbd refuses all writes. Blocks.
    ///
    /// # Safety
    /// The image must be open.
    unsafe fn needs_lock(&self, image: sys::rbd_image_t, disabled: bool) -> RawResult<bool>;
}

/// No look-up, for tests.
impl Causes for () {
    unsafe fn look_up(&self, _: sys::rbd_image_t) -> Option<Cause> {
        None
    }

    fn stored(&self, _: &str) -> RawResult<Option<Stored>> {
        Ok(None)
    }

    fn lock_cookie(&self, _: &str) -> RawResult<Option<String>> {
        Ok(None)
    }

    unsafe fn needs_lock(&self, _: sys::rbd_image_t, _: bool) -> RawResult<bool> {
        Ok(false)
    }
}

pub(super) type Then = Box<dyn FnOnce(&Answer) + Send>;

/// The operations that wait for an answer about an image.
#[derive(Default)]
pub(in crate::raw) struct Asking {
    pub(super) waiting: Vec<Then>,
    /// At least one operation asks why requests fail.
    pub(super) cause: bool,
    /// The thread that asks is running.
    pub(super) running: bool,
}
