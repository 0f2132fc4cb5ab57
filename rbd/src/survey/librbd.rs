//! Queries through librbd, of images about which the OSDs cannot answer.

use super::{Plan, Source, SurveyedImage, SurveyedSnapshot, empty};
use crate::error::Result;
use crate::image::Image;
use crate::image::snapshot::SnapshotKind;
use crate::ioctx::{ImageEntry, IoCtx};

/// Opens the image read-only and queries all values. Blocks.
pub(super) fn look(ioctx: &IoCtx, plan: Plan, entry: &ImageEntry) -> Result<SurveyedImage> {
    let image = match entry.id.as_str() {
        "" => ioctx.open(&entry.name).read_only(true).run()?,
        id => ioctx.open_by_id(id).read_only(true).run()?,
    };
    let stat = image.stat()?;
    let mut found = SurveyedImage {
        source: Source::Librbd,
        old_format: image.is_old_format()?,
        size: stat.size,
        object_size: stat.object_size,
        features: image.features()?,
        flags: image.flags()?,
        ..empty(ioctx.namespace(), entry)
    };
    if !found.old_format {
        found.op_features = image.op_features()?;
    }
    if plan.parent {
        found.parent = image.parent()?;
    }
    if plan.times && !found.old_format {
        found.created = Some(image.created()?);
        found.accessed = Some(image.accessed()?);
        found.modified = Some(image.modified()?);
    }
    if plan.locks {
        found.locks = Some(image.advisory_locks().list()?);
    }
    if plan.watchers {
        found.watchers = image.watchers()?;
    }
    if plan.group && !found.old_format {
        found.group = image.group()?;
    }
    if plan.metadata {
        found.metadata = image.metadata().list()?;
    }
    if plan.snapshots || plan.usage {
        for snapshot in image.snapshots().list()? {
            let at_snapshot = image.at_snapshot(snapshot.id)?;
            let parent = if plan.parent { at_snapshot.parent()? } else { None };
            found.snapshots.push(SurveyedSnapshot {
                id: snapshot.id,
                kind: snapshot.origin.kind(),
                name: snapshot.name,
                size: snapshot.size,
                created: snapshot.created,
                protected: snapshot.protected,
                flags: at_snapshot.flags()?,
                parent,
                used: None,
            });
        }
    }
    if plan.usage {
        fill(&image, &mut found)?;
    }
    image.close()?;
    Ok(found)
}

/// Fills in the values of an image that the OSDs have not answered. Blocks.
pub(super) fn complete(ioctx: &IoCtx, plan: Plan, mut found: SurveyedImage) -> Result<SurveyedImage> {
    let image = ioctx.open_by_id(&found.id).read_only(true).run()?;
    if plan.watchers {
        found.watchers = image.watchers()?;
    }
    if plan.usage && found.used.is_none() {
        fill(&image, &mut found)?;
    }
    image.close()?;
    Ok(found)
}

fn fill(image: &Image, found: &mut SurveyedImage) -> Result<()> {
    let mut before: Option<String> = None;
    for snapshot in found.snapshots.iter_mut().filter(|snapshot| snapshot.kind == SnapshotKind::User) {
        snapshot.used = Some(used(&image.at_snapshot(snapshot.id)?, before.as_deref())?);
        before = Some(snapshot.name.clone());
    }
    found.used = Some(used(image, before.as_deref())?);
    found.usage_source = Some(Source::Librbd);
    Ok(())
}

fn used(image: &Image, before: Option<&str>) -> Result<u64> {
    let mut diff = image.diff().whole_objects(true).include_parent(false).even_if_shrunk();
    if let Some(before) = before {
        diff = diff.from_snapshot(before);
    }
    let mut used = 0;
    for extent in diff.extents()? {
        let extent = extent?;
        used += if extent.exists { extent.len } else { 0 };
    }
    Ok(used)
}
