//! Namespaces of a pool.

use super::IoCtx;
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, new_name};

impl IoCtx {
    fn namespace_object(&self, name: &str) -> Object {
        Object::new(ObjectKind::Namespace, format!("{}/{name}", self.pool))
    }

    /// Creates a namespace in the pool.
    ///
    /// Implements: `rbd_namespace_create`.
    #[doc(alias = "rbd_namespace_create")]
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        let c_name = new_name("create", || self.namespace_object(name), name)?;
        self.call("create", || self.namespace_object(name), || self.raw.namespace_create(&c_name))
    }

    /// Removes a namespace, which must be empty.
    ///
    /// Implements: `rbd_namespace_remove`.
    #[doc(alias = "rbd_namespace_remove")]
    pub fn remove_namespace(&self, name: &str) -> Result<()> {
        let c_name = c_string("remove", || self.namespace_object(name), name)?;
        self.call("remove", || self.namespace_object(name), || self.raw.namespace_remove(&c_name))
    }

    /// The namespaces of the pool, without the default one.
    ///
    /// Implements: `rbd_namespace_list`.
    #[doc(alias = "rbd_namespace_list")]
    pub fn namespaces(&self) -> Result<Vec<String>> {
        self.call("list the namespaces of", || self.pool_object(), || self.raw.namespaces())
    }

    /// Whether a namespace exists.
    ///
    /// Implements: `rbd_namespace_exists`.
    #[doc(alias = "rbd_namespace_exists")]
    pub fn namespace_exists(&self, name: &str) -> Result<bool> {
        let c_name = c_string("look up", || self.namespace_object(name), name)?;
        self.call("look up", || self.namespace_object(name), || self.raw.namespace_exists(&c_name))
    }
}
