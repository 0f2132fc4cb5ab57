//! Errors about pools that were deleted.

use super::{Error, ErrorKind, ObjectKind};

impl Error {
    /// The pool that it happened in was deleted under its handle.
    pub(crate) fn pool_deleted(self, pool: &str, id: i64) -> Error {
        self.with_kind(ErrorKind::NotFound { what: ObjectKind::Pool }).with_detail(format!(
            "the pool '{pool}' (id {id}) was deleted; close its images, and open the pool again if \
             a new one has its name"
        ))
    }

    /// The pool that holds the data of the image was deleted.
    pub(crate) fn data_pool_deleted(self, id: i64) -> Error {
        self.with_kind(ErrorKind::NotFound { what: ObjectKind::DataPool }).with_detail(format!(
            "the pool with its data (id {id}) was deleted, and the data is lost; close the image, and \
             restore it from a backup"
        ))
    }
}
