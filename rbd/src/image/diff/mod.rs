//! Differences between two versions of an image, and extents that hold data.

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

/// A range of an image that may have changed. It can cover unchanged bytes and holes, because OSDs
/// track extents or, with [`Diff::whole_objects`], objects. A diff misses no change, except as
/// [`Diff::whole_objects`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Extent {
    /// The offset of the first byte in the image.
    pub offset: u64,
    /// The length in bytes.
    pub len: u64,
    /// Whether the range holds data now. If not, it reads as zeros.
    pub exists: bool,
}

impl Extent {
    /// Returns the offset of the first byte after the extent.
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Lists the differences between two versions of an image: see [`Image::diff`].
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing happens until `extents`, `collect` or `for_each`"]
pub struct Diff<'a> {
    image: &'a Image,
    from: Option<SnapshotRef<'a>>,
    offset: u64,
    len: u64,
    whole_objects: bool,
    include_parent: bool,
    even_if_shrunk: bool,
}

impl Image {
    /// Lists the changes between an older snapshot and this handle's version: the current image, or
    /// the snapshot that the handle is opened at. Without an older snapshot, lists the extents that
    /// hold data.
    ///
    /// A diff does not report bytes beyond the end of this handle's version. If the image was
    /// bigger at the older snapshot, compare the sizes. A diff of an image that is being written is
    /// inconsistent; a diff at a snapshot is exact.
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
        Diff {
            image: self,
            from: None,
            offset: 0,
            len: u64::MAX,
            whole_objects: false,
            include_parent: true,
            even_if_shrunk: false,
        }
    }
}

impl<'a> Diff<'a> {
    /// Sets the older snapshot, given by its name, or by its id (Ceph 18.2 or later). Default:
    /// none.
    pub fn from_snapshot(mut self, snapshot: impl Into<SnapshotRef<'a>>) -> Self {
        self.from = Some(snapshot.into());
        self
    }

    /// Limits the diff to a range of bytes, which is truncated at the end of the image. Default:
    /// the whole image.
    pub fn range(mut self, offset: u64, len: u64) -> Self {
        (self.offset, self.len) = (offset, len);
        self
    }

    /// Sets whether extents may cover whole objects instead of the changed bytes. Default: off.
    ///
    /// Only such a diff can use fast-diff, which does not query the objects: see
    /// [`fast_diff`](Self::fast_diff). If fast-diff would miss changes, as with encryption loaded
    /// or after a shrink, the diff queries the objects, and its extents are exact. The last extent
    /// ends at the end of the image at the latest.
    ///
    /// To get the changed bytes and yet query only the objects that have changed, make a second
    /// diff for each extent, without this switch, with [`range`](Self::range).
    ///
    /// **After a rollback by another program**, the object map lacks the changes of the rollback,
    /// and no flag shows this. [Rebuild](crate::image::ObjectMap::rebuild) the image's map before
    /// the next snapshot. [`Snapshots::rollback`](crate::snapshot::Snapshots::rollback) rebuilds
    /// it.
    pub fn whole_objects(mut self, whole_objects: bool) -> Self {
        self.whole_objects = whole_objects;
        self
    }

    /// Sets whether a diff without an older snapshot includes data that a clone still reads from
    /// its parent. Default: on.
    pub fn include_parent(mut self, include_parent: bool) -> Self {
        self.include_parent = include_parent;
        self
    }

    /// Keeps to whole objects after a shrink, as `rbd du` does. Such a diff can miss holes.
    pub(crate) fn even_if_shrunk(mut self) -> Self {
        self.even_if_shrunk = true;
        self
    }

    /// Calls back with each extent, in order of offset. A break ends the call with
    /// [`ErrorKind::Stopped`]. Blocks; without fast-diff it takes as long as querying every object.
    ///
    /// The callback runs on this thread, in batches of extents. It may block, and may make any
    /// call, also on this image.
    pub fn for_each(self, mut callback: impl FnMut(Extent) -> ControlFlow<()> + Send) -> Result<()> {
        let range = self.clamped()?;
        self.iterate(range, &mut callback)?;
        self.image.check_existence()
    }

    /// Collects all extents, in order of offset. Blocks as [`for_each`](Self::for_each) does.
    pub fn collect(self) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        self.for_each(|extent| {
            extents.push(extent);
            ControlFlow::Continue(())
        })?;
        Ok(extents)
    }

    /// Returns the part of the range within the image. librbd would refuse or overrun a longer one.
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
        let operation = if self.from.is_some() { "list the changes since" } else { "list the data of" };
        let object = || self.object();
        let from = match self.from {
            None => From::Nothing,
            Some(SnapshotRef::Id(id)) => From::Id(id),
            Some(SnapshotRef::Name(text)) => From::Name(c_string(operation, object, text)?),
        };
        // librbd uses the object maps for whole objects only.
        let whole_objects = self.whole_objects
            && !self.image.is_encrypted()
            && (self.even_if_shrunk || self.shrunk()?.is_none());
        let spec = DiffSpec {
            from,
            offset: range.start,
            len: range.end - range.start,
            include_parent: self.include_parent,
            whole_objects,
        };
        let raw = self.image.raw.share();
        let call = move |found: &mut (dyn FnMut(Extent) -> ControlFlow<()> + Send)| {
            raw.diff(&spec, &mut |offset, len, exists| found(Extent { offset, len, exists }))
        };
        self.image.ioctx.cluster().bounded_finding(operation, object, callback, call).map_err(|error| match (
            error.errno(),
            self.from,
        ) {
            // librbd returns this if the older snapshot is not older.
            (Some(crate::Errno::EINVAL), Some(_)) => error.with_kind(ErrorKind::InvalidInput).with_detail(
                "the starting snapshot is not older than the version that it is compared with; swap them",
            ),
            _ => error,
        })
    }

    /// Returns the older snapshot, if any: it is the object that can be missing.
    fn object(&self) -> crate::error::Object {
        match self.from {
            Some(snapshot) => snapshot.object(self.image.spec()),
            None => self.image.object(),
        }
    }
}
