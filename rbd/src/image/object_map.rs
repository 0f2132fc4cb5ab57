//! The object map: rebuilt, and compared with the objects.

use std::collections::BTreeSet;

use super::Image;
use super::diff::Extent;
use crate::error::Result;
use crate::features::Features;
use crate::progress::LongOperation;

/// An object about which the object map is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ObjectMapFault {
    /// The number of the object, as in its name.
    pub object: u64,
    /// Whether it is there. If so, the map has it not, and librbd reads zeros where there is data;
    /// otherwise the map costs a look-up in vain.
    pub exists: bool,
}

/// The object map of an image: see [`Image::object_map`].
#[derive(Debug, Clone, Copy)]
pub struct ObjectMap<'a>(&'a Image);

impl Image {
    /// Rebuilds and checks the object map, of the image or of the snapshot that it is opened at.
    pub fn object_map(&self) -> ObjectMap<'_> {
        ObjectMap(self)
    }
}

impl<'a> ObjectMap<'a> {
    /// Looks at every object, writes a new object map, and clears the [flags](Image::flags) of an
    /// invalid map.
    ///
    /// In the map of the image itself an object that is gone stays, as somebody might just be
    /// writing it; that costs little. Each snapshot has a map of its own: for that, open the image
    /// at the snapshot, not read-only. Refused where the feature object-map is off.
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
    pub fn rebuild(self) -> LongOperation<'a> {
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

    /// Compares the object map with the objects, of the image or of the snapshot that it is opened
    /// at. Empty, where the map is right. Asks for every object, so it takes long.
    ///
    /// The C interface has no such check; this one compares the answer of fast-diff with that of a
    /// diff that asks the OSDs. Where somebody writes meanwhile, it can find faults that are none.
    /// Refused where fast-diff [cannot be used](crate::diff::Diff::fast_diff).
    pub fn check(self) -> Result<Vec<ObjectMapFault>> {
        let stored;
        let image = if self.0.is_encrypted() {
            // Objects hold what is stored, header included.
            self.0.flush_for_listing()?;
            stored = self.0.as_stored()?;
            &stored
        } else {
            self.0
        };
        let diff = image.diff().include_parent(false);
        let map = diff.whole_object(true);
        let fast = map.fast_diff()?;
        if !fast.is_usable() {
            let why = format!("its maps cannot be read: {fast:?}; enable fast-diff, or rebuild the maps");
            return Err(image.refuse("check the object map of", why));
        }
        let (mapped, found) = (image.objects(&map.collect()?)?, image.objects(&diff.collect()?)?);
        let fault = |object: &u64| ObjectMapFault { object: *object, exists: found.contains(object) };
        Ok(mapped.symmetric_difference(&found).map(fault).collect())
    }
}

impl Image {
    /// Makes written data visible to another handle that lists objects.
    fn flush_for_listing(&self) -> Result<()> {
        if self.is_read_only() { Ok(()) } else { self.flush() }
    }

    /// The objects that hold these extents.
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
