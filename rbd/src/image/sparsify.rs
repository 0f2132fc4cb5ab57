//! Sparsifying: freeing the space of zeros.

use super::Image;
use crate::error::Result;
use crate::progress::LongOperation;

impl Image {
    /// Frees the space of runs of zeros of `sparse_size` bytes: a power of two from 4 KiB to the
    /// object size. Reads every object.
    ///
    /// Implements: `rbd_sparsify_with_progress`.
    #[doc(alias = "rbd_sparsify")]
    #[doc(alias = "rbd_sparsify_with_progress")]
    pub fn sparsify(&self, sparse_size: u64) -> LongOperation<'_> {
        LongOperation::new(move |progress| {
            self.check_sparse_size("sparsify", sparse_size)?;
            self.bounded_long(
                "sparsify",
                || self.object(),
                progress,
                move |raw, progress| raw.sparsify(sparse_size as usize, progress),
            )
        })
    }

    pub(crate) fn check_sparse_size(&self, operation: &'static str, bytes: u64) -> Result<()> {
        let object_size = self.stat()?.object_size;
        if bytes.is_power_of_two() && (4096..=object_size).contains(&bytes) {
            return Ok(());
        }
        let why = format!(
            "a sparse size of {bytes} bytes is not a power of two from 4096 to its object size of \
             {object_size}"
        );
        Err(self.refuse(operation, why))
    }
}
