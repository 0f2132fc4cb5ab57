//! The applications that a pool is tagged for. That of images is `rbd`, which [`IoCtx::init`] sets.

use std::collections::BTreeMap;

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{ErrorKind, Result};
use crate::names::{c_string, metadata_key, new_name};

impl IoCtx {
    /// The applications that the pool is tagged for.
    ///
    /// Implements: `rados_application_list`.
    #[doc(alias = "rados_application_list")]
    pub fn applications(&self) -> Result<Vec<String>> {
        self.call("list the applications of", || self.pool_object(), || self.raw.applications())
    }

    /// Tags the pool for an application. Where it is tagged for another one already, only by `force`.
    ///
    /// Implements: `rados_application_enable`.
    #[doc(alias = "rados_application_enable")]
    pub fn enable_application(&self, application: &str, force: bool) -> Result<()> {
        let operation = "tag";
        let c_application = new_name(operation, || self.pool_object(), application)?;
        self.call(operation, || self.pool_object(), || self.raw.application_enable(&c_application, force))
    }

    /// What an application keeps about the pool, in the monitors. Other than [`metadata`](Self::metadata), which librbd keeps in
    /// the pool itself.
    ///
    /// Implements: `rados_application_metadata_list`.
    #[doc(alias = "rados_application_metadata_get")]
    #[doc(alias = "rados_application_metadata_list")]
    pub fn application_metadata(&self, application: &str) -> Result<BTreeMap<String, String>> {
        let operation = "read the application metadata of";
        let c_application = c_string(operation, || self.pool_object(), application)?;
        let list = || self.raw.application_metadata(&c_application);
        Ok(self.call(operation, || self.pool_object(), list)?.into_iter().collect())
    }

    /// Sets one key of what an application keeps about the pool. The pool must be tagged for it. Keys and values
    /// have 128 bytes at most, and there can be 64 of them.
    ///
    /// Implements: `rados_application_metadata_set`.
    #[doc(alias = "rados_application_metadata_set")]
    pub fn set_application_metadata(&self, application: &str, key: &str, value: &str) -> Result<()> {
        let (operation, object) = ("set the application metadata of", || self.pool_object());
        let c_application = c_string(operation, object, application)?;
        let (key, value) = (metadata_key(operation, object, key)?, c_string(operation, object, value)?);
        let set = || self.raw.application_set(&c_application, &key, &value);
        self.call(operation, object, set).map_err(|error| match error.errno() {
            Some(Errno::EINVAL) => error
                .with_kind(ErrorKind::InvalidInput)
                .with_detail("the monitors take keys and values of 128 bytes at most, and 64 of them"),
            _ => error,
        })
    }

    /// Removes one key of what an application keeps about the pool.
    ///
    /// Implements: `rados_application_metadata_remove`.
    #[doc(alias = "rados_application_metadata_remove")]
    pub fn remove_application_metadata(&self, application: &str, key: &str) -> Result<()> {
        let (operation, object) = ("remove application metadata of", || self.pool_object());
        let c_application = c_string(operation, object, application)?;
        let key = metadata_key(operation, object, key)?;
        self.call(operation, object, || self.raw.application_remove(&c_application, &key))
    }
}
