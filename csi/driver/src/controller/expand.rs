//! Growing volumes.

use tonic::Status;

use super::capacity::or_full;
use super::create::check_growth;
use super::{Controller, open};
use crate::clusters::Secrets;
use crate::ids::VolumeId;
use crate::size::Sizes;
use crate::status::OrStatus;

impl Controller {
    /// Grows a volume, and returns its size in bytes. A volume that is large enough stays as it is.
    pub fn expand(&self, id: &VolumeId, sizes: Sizes, secrets: &Secrets) -> Result<u64, Status> {
        let pool = self.clusters.place(&id.place, secrets)?;
        let image = open(&pool, id, false)?;
        let size = image.size().or_status()?;
        // Never smaller than it is.
        let wanted = sizes.choose(size)?;
        if wanted > size {
            check_growth(&image, wanted)?;
            or_full(&pool, image.resize(wanted).run().or_status())?;
        }
        image.close().or_status()?;
        Ok(wanted.max(size))
    }
}
