//! Whether a diff can use fast-diff.

use super::Diff;
use crate::error::Result;
use crate::features::{Features, Flags};
use crate::image::Image;
use crate::image::snapshot::SnapshotRef;

/// Whether a diff is answered from the object maps, at once, or by asking for every object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FastDiff {
    /// It is.
    Usable,
    /// It is not: only diffs of [whole objects](Diff::whole_object) are.
    NotWholeObject,
    /// It is not: the image (or the parent, where the parent is included) has the feature fast-diff turned off.
    FeatureOff {
        /// `rbd/foo`.
        image: String,
    },
    /// It is not: a map between the two versions cannot be trusted and must be [rebuilt](crate::image::ObjectMap::rebuild).
    Invalid {
        /// The version with that map: `rbd/foo`, or `rbd/foo@snap`.
        version: String,
    },
}

impl FastDiff {
    /// Whether the object maps suffice.
    pub fn is_usable(&self) -> bool {
        *self == FastDiff::Usable
    }
}

impl Diff<'_> {
    /// Whether this diff can be answered from the object maps. librbd never says: where it cannot use them it falls back to
    /// asking for every object, in silence, and takes minutes instead of milliseconds.
    ///
    /// The features and flags of the image are looked at, and those of every snapshot in between; of the parent too, as far
    /// as the diff includes it. It holds for the moment: a flag may be set at any time.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let diff = image.diff().from_snapshot("yesterday").whole_object(true);
    /// match diff.fast_diff()? {
    ///     rbd::FastDiff::Usable => {}
    ///     slow => eprintln!("this will take long: {slow:?}"),
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn fast_diff(&self) -> Result<FastDiff> {
        if !self.whole_object {
            return Ok(FastDiff::NotWholeObject);
        }
        let Diff { image, from, .. } = *self;
        let from = match from {
            None => None,
            Some(SnapshotRef::Id(id)) => Some(id),
            Some(SnapshotRef::Name(name)) => Some(image.snapshots().id(name)?),
        };
        let own = image.fast_diff_since(from)?;
        if !own.is_usable() || from.is_some() || !self.include_parent {
            return Ok(own);
        }
        match image.parent()? {
            Some(parent) if parent.overlap > 0 => {
                image.open_parent(&parent)?.diff().whole_object(true).fast_diff()
            }
            _ => Ok(FastDiff::Usable),
        }
    }
}

impl Image {
    /// Looks at every version from a snapshot (or from the first one) up to what this handle shows.
    fn fast_diff_since(&self, from: Option<u64>) -> Result<FastDiff> {
        if !self.features()?.contains(Features::FAST_DIFF) {
            return Ok(FastDiff::FeatureOff { image: self.spec().to_owned() });
        }
        let bad = |flags: Flags| flags.intersects(Flags::FAST_DIFF_INVALID | Flags::OBJECT_MAP_INVALID);
        if bad(self.flags()?) {
            return Ok(FastDiff::Invalid { version: self.object().name });
        }
        let snapshots = self.call("list the snapshots of", |raw| raw.snapshots())?;
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
