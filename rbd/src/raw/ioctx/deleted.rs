//! Whether a pool was deleted under its handle.

use std::sync::Arc;
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::mark::must_not_call;
use crate::raw::thread::worker::start;

/// An error is told without its cause after that long.
const PATIENCE: Duration = Duration::from_secs(3);

impl IoCtx {
    /// Returns the pool that was deleted: this one, or the other one, unless that is negative. With
    /// `latest` the monitors are asked, else what this client knows decides. Blocks, for a while at
    /// most.
    pub(crate) fn deleted_pool(self: &Arc<IoCtx>, other: i64, latest: bool) -> Option<i64> {
        if must_not_call() {
            return None;
        }
        let pools = [self.id(), other];
        let pool = Arc::clone(self);
        let look = move || {
            let cluster = pool.cluster();
            let deleted = |id: &i64| *id >= 0 && cluster.pool_name(*id) == Err(Errno::ENOENT);
            pools.into_iter().find(deleted).or_else(|| {
                latest.then(|| cluster.wait_for_latest_osdmap().ok()).flatten()?;
                pools.into_iter().find(deleted)
            })
        };
        start(look).ok()?.wait(Some(PATIENCE)).flatten()
    }
}
