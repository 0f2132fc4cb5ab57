//! The reasons why the cluster refuses what is done to an image, for errors.

use std::time::Duration;

use super::Image;
use super::check::explain_cause;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::holder::Holder;
use crate::raw::op::answer::Cause;
use crate::raw::thread::worker::start;

/// The longest time that a call spends on the lookup of its cause after it was given up, or after
/// `EINVAL`.
const LOOKUP: Duration = Duration::from_secs(1);

impl Image {
    /// Adds the client that keeps the exclusive lock, or that the image's pool or its data pool was
    /// deleted.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.was_given_up() {
            return self.explain_given_up(error);
        }
        if error.errno() == Some(Errno::EROFS) {
            if let Some(cause) = self.cause() {
                return explain_cause(self.label(), error, cause);
            }
        }
        if error.errno() == Some(Errno::EINVAL) && *error.kind() == ErrorKind::Other && self.free_left_lock()
        {
            return explain_cause(self.label(), error, Cause::LeftLock);
        }
        let data = self.raw().data_pool_id().unwrap_or(-1);
        match self.ioctx.deleted_pool(&error, data) {
            None => error,
            Some(id) if id == self.ioctx.pool_id() => error.pool_deleted(self.ioctx.pool(), id),
            Some(id) => error.data_pool_deleted(id),
        }
    }

    /// Removes a lock of this connection that no handle knows of. Returns whether there was one.
    /// Blocks for a limited time.
    fn free_left_lock(&self) -> bool {
        let raw = self.raw().share();
        let freed = start(move || raw.free_left_lock());
        freed.ok().and_then(|freed| freed.wait(Some(self.lookup_limit()))).unwrap_or(false)
    }

    fn lookup_limit(&self) -> Duration {
        self.ioctx.cluster().raw().call_timeout().map_or(LOOKUP, |all| LOOKUP.min(all / 4))
    }

    /// Adds the client for which a given-up call may wait. Spends little time on it, because the
    /// call has spent all of its own.
    pub(crate) fn explain_given_up(&self, error: Error) -> Error {
        if self.is_read_only() || !error.was_given_up() {
            return error;
        }
        let raw = self.raw().share();
        let lookup = start(move || raw.other_lock());
        match lookup.ok().and_then(|lookup| lookup.wait(Some(self.lookup_limit()))) {
            Some(Ok(Some(holder))) => error.waits_for(&holder),
            _ => error,
        }
    }

    /// Adds the clients that watch the image to an error that they cause.
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
