//! The reasons why the cluster refuses what is done to an image, for errors.

use super::Image;
use super::check::explain_cause;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::holder::Holder;

impl Image {
    /// Adds the client that keeps the exclusive lock, or that the image's pool or its data pool was
    /// deleted.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.errno() == Some(Errno::EROFS) {
            if let Some(cause) = self.cause() {
                return explain_cause(self.label(), error, cause);
            }
        }
        let data = self.raw().data_pool_id().unwrap_or(-1);
        match self.ioctx.deleted_pool(&error, data) {
            None => error,
            Some(id) if id == self.ioctx.pool_id() => error.pool_deleted(self.ioctx.pool(), id),
            Some(id) => error.data_pool_deleted(id),
        }
    }

    /// Adds the clients that have the image open to an error that they cause.
    pub(crate) fn with_watchers(&self, error: Error) -> Error {
        let Ok(watchers) = self.watchers() else { return error };
        error.with_kind(ErrorKind::Busy { holders: watchers.into_iter().map(Holder::Watcher).collect() })
    }

    /// Adds the image's group to an error that it causes.
    pub(crate) fn with_group(&self, error: Error) -> Error {
        let Ok((pool_id, group)) = self.call("look up the group of", |raw| raw.group()) else { return error };
        if group.is_empty() {
            return error;
        }
        let pool = self.ioctx.cluster().pools().name(pool_id).unwrap_or_else(|_| format!("id {pool_id}"));
        error
            .with_kind(ErrorKind::Busy { holders: Vec::new() })
            .with_detail(format!("it belongs to group '{pool}/{group}'; remove it from the group first"))
    }
}
