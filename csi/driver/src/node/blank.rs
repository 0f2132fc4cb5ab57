//! Whether an image is blank, as the cluster sees it.
//!
//! libblkid and the beginning and end of a device tell file systems and most other data. A block
//! volume can have its data elsewhere. So before an image is formatted, all of its objects are
//! looked at. A new image has none.

use std::ops::ControlFlow;

use rbd::diff::Extent;
use rbd::{Image, IoCtx};
use tonic::Status;

use crate::controller;
use crate::ids::VolumeId;
use crate::status::OrStatus;

/// How many bytes are read at once.
const PIECE: u64 = 4 << 20;

/// Refuses an image that holds data anywhere. The handle may be without a watch. Then the image
/// seems blank if it is removed meanwhile, so that is checked at the end.
pub(super) fn check(id: &VolumeId, pool: &IoCtx, image: &Image) -> Result<(), Status> {
    let mut seen = Ok(true);
    let looked = image.diff().whole_objects(true).for_each(|extent| {
        seen = is_zero(image, extent);
        if matches!(seen, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if seen.or_status()? {
        if controller::is_there(pool, id)? {
            return looked.or_status();
        }
        return Err(Status::not_found(format!(
            "volume '{id}' was deleted while its image was checked for data; it was not formatted; stage a \
             volume that exists"
        )));
    }
    Err(Status::failed_precondition(format!(
        "volume '{id}' has no file system, but its image holds data; it was not formatted; use it as a \
         block volume, or erase the image"
    )))
}

fn is_zero(image: &Image, extent: Extent) -> rbd::Result<bool> {
    let (mut at, end) = (extent.offset, extent.end());
    while at < end {
        let mut bytes = vec![0; PIECE.min(end - at) as usize];
        image.read_exact_at(&mut bytes, at)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += PIECE;
    }
    Ok(true)
}
