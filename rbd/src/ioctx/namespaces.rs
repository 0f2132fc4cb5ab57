//! The namespaces of a pool.

use super::IoCtx;
use crate::error::{ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, new_name};

/// The namespaces of a pool: see [`IoCtx::namespaces`].
#[derive(Debug, Clone, Copy)]
pub struct Namespaces<'a>(&'a IoCtx);

impl IoCtx {
    /// Returns the group of calls that create, list and remove the pool's namespaces.
    pub fn namespaces(&self) -> Namespaces<'_> {
        Namespaces(self)
    }

    fn namespace_object(&self, name: &str) -> Object {
        Object::new(ObjectKind::Namespace, format!("{}/{name}", self.pool))
    }
}

impl Namespaces<'_> {
    /// Creates a namespace in the pool.
    ///
    /// Implements: `rbd_namespace_create`.
    #[doc(alias = "rbd_namespace_create")]
    pub fn create(&self, name: &str) -> Result<()> {
        let c_name = new_name("create", || self.0.namespace_object(name), name)?;
        self.0.bounded("create", || self.0.namespace_object(name), move |raw| raw.namespace_create(&c_name))
    }

    /// Removes a namespace. Fails with [`ErrorKind::Busy`] if it or its trash contains images.
    ///
    /// Implements: `rbd_namespace_remove`.
    #[doc(alias = "rbd_namespace_remove")]
    pub fn remove(&self, name: &str) -> Result<()> {
        let c_name = c_string("remove", || self.0.namespace_object(name), name)?;
        let object = || self.0.namespace_object(name);
        self.0.bounded("remove", object, move |raw| raw.namespace_remove(&c_name)).map_err(
            |error| match error.kind() {
                ErrorKind::Busy { .. } => error.with_detail(
                    "it contains images, perhaps in its trash; remove them and empty the trash first",
                ),
                _ => error,
            },
        )
    }

    /// Lists the namespaces of the pool, without the default one.
    ///
    /// Implements: `rbd_namespace_list`.
    #[doc(alias = "rbd_namespace_list")]
    pub fn list(&self) -> Result<Vec<String>> {
        self.0.bounded("list the namespaces of", || self.0.pool_object(), move |raw| raw.namespaces())
    }

    /// Returns whether a namespace exists.
    ///
    /// Implements: `rbd_namespace_exists`.
    #[doc(alias = "rbd_namespace_exists")]
    pub fn exists(&self, name: &str) -> Result<bool> {
        let c_name = c_string("look up", || self.0.namespace_object(name), name)?;
        self.0.bounded("look up", || self.0.namespace_object(name), move |raw| raw.namespace_exists(&c_name))
    }
}
