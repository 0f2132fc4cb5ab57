//! What the feature `tracing` tells about operations.

use std::fmt::Display;

use tracing::{debug, trace};

use super::op::About;

pub(super) fn submitted(about: &About) {
    let (offset, len) = about.range.unzip();
    trace!(target: "rbd::aio", operation = about.operation, image = about.image.spec, offset, len, "submitted");
}

/// Its future was dropped, at a deadline or otherwise: nobody will hear of its end.
pub(super) fn left(about: &About) {
    let (offset, len) = about.range.unzip();
    trace!(target: "rbd::aio", operation = about.operation, image = about.image.spec, offset, len, "left to itself");
}

/// Seen by whoever polls, so later than librbd's end of it; or at the submission, if that fails.
pub(super) fn ended(about: &About, error: Option<&impl Display>) {
    let (offset, len) = about.range.unzip();
    let operation = about.operation;
    match error {
        None => trace!(target: "rbd::aio", operation, image = about.image.spec, offset, len, "ended"),
        Some(error) => {
            debug!(target: "rbd::aio", operation, image = about.image.spec, offset, len, %error, "failed");
        }
    }
}
