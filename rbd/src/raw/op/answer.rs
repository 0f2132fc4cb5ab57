//! What the cluster answers about an image, and what waits for that.

/// What is known about an image that was asked.
#[derive(Debug, Clone, Default)]
pub(in crate::raw) struct Answer {
    pub(in crate::raw) size: Option<u64>,
    /// The other client that keeps the exclusive lock.
    pub(in crate::raw) owner: Option<String>,
}

pub(super) type Then = Box<dyn FnOnce(&Answer) + Send>;

/// What waits for an answer about an image.
#[derive(Default)]
pub(in crate::raw) struct Asking {
    pub(super) waiting: Vec<Then>,
    /// One of them wants to know the owner of the exclusive lock.
    pub(super) owner: bool,
    /// There is a thread.
    pub(super) running: bool,
}
