//! The metadata of a pool or namespace, and its overrides of options.

use std::collections::BTreeMap;

use super::IoCtx;
use super::config::{self, ConfigOption};
use crate::error::keys::metadata_key as shown;
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, c_value, metadata_key};
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The metadata of a pool or namespace: see [`IoCtx::metadata`].
#[derive(Debug, Clone, Copy)]
pub struct PoolMetadata<'a>(&'a IoCtx);

/// The options that a pool or namespace overrides: see [`IoCtx::config`].
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig<'a>(&'a IoCtx);

impl IoCtx {
    /// Returns the group of calls that list, read and change the metadata: arbitrary pairs of key
    /// and value.
    pub fn metadata(&self) -> PoolMetadata<'_> {
        PoolMetadata(self)
    }

    /// Returns the group of calls that list the options that a pool can override, and that override
    /// them for all clients.
    pub fn config(&self) -> PoolConfig<'_> {
        PoolConfig(self)
    }
}

impl PoolMetadata<'_> {
    /// Lists all keys with their values.
    ///
    /// The list includes overridden options, whose names begin with `conf_`: see [`IoCtx::config`].
    ///
    /// Implements: `rbd_pool_metadata_list`.
    #[doc(alias = "rbd_pool_metadata_list")]
    pub fn list(&self) -> Result<BTreeMap<String, String>> {
        let pairs = self.0.bounded("list the metadata of", || self.0.pool_object(), |raw| raw.metadata())?;
        if pairs.is_empty() {
            self.0.check_namespace("list the metadata of")?;
        }
        Ok(pairs.into_iter().collect())
    }

    /// Returns the value of one key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound)
    /// if it is not set.
    ///
    /// Implements: `rbd_pool_metadata_get`.
    #[doc(alias = "rbd_pool_metadata_get")]
    pub fn get(&self, key: &str) -> Result<String> {
        let object = || self.0.key_object(key);
        let c_key = c_string("read", object, key)?;
        self.0.bounded("read", object, move |raw| raw.metadata_value(&c_key))
    }

    /// Sets a key to a value, and replaces a previous value. Neither may contain a NUL byte.
    ///
    /// Implements: `rbd_pool_metadata_set`.
    #[doc(alias = "rbd_pool_metadata_set")]
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let object = || self.0.key_object(key);
        let (c_key, c_value) = (metadata_key("set", object, key)?, c_value("set", object, value)?);
        self.0.check_namespace("set metadata of")?;
        self.0.bounded("set", object, move |raw| raw.metadata_set(&c_key, &c_value))
    }

    /// Removes a key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not
    /// set.
    ///
    /// Implements: `rbd_pool_metadata_remove`.
    #[doc(alias = "rbd_pool_metadata_remove")]
    pub fn remove(&self, key: &str) -> Result<()> {
        let object = || self.0.key_object(key);
        let c_key = c_string("remove", object, key)?;
        self.0.bounded("remove", object, move |raw| raw.metadata_remove(&c_key))
    }
}

impl PoolConfig<'_> {
    /// Lists the options that a pool can override for its images, with their effective values and
    /// where these are set.
    ///
    /// Implements: `rbd_config_pool_list`.
    #[doc(alias = "rbd_config_pool_list")]
    pub fn list(&self) -> Result<Vec<ConfigOption>> {
        let list = |raw: &RawIoCtx| raw.config_options();
        Ok(config::options(self.0.bounded("list the options of", || self.0.pool_object(), list)?))
    }

    /// Overrides an option for the images of the pool or namespace, for all clients. Takes effect
    /// when an image is next opened.
    ///
    /// Refuses an option that pools cannot override, and an invalid value. Some overrides endanger
    /// data, such as a cache that forgets failed writes: then this crate no longer opens the images
    /// for writing. See [`guide::durability`](crate::guide::durability).
    ///
    /// librbd tells every client of the cluster that options have changed. A client with Ceph 16.2,
    /// this one too, can hang with its whole connection if it closes an image at that moment.
    /// Change options of a pool while no such client is busy.
    ///
    /// Implements: `rbd_pool_metadata_set`, `rbd_config_pool_list`.
    pub fn set(&self, option: &str, value: &str) -> Result<()> {
        let object = || self.0.pool_object();
        config::check("override", object, &self.0.cluster, &self.list()?, option, value)?;
        PoolMetadata::set(&self.0.metadata(), &config::key(option), value)
    }

    /// Removes the override of an option. Fails with
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the pool does not override it. Clients
    /// hear of it as in [`set`](Self::set).
    ///
    /// Implements: `rbd_pool_metadata_remove`.
    pub fn remove(&self, option: &str) -> Result<()> {
        PoolMetadata::remove(&self.0.metadata(), &config::key(option))
    }
}

impl IoCtx {
    fn key_object(&self, key: &str) -> Object {
        let place = match &*self.namespace {
            "" => self.pool.to_string(),
            namespace => format!("{}/{namespace}", self.pool),
        };
        Object::new(ObjectKind::MetadataKey, format!("{} of {place}", shown(key)))
    }
}
