//! Events of asynchronous operations for the feature `tracing`. Without the feature, this module
//! does not exist.

use std::fmt::Display;

use tracing::{debug, trace, warn};

/// An operation, the image's name, and offset and length if it has a range.
pub(crate) type Subject<'a> = (&'static str, &'a str, Option<(u64, u64)>);

pub(crate) fn submitted((operation, image, range): Subject<'_>) {
    let (offset, len) = range.unzip();
    trace!(target: "rbd::aio", operation, image, offset, len, "submitted");
}

/// Reports that closing a dropped image, named by its id, failed. No caller gets this error.
pub(crate) fn lost(image_id: &str, why: &impl Display) {
    warn!(target: "rbd::close", image_id, %why, "closing a dropped image failed");
}

/// Reports that no caller will get the operation's result.
pub(crate) fn left((operation, image, range): Subject<'_>) {
    let (offset, len) = range.unzip();
    trace!(target: "rbd::aio", operation, image, offset, len, "detached");
}

/// Reports the result when the caller takes it, which is later than the completion in librbd, or at
/// a failed submission.
pub(crate) fn ended((operation, image, range): Subject<'_>, error: Option<&impl Display>) {
    let (offset, len) = range.unzip();
    match error {
        None => trace!(target: "rbd::aio", operation, image, offset, len, "ended"),
        Some(error) => debug!(target: "rbd::aio", operation, image, offset, len, %error, "failed"),
    }
}
