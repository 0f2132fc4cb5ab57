//! Upkeep: giving back zeros, and rebuilding the object map.

use super::Image;
use crate::error::Result;
use crate::features::Features;
use crate::progress::LongOperation;

impl Image {
    /// Gives back the space of runs of zeros of `sparse_size` bytes: a power of two from 4 KiB to the object size. Reads every
    /// object.
    ///
    /// Implements: `rbd_sparsify_with_progress`.
    #[doc(alias = "rbd_sparsify")]
    #[doc(alias = "rbd_sparsify_with_progress")]
    pub fn sparsify(&self, sparse_size: u64) -> LongOperation<'_> {
        LongOperation::new(move |progress| {
            self.check_sparse_size("sparsify", sparse_size)?;
            self.call("sparsify", |raw| raw.sparsify(sparse_size as usize, progress))
        })
    }

    /// Looks at every object and writes the object map anew, and takes the [flags](Self::flags) of an invalid map away.
    ///
    /// Each snapshot has a map of its own: for that, open the image at the snapshot, not read-only. Refused where the feature
    /// object-map is off.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// ioctx.open("foo").run()?.rebuild_object_map().run()?;
    /// ioctx.open("foo").snapshot("yesterday").run()?.rebuild_object_map().run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_rebuild_object_map`.
    #[doc(alias = "rbd_rebuild_object_map")]
    pub fn rebuild_object_map(&self) -> LongOperation<'_> {
        LongOperation::new(|progress| {
            let operation = "rebuild the object map of";
            if !self.features()?.contains(Features::OBJECT_MAP) {
                return Err(self.refuse(operation, "the feature object-map is off; enable it first"));
            }
            self.call(operation, |raw| raw.rebuild_object_map(progress))
        })
    }

    pub(crate) fn check_sparse_size(&self, operation: &'static str, bytes: u64) -> Result<()> {
        let object_size = self.stat()?.object_size;
        if bytes.is_power_of_two() && (4096..=object_size).contains(&bytes) {
            return Ok(());
        }
        let why = format!(
            "a sparse size of {bytes} bytes is not a power of two from 4096 to its object size of {object_size}"
        );
        Err(self.refuse(operation, why))
    }
}
