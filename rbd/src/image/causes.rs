//! What keeps an image from being removed, for errors.

use super::Image;
use crate::error::{Error, ErrorKind};
use crate::holder::Holder;

impl Image {
    /// The error of something that those who have it open prevent, with who they are.
    pub(crate) fn with_watchers(&self, error: Error) -> Error {
        let Ok(watchers) = self.watchers() else { return error };
        error.with_kind(ErrorKind::Busy { holders: watchers.into_iter().map(Holder::Watcher).collect() })
    }

    /// The error of something that its group prevents, with the group's name.
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
