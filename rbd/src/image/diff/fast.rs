//! The check whether a diff can use fast-diff.

use super::Diff;
use crate::error::Result;
use crate::features::{Features, Flags};
use crate::image::Image;
use crate::image::snapshot::SnapshotRef;

/// Whether librbd answers a diff from the object maps, which is fast, or by querying every object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastDiff {
    /// librbd uses the object maps.
    Usable,
    /// librbd queries every object, because the diff is not one of [whole
    /// objects](Diff::whole_objects).
    NotWholeObject,
    /// librbd queries every object, because the image (or its included parent) lacks the feature
    /// fast-diff.
    FeatureOff {
        /// The image without the feature: `rbd/foo`.
        image: String,
    },
    /// librbd queries every object, because the handle has encryption loaded and the maps describe
    /// the encrypted objects.
    Encrypted {
        /// The image: `rbd/foo`.
        image: String,
    },
    /// librbd queries every object, because the image was smaller at a snapshot in between, and the
    /// maps would miss what the shrink removed.
    Shrunk {
        /// The snapshot at which the image was smaller, `rbd/foo@snap`, or the image if it is
        /// smaller now.
        version: String,
    },
    /// librbd queries every object, because a map between the two versions is invalid and must be
    /// [rebuilt](crate::image::ObjectMap::rebuild).
    Invalid {
        /// The version with that map: `rbd/foo`, or `rbd/foo@snap`.
        version: String,
    },
}

impl FastDiff {
    /// Returns whether the diff can use the object maps.
    pub fn is_usable(&self) -> bool {
        *self == FastDiff::Usable
    }
}

impl Diff<'_> {
    /// Returns whether librbd can answer this diff from the object maps. If it cannot, it silently
    /// queries every object, which takes minutes instead of milliseconds.
    ///
    /// Checks the features and flags of the image, of every snapshot in between, and of the parent
    /// if the diff includes it. The answer can change later: a flag may be set at any time.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let diff = image.diff().from_snapshot("yesterday").whole_objects(true);
    /// match diff.fast_diff()? {
    ///     rbd::diff::FastDiff::Usable => {}
    ///     slow => eprintln!("this will take long: {slow:?}"),
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn fast_diff(&self) -> Result<FastDiff> {
        if !self.whole_objects {
            return Ok(FastDiff::NotWholeObject);
        }
        let image = self.image;
        if image.is_encrypted() {
            return Ok(FastDiff::Encrypted { image: image.spec().to_owned() });
        }
        let from = self.older_id()?;
        if let Some(version) = self.shrunk()? {
            return Ok(FastDiff::Shrunk { version });
        }
        let own = image.fast_diff_since(from)?;
        if !own.is_usable() || from.is_some() || !self.include_parent {
            return Ok(own);
        }
        match image.parent()? {
            Some(parent) if parent.overlap > 0 => {
                image.open_parent(&parent)?.diff().whole_objects(true).fast_diff()
            }
            _ => Ok(FastDiff::Usable),
        }
    }
}

impl Diff<'_> {
    fn older_id(&self) -> Result<Option<u64>> {
        match self.from {
            None => Ok(None),
            Some(SnapshotRef::Id(id)) => Ok(Some(id)),
            Some(SnapshotRef::Name(name)) => self.image.snapshots().id(name).map(Some),
        }
    }

    /// Returns the first version after the older snapshot that is smaller than its predecessor.
    ///
    /// librbd walks the maps of all versions and truncates its result to the size of each. It then
    /// does not report ranges beyond that size that are holes in a later, bigger version.
    pub(super) fn shrunk(&self) -> Result<Option<String>> {
        let (Some(from), image) = (self.older_id()?, self.image) else { return Ok(None) };
        let mut snapshots = image.bounded("list the snapshots of", move |raw| raw.snapshots())?;
        snapshots.sort_unstable_by_key(|snapshot| snapshot.id);
        let own = image.snapshot().and_then(|name| snapshots.iter().find(|other| other.name == name));
        let end = own.map_or(u64::MAX, |own| own.id);
        let mut size = 0;
        for snapshot in snapshots.iter().filter(|snapshot| (from..end).contains(&snapshot.id)) {
            if snapshot.size < size {
                return Ok(Some(SnapshotRef::Name(&snapshot.name).object(image.spec()).name));
            }
            size = snapshot.size;
        }
        Ok((image.size()? < size).then(|| image.object().name))
    }
}

impl Image {
    /// Checks every version from a snapshot (or from the first one) up to the one that this handle
    /// shows.
    fn fast_diff_since(&self, from: Option<u64>) -> Result<FastDiff> {
        if !self.features()?.contains(Features::FAST_DIFF) {
            return Ok(FastDiff::FeatureOff { image: self.spec().to_owned() });
        }
        let bad = |flags: Flags| flags.intersects(Flags::FAST_DIFF_INVALID | Flags::OBJECT_MAP_INVALID);
        if bad(self.flags()?) {
            return Ok(FastDiff::Invalid { version: self.object().name });
        }
        let snapshots = self.bounded("list the snapshots of", move |raw| raw.snapshots())?;
        let own = self.snapshot().and_then(|name| snapshots.iter().find(|other| other.name == name));
        let end = own.map(|own| own.id);
        for snapshot in snapshots {
            if snapshot.id < from.unwrap_or(0) || end.is_some_and(|end| snapshot.id >= end) {
                continue;
            }
            let version = self.at_snapshot(snapshot.id)?;
            if bad(version.flags()?) {
                return Ok(FastDiff::Invalid { version: version.object().name });
            }
        }
        Ok(FastDiff::Usable)
    }
}
