//! What the feature `tracing` tells about asynchronous operations. Without the feature there is no
//! such module.

use std::fmt::Display;

use tracing::{debug, trace, warn};

/// An operation, the image's name, and offset and length where it has some.
pub(crate) type Subject<'a> = (&'static str, &'a str, Option<(u64, u64)>);

pub(crate) fn submitted((operation, image, range): Subject<'_>) {
    let (offset, len) = range.unzip();
    trace!(target: "rbd::aio", operation, image, offset, len, "submitted");
}

/// Tells that an image that was dropped, named by its id, did not close well: nobody else hears of
/// it.
pub(crate) fn lost(image_id: &str, why: &impl Display) {
    warn!(target: "rbd::close", image_id, %why, "a dropped image was not closed well");
}

/// Nobody will hear of its end.
pub(crate) fn left((operation, image, range): Subject<'_>) {
    let (offset, len) = range.unzip();
    trace!(target: "rbd::aio", operation, image, offset, len, "left to itself");
}

/// Seen by whoever asks for it, so later than librbd's end of it; or at the submission, if that
/// fails.
pub(crate) fn ended((operation, image, range): Subject<'_>, error: Option<&impl Display>) {
    let (offset, len) = range.unzip();
    match error {
        None => trace!(target: "rbd::aio", operation, image, offset, len, "ended"),
        Some(error) => debug!(target: "rbd::aio", operation, image, offset, len, %error, "failed"),
    }
}
