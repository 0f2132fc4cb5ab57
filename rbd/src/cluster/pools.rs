//! The pools of a cluster.

use super::Cluster;
use crate::errno::Errno;
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, new_name};

fn pool(name: &str) -> Object {
    Object::new(ObjectKind::Pool, name)
}

/// The pools of a cluster: see [`Cluster::pools`].
#[derive(Debug, Clone, Copy)]
pub struct Pools<'a>(&'a Cluster);

impl Cluster {
    /// Returns the group of calls that create, list, look up and remove pools.
    pub fn pools(&self) -> Pools<'_> {
        Pools(self)
    }
}

impl Pools<'_> {
    /// Lists the names of all pools.
    ///
    /// Implements: `rados_pool_list`.
    #[doc(alias = "rados_pool_list")]
    pub fn list(&self) -> Result<Vec<String>> {
        self.0.bounded("list the pools of", || self.0.object(), move |raw| raw.pools())
    }

    /// Returns the id of a pool.
    ///
    /// Implements: `rados_pool_lookup`.
    #[doc(alias = "rados_pool_lookup")]
    pub fn id(&self, name: &str) -> Result<i64> {
        let c_name = c_string("look up", || pool(name), name)?;
        self.0.bounded("look up", || pool(name), move |raw| raw.pool_lookup(&c_name))
    }

    /// Returns the name of a pool.
    ///
    /// Implements: `rados_pool_reverse_lookup`.
    #[doc(alias = "rados_pool_reverse_lookup")]
    pub fn name(&self, id: i64) -> Result<String> {
        self.0.bounded("look up", || pool(&id.to_string()), move |raw| raw.pool_name(id))
    }

    /// Creates a replicated pool with the cluster's defaults. Call
    /// [`IoCtx::init`](crate::IoCtx::init) before you create images in it.
    ///
    /// Implements: `rados_pool_create`.
    #[doc(alias = "rados_pool_create")]
    pub fn create(&self, name: &str) -> Result<()> {
        let c_name = new_name("create", || pool(name), name)?;
        self.0.bounded("create", || pool(name), move |raw| raw.pool_create(&c_name))
    }

    /// Removes a pool **and everything in it**. The cluster refuses with
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) unless the monitors' option
    /// `mon_allow_pool_delete` is on.
    ///
    /// **Close all images of the pool first, in all processes.** I/O in flight on a removed pool
    /// fails with `NotFound` or never returns. librados may also abort the process of a client that
    /// has an image of the pool open (`ceph_assert(op->session)`, with all releases).
    ///
    /// Implements: `rados_pool_delete`.
    #[doc(alias = "rados_pool_delete")]
    pub fn remove(&self, name: &str) -> Result<()> {
        let c_name = c_string("remove", || pool(name), name)?;
        self.0.bounded("remove", || pool(name), move |raw| raw.pool_delete(&c_name)).map_err(|error| {
            match error.errno() {
                Some(Errno::EPERM) => error.with_detail(
                    "the cluster refused: the monitors' option mon_allow_pool_delete must be on, the pool \
                     without the flag nodelete, and the user allowed to write (mon 'allow rw')",
                ),
                _ => error,
            }
        })
    }
}
