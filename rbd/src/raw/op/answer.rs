//! What the cluster answers about an image, and what waits for that.

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;

/// What is known about an image that was asked.
#[derive(Debug, Clone)]
pub(in crate::raw) struct Answer {
    pub(in crate::raw) size: RawResult<u64>,
    pub(in crate::raw) cause: Option<Cause>,
}

/// Why librbd refuses requests, which its errors do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another client keeps the exclusive lock: its address.
    Kept(String),
    /// The pool with this id was deleted: the image's own, or that of its data.
    PoolDeleted { id: i64, data: bool },
}

impl Cause {
    /// Whether librbd means this cause by that number.
    pub(crate) fn explains(&self, errno: Errno) -> bool {
        match self {
            Cause::Kept(_) => errno == Errno::EROFS,
            Cause::PoolDeleted { .. } => true,
        }
    }
}

/// Whether a number can stand for several causes, which only the cluster can tell.
pub(crate) fn needs_cause(errno: Errno) -> bool {
    matches!(errno, Errno::EROFS | Errno::EPERM | Errno::ENOENT)
}

/// Finds causes.
pub(in crate::raw) trait Causes: Send + Sync {
    /// Asks the cluster why requests fail. Blocks, for a while at most.
    ///
    /// # Safety
    /// The image must be open.
    unsafe fn look_up(&self, image: sys::rbd_image_t) -> Option<Cause>;
}

/// There is nobody to ask.
impl Causes for () {
    unsafe fn look_up(&self, _: sys::rbd_image_t) -> Option<Cause> {
        None
    }
}

pub(super) type Then = Box<dyn FnOnce(&Answer) + Send>;

/// What waits for an answer about an image.
#[derive(Default)]
pub(in crate::raw) struct Asking {
    pub(super) waiting: Vec<Then>,
    /// One of them wants to know why requests fail.
    pub(super) cause: bool,
    /// There is a thread.
    pub(super) running: bool,
}
