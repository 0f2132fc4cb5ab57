//! Metadata of a pool or namespace, and the options that it overrides for its images.

use std::collections::BTreeMap;

use super::IoCtx;
use super::config::{self, ConfigOption};
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, metadata_key};

impl IoCtx {
    /// The metadata of the pool or namespace: free pairs of key and value.
    ///
    /// Overridden options are among them, with `conf_` before their names: see [`config`](Self::config).
    ///
    /// Implements: `rbd_pool_metadata_list`.
    #[doc(alias = "rbd_pool_metadata_list")]
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let list = || self.raw.metadata();
        Ok(self.call("list the metadata of", || self.pool_object(), list)?.into_iter().collect())
    }

    /// The value of one key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it is not set.
    ///
    /// Implements: `rbd_pool_metadata_get`.
    #[doc(alias = "rbd_pool_metadata_get")]
    pub fn metadata_value(&self, key: &str) -> Result<String> {
        let object = || self.key_object(key);
        let c_key = c_string("read", object, key)?;
        self.call("read", object, || self.raw.metadata_value(&c_key))
    }

    /// Sets a key to a value, whether it was set or not. Neither may contain a NUL byte.
    ///
    /// Implements: `rbd_pool_metadata_set`.
    #[doc(alias = "rbd_pool_metadata_set")]
    pub fn set_metadata(&self, key: &str, value: &str) -> Result<()> {
        let object = || self.key_object(key);
        let (c_key, c_value) = (metadata_key("set", object, key)?, c_string("set", object, value)?);
        self.call("set", object, || self.raw.metadata_set(&c_key, &c_value))
    }

    /// Removes a key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it is not set.
    ///
    /// Implements: `rbd_pool_metadata_remove`.
    #[doc(alias = "rbd_pool_metadata_remove")]
    pub fn remove_metadata(&self, key: &str) -> Result<()> {
        let object = || self.key_object(key);
        let c_key = c_string("remove", object, key)?;
        self.call("remove", object, || self.raw.metadata_remove(&c_key))
    }

    /// The options that a pool can override for its images, with the values in force here and where they stand.
    ///
    /// Implements: `rbd_config_pool_list`.
    #[doc(alias = "rbd_config_pool_list")]
    pub fn config(&self) -> Result<Vec<ConfigOption>> {
        let list = || self.raw.config_options();
        Ok(config::options(self.call("list the options of", || self.pool_object(), list)?))
    }

    /// Overrides an option for the images here, for all clients. It holds for images opened from now on.
    ///
    /// An option that pools cannot override, or a value that it cannot have, is refused.
    ///
    /// Implements: `rbd_pool_metadata_set`, `rbd_config_pool_list`.
    pub fn set_config(&self, option: &str, value: &str) -> Result<()> {
        let object = || self.pool_object();
        config::check("override", object, &self.cluster, &self.config()?, option, value)?;
        self.set_metadata(&config::key(option), value)
    }

    /// Ends the override of an option. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the pool
    /// overrides it not.
    ///
    /// Implements: `rbd_pool_metadata_remove`.
    pub fn remove_config(&self, option: &str) -> Result<()> {
        self.remove_metadata(&config::key(option))
    }

    fn key_object(&self, key: &str) -> Object {
        let place = match &*self.namespace {
            "" => self.pool.to_string(),
            namespace => format!("{}/{namespace}", self.pool),
        };
        Object::new(ObjectKind::MetadataKey, format!("{key} of {place}"))
    }
}
