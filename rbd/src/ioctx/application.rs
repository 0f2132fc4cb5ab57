//! The applications that a pool is tagged for. Pools for images have the application `rbd`, which
//! [`IoCtx::init`] sets.

use std::collections::BTreeMap;

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{ErrorKind, Result};
use crate::names::{c_string, c_value, metadata_key, new_name};
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The applications that a pool is tagged for: see [`IoCtx::applications`].
#[derive(Debug, Clone, Copy)]
pub struct Applications<'a>(&'a IoCtx);

/// The metadata of one application: see [`Applications::metadata`].
#[derive(Debug, Clone, Copy)]
pub struct ApplicationMetadata<'a> {
    ioctx: &'a IoCtx,
    application: &'a str,
}

/// Tags a pool for an application: see [`Applications::enable`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct EnableApplication<'a> {
    ioctx: &'a IoCtx,
    application: &'a str,
    force: bool,
}

impl IoCtx {
    /// Returns the group of calls that list and enable the pool's applications, and that read and
    /// change their metadata.
    pub fn applications(&self) -> Applications<'_> {
        Applications(self)
    }
}

impl<'a> Applications<'a> {
    /// Lists the applications that the pool is tagged for.
    ///
    /// Implements: `rados_application_list`.
    #[doc(alias = "rados_application_list")]
    pub fn list(&self) -> Result<Vec<String>> {
        self.0.bounded("list the applications of", || self.0.pool_object(), move |raw| raw.applications())
    }

    /// Tags the pool for an application. Refused if the pool is tagged for another one, unless
    /// [forced](EnableApplication::force).
    ///
    /// Implements: `rados_application_enable`.
    #[doc(alias = "rados_application_enable")]
    pub fn enable(&self, application: &'a str) -> EnableApplication<'a> {
        EnableApplication { ioctx: self.0, application, force: false }
    }

    /// Returns the group of calls that read and change an application's metadata about the pool,
    /// which the monitors store. [`IoCtx::metadata`] is different: librbd stores it in the pool.
    pub fn metadata(&self, application: &'a str) -> ApplicationMetadata<'a> {
        ApplicationMetadata { ioctx: self.0, application }
    }
}

impl EnableApplication<'_> {
    /// Sets whether to tag a pool that is tagged for another application. Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Tags the pool. Blocks.
    pub fn run(self) -> Result<()> {
        let EnableApplication { ioctx, application, force } = self;
        let operation = "tag";
        let c_application = new_name(operation, || ioctx.pool_object(), application)?;
        ioctx.bounded(
            operation,
            || ioctx.pool_object(),
            move |raw| raw.application_enable(&c_application, force),
        )
    }
}

impl ApplicationMetadata<'_> {
    /// Lists all keys with their values. Fails with [`ErrorKind::NotFound`] if the pool is not
    /// tagged for the application.
    ///
    /// Implements: `rados_application_metadata_list`.
    #[doc(alias = "rados_application_metadata_get")]
    #[doc(alias = "rados_application_metadata_list")]
    pub fn list(&self) -> Result<BTreeMap<String, String>> {
        let operation = "read the application metadata of";
        let ioctx = self.ioctx;
        let c_application = c_string(operation, || ioctx.pool_object(), self.application)?;
        let list = move |raw: &RawIoCtx| raw.application_metadata(&c_application);
        Ok(ioctx.bounded(operation, || ioctx.pool_object(), list)?.into_iter().collect())
    }

    /// Sets a key to a value. The pool must be tagged for the application. Keys and values have at
    /// most 128 bytes, and there can be 64 keys.
    ///
    /// Implements: `rados_application_metadata_set`.
    #[doc(alias = "rados_application_metadata_set")]
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let (operation, object) = ("set the application metadata of", || self.ioctx.pool_object());
        let c_application = c_string(operation, object, self.application)?;
        let (key, value) = (metadata_key(operation, object, key)?, c_value(operation, object, value)?);
        let set = move |raw: &RawIoCtx| raw.application_set(&c_application, &key, &value);
        self.ioctx.bounded(operation, object, set).map_err(|error| match error.errno() {
            Some(Errno::EINVAL) => error
                .with_kind(ErrorKind::InvalidInput)
                .with_detail("the monitors accept at most 64 keys, and keys and values of at most 128 bytes"),
            _ => error,
        })
    }

    /// Removes a key.
    ///
    /// Implements: `rados_application_metadata_remove`.
    #[doc(alias = "rados_application_metadata_remove")]
    pub fn remove(&self, key: &str) -> Result<()> {
        let (operation, object) = ("remove application metadata of", || self.ioctx.pool_object());
        let c_application = c_string(operation, object, self.application)?;
        let key = metadata_key(operation, object, key)?;
        self.ioctx.bounded(operation, object, move |raw| raw.application_remove(&c_application, &key))
    }
}
