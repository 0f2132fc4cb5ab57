//! Mirroring: calls on a single cluster, and images that move from one cluster to another and back.

mod alone;
mod pair;

use rbd::{Cluster, IoCtx};

/// A separate pool, initialised for images, because peers and modes belong to pools. Dropping it
/// deletes the pool.
struct Pool {
    cluster: std::sync::Arc<Cluster>,
    ioctx: IoCtx,
}

impl Pool {
    fn new() -> Pool {
        let (cluster, name) = (crate::support::cluster(), crate::support::unique("mirror"));
        rbd_testcluster::shared().create_pool(&name).unwrap();
        let ioctx = cluster.ioctx(&name).unwrap();
        Pool { cluster, ioctx }
    }
}

impl std::ops::Deref for Pool {
    type Target = IoCtx;

    fn deref(&self) -> &IoCtx {
        &self.ioctx
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.cluster.pools().remove(self.ioctx.pool());
    }
}
