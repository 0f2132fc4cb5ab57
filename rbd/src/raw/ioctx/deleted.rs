//! Whether a pool was deleted while its handle is open.

use std::sync::Arc;
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::ioctx::IoCtx;
use crate::raw::thread::mark::must_not_call;
use crate::raw::thread::worker::start;

/// After this time an error is returned without its cause.
const PATIENCE: Duration = Duration::from_secs(3);

impl IoCtx {
    /// Returns the id of the pool that was deleted: this one, or `other` (negative: no other). With
    /// `latest` the monitors are asked, otherwise the map that this client has. Blocks for a
    /// limited time.
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
