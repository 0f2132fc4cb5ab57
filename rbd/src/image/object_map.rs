//! The object map of an image: rebuilding and checking it.

use std::collections::BTreeSet;

use super::Image;
use super::diff::{Extent, FastDiff};
use crate::error::Result;
use crate::features::Features;
use crate::progress::LongOperation;

/// An object for which the object map is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ObjectMapFault {
    /// The object's number, as in its name.
    pub object: u64,
    /// Whether the object exists. If so, the map lacks it, and librbd reads zeros instead of its
    /// data. If not, the map lists a missing object, which only costs a useless look-up.
    pub exists: bool,
}

/// The object map of an image: see [`Image::object_map`].
#[derive(Debug, Clone, Copy)]
pub struct ObjectMap<'a>(&'a Image);

impl Image {
    /// Returns the group of calls that rebuild and check the object map of the image, or of the
    /// snapshot that it is opened at.
    pub fn object_map(&self) -> ObjectMap<'_> {
        ObjectMap(self)
    }
}

impl<'a> ObjectMap<'a> {
    /// Rebuilds the object map: queries every object, writes a new map, and clears the
    /// [flags](Image::flags) of an invalid map.
    ///
    /// The image's map keeps missing objects that it lists, because a client may be writing them;
    /// this costs little. Each snapshot has its own map. To rebuild it, open the image at the
    /// snapshot, without `read_only`. Refused if the feature object-map is off.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// ioctx.open("foo").run()?.object_map().rebuild().run()?;
    /// ioctx.open("foo").snapshot("yesterday").run()?.object_map().rebuild().run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_rebuild_object_map`.
    #[doc(alias = "rbd_rebuild_object_map")]
    pub fn rebuild(&self) -> LongOperation<'a> {
        let image = self.0;
        LongOperation::new(move |progress| {
            let operation = "rebuild the object map of";
            if !image.features()?.contains(Features::OBJECT_MAP) {
                return Err(image.refuse(operation, "the feature object-map is off; enable it first"));
            }
            image.bounded_long(
                operation,
                || image.object(),
                progress,
                |raw, progress| raw.rebuild_object_map(progress),
            )
        })
    }

    /// Compares the object map with the objects of the image, or of the snapshot that it is opened
    /// at. Returns an empty list if the map is correct. Queries every object, so it takes long.
    ///
    /// The C interface has no such check: this one compares fast-diff with a diff that queries the
    /// OSDs. It can report false faults if a client writes meanwhile. Refused if fast-diff [cannot
    /// be used](crate::diff::Diff::fast_diff).
    pub fn check(&self) -> Result<Vec<ObjectMapFault>> {
        let stored;
        let image = if self.0.is_encrypted() {
            // Objects contain the encrypted data and the header.
            self.0.flush_for_listing()?;
            stored = self.0.as_stored()?;
            &stored
        } else {
            self.0
        };
        let diff = image.diff().include_parent(false);
        let map = diff.whole_objects(true);
        if let Some(why) = unusable(map.fast_diff()?) {
            return Err(image.refuse("check the object map of", why));
        }
        let (mapped, found) = (image.objects(&map.collect()?)?, image.objects(&diff.collect()?)?);
        let fault = |object: &u64| ObjectMapFault { object: *object, exists: found.contains(object) };
        Ok(mapped.symmetric_difference(&found).map(fault).collect())
    }
}

/// Returns why the maps cannot be used, and what to do next; `None` if they can.
fn unusable(fast: FastDiff) -> Option<String> {
    match fast {
        FastDiff::Usable => None,
        FastDiff::FeatureOff { image } => {
            Some(format!("the feature fast-diff of '{image}' is off; enable it first"))
        }
        FastDiff::Invalid { version } => {
            Some(format!("the object map of '{version}' is invalid; rebuild it first"))
        }
        FastDiff::NotWholeObject | FastDiff::Encrypted { .. } | FastDiff::Shrunk { .. } => {
            Some("a diff cannot use the object maps".to_owned())
        }
    }
}

impl Image {
    /// Flushes, so that another handle that lists objects sees written data.
    fn flush_for_listing(&self) -> Result<()> {
        if self.is_read_only() { Ok(()) } else { self.flush() }
    }

    /// Returns the objects that hold these extents.
    fn objects(&self, extents: &[Extent]) -> Result<BTreeSet<u64>> {
        let (unit, count) = (self.stripe_unit()?.max(1), self.stripe_count()?.max(1));
        let units_per_object = (self.stat()?.object_size / unit).max(1);
        let mut objects = BTreeSet::new();
        for extent in extents.iter().filter(|extent| extent.exists && extent.len > 0) {
            for stripe_unit in extent.offset / unit..=(extent.end() - 1) / unit {
                let (row, column) = (stripe_unit / count, stripe_unit % count);
                objects.insert(row / units_per_object * count + column);
            }
        }
        Ok(objects)
    }
}
