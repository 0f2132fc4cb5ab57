//! What changed in an image, and where it holds data at all.

mod extents;
mod fast;

use std::ops::{ControlFlow, Range};

use super::Image;
use super::snapshot::SnapshotRef;
use crate::error::{ErrorKind, Result};
use crate::names::c_string;
use crate::raw::image::diff::{DiffSpec, From};

pub use extents::DiffExtents;
pub use fast::FastDiff;

/// A range of an image that may have changed: it can cover unchanged bytes and holes, as the OSDs
/// keep track of extents or, with [`Diff::whole_object`], of objects; it never misses a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Extent {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Whether there is data now. If not, it reads as zeros.
    pub exists: bool,
}

impl Extent {
    /// The offset of the first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Asks for the differences between two versions of an image: see [`Image::diff`].
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing happens until `extents`, `collect` or `for_each`"]
pub struct Diff<'a> {
    image: &'a Image,
    from: Option<SnapshotRef<'a>>,
    offset: u64,
    len: u64,
    whole_object: bool,
    include_parent: bool,
}

impl Image {
    /// What changed between an older snapshot and what this handle shows: the image as it is, or
    /// the snapshot that it is opened at. Without an older snapshot: where it holds data.
    ///
    /// Bytes behind the end of what this handle shows are not reported: where the image was bigger
    /// at the older snapshot, compare the sizes. While an image is being written, a diff of it is a
    /// mixture; one at a snapshot is exact.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// let today = image.at_snapshot("today")?;
    /// for extent in today.diff().from_snapshot("yesterday").extents()? {
    ///     let extent = extent?;
    ///     println!("{} bytes at {}", extent.len, extent.offset);
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_diff_iterate2`, `rbd_diff_iterate3` (Ceph 18.2).
    #[doc(alias = "rbd_diff_iterate")]
    #[doc(alias = "rbd_diff_iterate2")]
    #[doc(alias = "rbd_diff_iterate3")]
    pub fn diff(&self) -> Diff<'_> {
        Diff { image: self, from: None, offset: 0, len: u64::MAX, whole_object: false, include_parent: true }
    }
}

impl<'a> Diff<'a> {
    /// Since this snapshot, given by its name, or by its id (which needs Ceph 18.2).
    pub fn from_snapshot(mut self, snapshot: impl Into<SnapshotRef<'a>>) -> Self {
        self.from = Some(snapshot.into());
        self
    }

    /// Only within this range of bytes; what of it lies behind the end of the image is cut off.
    /// Default: everything.
    pub fn range(mut self, offset: u64, len: u64) -> Self {
        (self.offset, self.len) = (offset, len);
        self
    }

    /// Sets whether an extent may tell that something in its object changed, and not what. Default:
    /// off.
    ///
    /// That is what fast-diff can answer without looking at the objects: see
    /// [`fast_diff`](Self::fast_diff). Where fast-diff would miss changes, as with encryption
    /// loaded or after a shrink, the objects are asked, and extents are exact.
    ///
    /// **After a rollback by another program** the object map does not tell what the rollback
    /// changed, and nothing shows it: [rebuild](crate::image::ObjectMap::rebuild) the map of the
    /// image before the next snapshot.
    /// [`Snapshots::rollback`](crate::snapshot::Snapshots::rollback) does that by itself.
    pub fn whole_object(mut self, whole: bool) -> Self {
        self.whole_object = whole;
        self
    }

    /// Without an older snapshot: whether a clone's data that still comes from its parent is
    /// reported too. Default: on, as all that can be read.
    pub fn include_parent(mut self, include: bool) -> Self {
        self.include_parent = include;
        self
    }

    /// Calls back with each extent, in order of offset. A break ends it with
    /// [`ErrorKind::Stopped`]. Blocks; without fast-diff for as long as it takes to ask for every
    /// object.
    ///
    /// The callback may run on a thread of Ceph's: it must not wait for other operations on this
    /// image.
    pub fn for_each(self, mut callback: impl FnMut(Extent) -> ControlFlow<()> + Send) -> Result<()> {
        let range = self.clamped()?;
        self.iterate(range, &mut callback)
    }

    /// All extents, in order of offset. Blocks as [`for_each`](Self::for_each) does.
    pub fn collect(self) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        self.for_each(|extent| {
            extents.push(extent);
            ControlFlow::Continue(())
        })?;
        Ok(extents)
    }

    /// The range, as far as it lies within what the handle shows. librbd would refuse or overrun
    /// it.
    fn clamped(&self) -> Result<Range<u64>> {
        let size = self.image.size()?;
        Ok(self.offset.min(size)..self.offset.saturating_add(self.len).min(size))
    }

    fn iterate(
        &self,
        range: Range<u64>,
        callback: &mut (impl FnMut(Extent) -> ControlFlow<()> + Send),
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (operation, object) = ("list the changes of", || self.object());
        let from = match self.from {
            None => From::Nothing,
            Some(SnapshotRef::Id(id)) => From::Id(id),
            Some(SnapshotRef::Name(text)) => From::Name(c_string(operation, object, text)?),
        };
        // librbd uses the object maps for whole objects only.
        let whole_object = self.whole_object && !self.image.is_encrypted() && self.shrunk()?.is_none();
        let spec = DiffSpec {
            from,
            offset: range.start,
            len: range.end - range.start,
            include_parent: self.include_parent,
            whole_object,
        };
        let raw = self.image.raw.share();
        let call = move |found: &mut (dyn FnMut(Extent) -> ControlFlow<()> + Send)| {
            raw.diff(&spec, &mut |offset, len, exists| found(Extent { offset, len, exists }))
        };
        self.image.ioctx.cluster().bounded_finding(operation, object, callback, call).map_err(|error| match (
            error.errno(),
            self.from,
        ) {
            // librbd says so when the older snapshot is not older.
            (Some(crate::Errno::EINVAL), Some(_)) => error
                .with_kind(ErrorKind::InvalidInput)
                .with_detail("the snapshot to start from is not older than what is compared with it"),
            _ => error,
        })
    }

    /// The older snapshot, where there is one: it is what can be missing.
    fn object(&self) -> crate::error::Object {
        match self.from {
            Some(snapshot) => snapshot.object(self.image.spec()),
            None => self.image.object(),
        }
    }
}
