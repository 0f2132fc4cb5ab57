//! The extents of a diff as an iterator.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::ops::{ControlFlow, Range};

use super::{Diff, Extent};
use crate::error::Result;

/// The number of objects per batch: 64 GiB of an image with objects of 4 MiB.
const BATCH: u64 = 1 << 14;

/// The extents of a diff, in order of offset: see [`Diff::extents`].
#[derive(Debug)]
pub struct DiffExtents<'a> {
    diff: Diff<'a>,
    /// The range that is not fetched yet, in bytes.
    rest: Range<u64>,
    /// The bytes per batch: a multiple of an object set, so that no object is queried twice.
    step: u64,
    ready: VecDeque<Extent>,
}

impl<'a> Diff<'a> {
    /// Returns an iterator over the extents in order of offset. The iterator fetches them in
    /// batches: `next` blocks when a batch is used up. It ends after an error. A missing older
    /// snapshot is an error of the first `next`, not of this call.
    ///
    /// Use this for big images. To stop early, drop the iterator.
    pub fn extents(self) -> Result<DiffExtents<'a>> {
        let object_size = self.image.stat()?.object_size;
        let row = object_size.saturating_mul(self.image.stripe_count()?).max(1);
        let step = (object_size.saturating_mul(BATCH) / row).max(1).saturating_mul(row);
        Ok(DiffExtents { diff: self, rest: self.clamped()?, step, ready: VecDeque::new() })
    }
}

impl DiffExtents<'_> {
    fn fetch(&mut self) -> Result<()> {
        while self.ready.is_empty() && !self.rest.is_empty() {
            let end = (self.rest.start / self.step).saturating_add(1).saturating_mul(self.step);
            let batch = self.rest.start..end.min(self.rest.end);
            let ready = &mut self.ready;
            self.diff.iterate(batch.clone(), &mut |extent| {
                ready.push_back(extent);
                ControlFlow::Continue(())
            })?;
            self.diff.image.check_existence()?;
            self.rest.start = batch.end;
        }
        Ok(())
    }
}

impl Iterator for DiffExtents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        if let Err(error) = self.fetch() {
            self.ready.clear();
            self.rest = 0..0;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl FusedIterator for DiffExtents<'_> {}
