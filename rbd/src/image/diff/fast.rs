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
    /// It is not: the image (or the parent, where the parent is included) has the feature fast-diff
    /// turned off.
    FeatureOff {
        /// `rbd/foo`.
        image: String,
    },
    /// It is not: the handle has encryption loaded, and the maps count the objects of what is
    /// stored.
    Encrypted {
        /// `rbd/foo`.
        image: String,
    },
    /// It is not: the image was smaller at a snapshot in between, and librbd forgets what it lost
    /// then.
    Shrunk {
        /// The snapshot at which it was smaller: `rbd/foo@snap`; or the image, where that is
        /// smaller now.
        version: String,
    },
    /// It is not: a map between the two versions cannot be trusted and must be
    /// [rebuilt](crate::image::ObjectMap::rebuild).
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
    /// Whether this diff can be answered from the object maps. librbd never says: where it cannot
    /// use them it falls back to asking for every object, in silence, and takes minutes instead of
    /// milliseconds.
    ///
    /// The features and flags of the image are looked at, and those of every snapshot in between;
    /// of the parent too, as far as the diff includes it. It holds for the moment: a flag may be
    /// set at any time.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let diff = image.diff().from_snapshot("yesterday").whole_object(true);
    /// match diff.fast_diff()? {
    ///     rbd::diff::FastDiff::Usable => {}
    ///     slow => eprintln!("this will take long: {slow:?}"),
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn fast_diff(&self) -> Result<FastDiff> {
        if !self.whole_object {
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
                image.open_parent(&parent)?.diff().whole_object(true).fast_diff()
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

    /// The first version after the older snapshot that is smaller than the one before it.
    ///
    /// librbd goes through the maps of all versions, and cuts what it has found out to the size of
    /// each: what is beyond it, and is a hole in a later version that is bigger again, is not
    /// reported.
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
    /// Looks at every version from a snapshot (or from the first one) up to what this handle shows.
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
