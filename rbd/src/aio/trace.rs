//! What the feature `tracing` tells about operations.

use tracing::{debug, trace};

use super::op::About;
use crate::errno::Errno;

pub(super) fn submitted(about: &About) {
    let (offset, len) = about.range.unzip();
    trace!(target: "rbd::aio", operation = about.operation, image = about.image.spec, offset, len, "submitted");
}

/// Seen by whoever polls, so later than librbd's end of it.
pub(super) fn ended(about: &About, errno: Option<&Errno>) {
    let (offset, len) = about.range.unzip();
    let operation = about.operation;
    match errno {
        None => trace!(target: "rbd::aio", operation, image = about.image.spec, offset, len, "ended"),
        Some(errno) => {
            debug!(target: "rbd::aio", operation, image = about.image.spec, offset, len, %errno, "failed");
        }
    }
}
