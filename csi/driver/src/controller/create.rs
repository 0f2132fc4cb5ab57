//! Creating volumes.

use rbd::features::Features;
use rbd::{Image, IoCtx};
use tonic::Status;

use super::capacity::or_full;
use super::request::{CreateVolume, Source, Volume};
use super::unfinished::{self, Unfinished};
use super::{Controller, found, place};
use crate::calls;
use crate::ids::{self, VolumeId};
use crate::notes::Note;
use crate::size::check_map;
use crate::status::OrStatus;

/// How often a creation starts again because another controller was quicker.
const ATTEMPTS: usize = 5;

/// The size of an image's objects unless the class sets another.
const OBJECT: u64 = 4 << 20;

/// Sets the options of a class on the builder of a new image, which creates, clones or copies.
macro_rules! as_the_class_says {
    ($new:expr, $class:expr) => {{
        let (class, layout) = (&$class, $class.layout()?);
        let mut new = $new.features(class.features()?);
        if let Some(data_pool) = class.data_pool() {
            new = new.data_pool(data_pool);
        }
        if let Some(size) = layout.object_size {
            new = new.object_size(size);
        }
        if let (Some(unit), Some(count)) = (layout.stripe_unit, layout.stripe_count) {
            new = new.striping(unit, count);
        }
        new
    }};
}
pub(super) use as_the_class_says;

impl Controller {
    /// Creates a volume, or returns the one that an earlier request of this name created.
    pub fn create(&self, request: &CreateVolume) -> Result<Volume, Status> {
        let class = &request.class;
        class.check()?;
        let cluster = class.cluster()?;
        if let Some(source) = &request.source
            && source.volume().place.cluster != cluster
        {
            return Err(Status::invalid_argument(format!(
                "the {source} is in cluster '{}', but the storage class names cluster '{cluster}'; \
                 use a class of the source's cluster",
                source.volume().place.cluster
            )));
        }
        let pool = self.clusters.pool(cluster, class.pool()?, class.namespace(), &request.secrets)?;
        let name = ids::object_name(class.volume_prefix(), &request.name);
        or_full(&pool, self.find_or_make(request, &pool, &name))
    }

    fn find_or_make(&self, request: &CreateVolume, pool: &IoCtx, name: &str) -> Result<Volume, Status> {
        if request.source.is_none()
            && let Some(volume) = self.make_blank(request, pool, name)?
        {
            return Ok(volume);
        }
        for _ in 0..ATTEMPTS {
            // Opened for reading: a handle for writing would count as a user of the complete
            // volume.
            let found_image = found(pool.open(name).read_only(true).run())?;
            let made = match found_image {
                Some(image) if Note::Name.get(&image).or_status()?.is_some() => {
                    return self.answer(request, pool, name, &image);
                }
                Some(_) => false,
                None => match self.make(request, pool, name) {
                    // Another controller was quicker, or an earlier request was interrupted.
                    Err(status) if status.code() == tonic::Code::AlreadyExists => {
                        if found(pool.open(name).read_only(true).run())?.is_none()
                            && !unfinished::free_name(pool, name)?
                        {
                            break;
                        }
                        continue;
                    }
                    made => made.map(|()| true)?,
                },
            };
            let Some(image) = found(pool.open(name).run())? else { continue };
            // The check queries each object of the image. A new image has none.
            let state = if made { Unfinished::Made } else { unfinished::look(request, pool, &image)? };
            match state {
                Unfinished::Made => {}
                Unfinished::Half => {
                    unfinished::remove(pool, name, image)?;
                    continue;
                }
                Unfinished::Foreign => {
                    return Err(other(request, pool, name, "this driver did not make it for this request"));
                }
            }
            self.complete(request, pool, name, &image)?;
            let volume = self.answer(request, pool, name, &image)?;
            image.close().or_status()?;
            return Ok(volume);
        }
        Err(Status::aborted(format!(
            "image '{name}' in pool '{}' is incomplete: another request makes or removes it, or its removal \
             was interrupted; ask again, and if the error stays, remove the image (rbd rm)",
            pool.pool()
        )))
    }

