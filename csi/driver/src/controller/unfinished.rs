//! Images that an interrupted creation has left. librbd makes an image in several steps, and the
//! process can end between any two of them.

use std::thread;
use std::time::Duration;

use rbd::features::Features;
use rbd::{Image, IoCtx};
use tonic::Status;

use super::found;
use super::request::{CreateVolume, Source};
use crate::calls;
use crate::notes::Note;
use crate::status::OrStatus;

/// Another controller may still be creating the image. If it makes no step in this time, it is
/// gone.
const SETTLE: Duration = Duration::from_secs(3);

/// What follows the volume's name in the name of a copy while it is made. No volume has such a
/// name: see [`object_name`](crate::ids::object_name).
pub(super) const PART: &str = "~part";

/// An image with the volume's name that is not marked as complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// librbd has made the image. The remaining steps can be carried out.
    Made,
    /// librbd was interrupted. The image holds no data and must be made again.
    Half,
    /// It was not made for this request.
    Foreign,
}

/// Returns how far the creation of an image came that is not marked as complete.
pub(super) fn look(request: &CreateVolume, pool: &IoCtx, image: &Image) -> Result<Unfinished, Status> {
    let Some(parent) = image.parent().or_status()? else {
        return look_without_parent(request, pool, image);
    };
    let Some(source) = &request.source else { return Ok(Unfinished::Foreign) };
    let (volume, linked) = (source.volume(), &parent.image);
    let same_image = linked.pool_id == volume.place.pool
        && linked.namespace == volume.place.namespace
        && linked.id == volume.image;
    let same = same_image
        && match source {
            Source::Snapshot(id) => parent.snapshot_id == id.snapshot,
            Source::Volume(_) => true,
        };
    if !same {
        return Ok(Unfinished::Foreign);
    }
    // If the parent does not list a clone, the clone loses its data with the parent's snapshot.
    let from = pool.cluster().ioctx_by_id(linked.pool_id).or_status()?;
    let from = from.with_namespace(&linked.namespace).or_status()?;
    let parent = from.open_by_id(&linked.id).read_only(true).run().or_status()?;
    let id = image.id().or_status()?;
    let known = parent.children().or_status()?.iter().any(|child| child.id == id);
    Ok(if known { Unfinished::Made } else { Unfinished::Half })
}

fn look_without_parent(request: &CreateVolume, pool: &IoCtx, image: &Image) -> Result<Unfinished, Status> {
    if request.source.is_some() {
        // A copy gets the note about its source before it gets its name.
        match Note::Source.get(image).or_status()? {
            Some(start) if start == request.start() => return Ok(Unfinished::Made),
            Some(_) => return Ok(Unfinished::Foreign),
            None => {}
        }
    }
    if !image.snapshots().list().or_status()?.is_empty() || !image.diff().collect().or_status()?.is_empty() {
        return Ok(Unfinished::Foreign);
    }
    let features = image.features().or_status()?;
    let map = !features.contains(Features::OBJECT_MAP)
        || calls::has_object(pool, "rbd_object_map", &image.id().or_status()?)?;
    let layout = request.class.layout()?;
    let striped = layout.stripe_unit.is_none_or(|unit| image.stripe_unit().is_ok_and(|found| found == unit));
    // librbd makes the journal last. It can be in another pool.
    let journal = features.contains(Features::JOURNALING);
    let made = request.source.is_none() && map && striped && !journal;
    Ok(if made { Unfinished::Made } else { Unfinished::Half })
}

/// Removes an incomplete image, unless another controller is still creating it.
pub(super) fn remove(pool: &IoCtx, name: &str, image: Image) -> Result<(), Status> {
    let id = image.id().or_status()?;
    image.close().or_status()?;
    thread::sleep(SETTLE);
    let Some(image) = found(pool.open(name).read_only(true).run())? else { return Ok(()) };
    if image.id().or_status()? != id || Note::Name.get(&image).or_status()?.is_some() {
        return Ok(());
    }
    drop(image);
    tracing::warn!(image = name, "its creation was interrupted; it is made anew");
    found(pool.remove(name).run()).map(drop)
}

/// Removes a name without an image, which an interrupted creation or removal has left. Returns
/// whether the name is now free or has an image.
pub(super) fn free_name(pool: &IoCtx, name: &str) -> Result<bool, Status> {
    let Some(id) = calls::id(pool, name)? else { return Ok(true) };
    let trashed = found(pool.trash().get(&id))?.is_some();
    if !trashed {
        if calls::has_object(pool, "rbd_header", &id)? {
            return Ok(false);
        }
        thread::sleep(SETTLE);
        if calls::id(pool, name)?.as_ref() != Some(&id) || calls::has_object(pool, "rbd_header", &id)? {
            return Ok(true);
        }
    }
    tracing::warn!(image = name, "its creation or removal was interrupted; its name is free again");
    calls::forget_name(pool, name, &id)?;
    Ok(true)
}

/// Ends the renaming of a copy that was interrupted between two steps.
pub(super) fn end_rename(pool: &IoCtx, name: &str, image: &Image) -> Result<(), Status> {
    calls::end_rename(pool, &format!("{name}{PART}"), name, &image.id().or_status()?)
}
