//! Metadata of an image, and the options that it overrides.

use std::collections::BTreeMap;

use super::Image;
use crate::error::{Object, ObjectKind, Result};
use crate::ioctx::config::{self, ConfigOption};
use crate::names::{c_string, metadata_key};

impl Image {
    /// The metadata: free pairs of key and value that go with the image. Asks the cluster.
    ///
    /// Overridden options are among them, with `conf_` before their names: see [`config`](Self::config).
    ///
    /// Implements: `rbd_metadata_list`.
    #[doc(alias = "rbd_metadata_list")]
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.call("list the metadata of", |raw| raw.metadata())?.into_iter().collect())
    }

    /// The value of one key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it is not set.
    ///
    /// Implements: `rbd_metadata_get`.
    #[doc(alias = "rbd_metadata_get")]
    pub fn metadata_value(&self, key: &str) -> Result<String> {
        let object = || self.key_object(key);
        let c_key = c_string("read", object, key)?;
        self.ioctx.call("read", object, || self.raw.metadata_value(&c_key))
    }

    /// Sets a key to a value, whether it was set or not. Neither may contain a NUL byte.
    ///
    /// Implements: `rbd_metadata_set`.
    #[doc(alias = "rbd_metadata_set")]
    pub fn set_metadata(&self, key: &str, value: &str) -> Result<()> {
        let object = || self.key_object(key);
        let (c_key, c_value) = (metadata_key("set", object, key)?, c_string("set", object, value)?);
        self.ioctx.call("set", object, || self.raw.metadata_set(&c_key, &c_value))
    }

    /// Removes a key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where it is not set.
    ///
    /// Implements: `rbd_metadata_remove`.
    #[doc(alias = "rbd_metadata_remove")]
    pub fn remove_metadata(&self, key: &str) -> Result<()> {
        let object = || self.key_object(key);
        let c_key = c_string("remove", object, key)?;
        self.ioctx.call("remove", object, || self.raw.metadata_remove(&c_key))
    }

    /// The options that an image can override, with the values in force for this one and where they stand.
    ///
    /// Implements: `rbd_config_image_list`.
    #[doc(alias = "rbd_config_image_list")]
    pub fn config(&self) -> Result<Vec<ConfigOption>> {
        Ok(config::options(self.call("list the options of", |raw| raw.config_options())?))
    }

    /// Overrides an option for this image, for all clients. It holds from when the image is next opened.
    ///
    /// An option that images cannot override, or a value that it cannot have, is refused.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// image.set_config("rbd_qos_iops_limit", "500")?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_metadata_set`, `rbd_config_image_list`.
    pub fn set_config(&self, option: &str, value: &str) -> Result<()> {
        config::check("override", || self.object(), self.ioctx.cluster(), &self.config()?, option, value)?;
        self.set_metadata(&config::key(option), value)
    }

    /// Ends the override of an option. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the image
    /// overrides it not.
    ///
    /// Implements: `rbd_metadata_remove`.
    pub fn remove_config(&self, option: &str) -> Result<()> {
        self.remove_metadata(&config::key(option))
    }

    fn key_object(&self, key: &str) -> Object {
        Object::new(ObjectKind::MetadataKey, format!("{key} of {}", self.object().name))
    }
}