    /// Makes a blank volume. Returns `None` if an image of its name exists. Most requests end here,
    /// so this opens no image.
    fn make_blank(&self, request: &CreateVolume, pool: &IoCtx, name: &str) -> Result<Option<Volume>, Status> {
        match self.make(request, pool, name) {
            Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(None),
            made => made?,
        }
        // Somebody else may have removed it.
        let Some(image) = calls::id(pool, name)? else { return Ok(None) };
        // The mark of a complete image.
        Note::Name.set_unopened(pool, &image, &request.name).or_status()?;
        let id = VolumeId { place: place(request.class.cluster()?, pool), image };
        Ok(Some(Volume { id, image: name.to_owned(), size: request.sizes.choose(0)? }))
    }

    /// Makes the image, of its final size if it is blank.
    fn make(&self, request: &CreateVolume, pool: &IoCtx, name: &str) -> Result<(), Status> {
        if let Some(source) = &request.source {
            return self.clone_source(request, source, pool, name);
        }
        let class = &request.class;
        let (size, features, layout) = (request.sizes.choose(0)?, class.features()?, class.layout()?);
        if features.contains(Features::OBJECT_MAP) {
            check_map(size, layout.object_size.unwrap_or(OBJECT))?;
        }
        as_the_class_says!(pool.create(name, size), class).run().or_status()
    }

    /// Returns a complete volume if it matches the request.
    fn answer(
        &self,
        request: &CreateVolume,
        pool: &IoCtx,
        name: &str,
        image: &Image,
    ) -> Result<Volume, Status> {
        let owner = Note::Name.get(image).or_status()?.unwrap_or_default();
        if owner != request.name {
            return Err(other(request, pool, name, &format!("it was made for a volume '{owner}'")));
        }
        let (theirs, ours) = (Note::Source.get(image).or_status()?.unwrap_or_default(), request.start());
        if theirs != ours {
            let start = |source: &str| {
                if source.is_empty() { "blank".to_owned() } else { format!("from {source}") }
            };
            let why = format!("it was created {}, not {}", start(&theirs), start(&ours));
            return Err(other(request, pool, name, &why));
        }
        let size = image.size().or_status()?;
        if !request.sizes.fit(size) {
            return Err(other(request, pool, name, &format!("it has {size} bytes")));
        }
        let id = image.id().or_status()?;
        if request.source.is_some() && image.ancestors().or_status()?.len() >= self.options.flatten_depth {
            self.background.flatten(pool, &id);
        }
        let place = place(request.class.cluster()?, pool);
        Ok(Volume { id: VolumeId { place, image: id }, image: name.to_owned(), size })
    }

    /// Completes an image without that mark, if an earlier attempt at this request made it.
    fn complete(
        &self,
        request: &CreateVolume,
        pool: &IoCtx,
        name: &str,
        image: &Image,
    ) -> Result<(), Status> {
        if matches!(request.source, Some(Source::Snapshot(_))) {
            unfinished::end_rename(pool, name, image)?;
        }
        let mut size = image.size().or_status()?;
        if request.source.is_some() && size < request.sizes.choose(size)? {
            size = request.sizes.choose(size)?;
            check_growth(image, size)?;
            image.resize(size).run().or_status()?;
        }
        if let Some(source @ Source::Volume(_)) = &request.source {
            self.end_clone(source, name, &request.secrets)?;
        }
        if !request.sizes.fit(size) {
            return Err(other(request, pool, name, &format!("it has {size} bytes")));
        }
        if request.source.is_some() {
            Note::Source.set(image, &request.start()).or_status()?;
        }
        // Written last: it marks the image as complete.
        Note::Name.set(image, &request.name).or_status()
    }
}

/// Refuses a size that the object map of an image cannot describe.
pub(super) fn check_growth(image: &Image, size: u64) -> Result<(), Status> {
    if image.features().or_status()?.contains(Features::OBJECT_MAP) {
        check_map(size, image.stat().or_status()?.object_size)?;
    }
    Ok(())
}

fn other(request: &CreateVolume, pool: &IoCtx, name: &str, why: &str) -> Status {
    Status::already_exists(format!(
        "volume '{}' exists as image '{name}' in pool '{}', but {why}; choose another name",
        request.name,
        pool.pool()
    ))
}
