//! Pools.

use super::Cluster;
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, new_name};

fn pool(name: &str) -> Object {
    Object::new(ObjectKind::Pool, name)
}

impl Cluster {
    /// The names of all pools.
    ///
    /// Implements: `rados_pool_list`.
    #[doc(alias = "rados_pool_list")]
    pub fn pools(&self) -> Result<Vec<String>> {
        self.call("list the pools of", || self.object(), || self.raw().pools())
    }

    /// The id of a pool.
    ///
    /// Implements: `rados_pool_lookup`.
    #[doc(alias = "rados_pool_lookup")]
    pub fn pool_id(&self, name: &str) -> Result<i64> {
        let c_name = c_string("look up", || pool(name), name)?;
        self.call("look up", || pool(name), || self.raw().pool_lookup(&c_name))
    }

    /// The name of a pool.
    ///
    /// Implements: `rados_pool_reverse_lookup`.
    #[doc(alias = "rados_pool_reverse_lookup")]
    pub fn pool_name(&self, id: i64) -> Result<String> {
        self.call("look up", || pool(&id.to_string()), || self.raw().pool_name(id))
    }

    /// Creates a replicated pool with the cluster's defaults. Prepare it for images by [`IoCtx::init`](crate::IoCtx::init).
    ///
    /// Implements: `rados_pool_create`.
    #[doc(alias = "rados_pool_create")]
    pub fn create_pool(&self, name: &str) -> Result<()> {
        let c_name = new_name("create", || pool(name), name)?;
        self.call("create", || pool(name), || self.raw().pool_create(&c_name))
    }

    /// Deletes a pool **and everything in it**. The cluster refuses unless `mon_allow_pool_delete` is on.
    ///
    /// Implements: `rados_pool_delete`.
    #[doc(alias = "rados_pool_delete")]
    pub fn delete_pool(&self, name: &str) -> Result<()> {
        let c_name = c_string("delete", || pool(name), name)?;
        self.call("delete", || pool(name), || self.raw().pool_delete(&c_name))
    }
}
