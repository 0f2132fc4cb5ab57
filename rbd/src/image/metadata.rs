//! The metadata of an image, and its overrides of options.

use std::collections::BTreeMap;

use super::Image;
use crate::error::keys::metadata_key as shown;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::ioctx::config::{self, ConfigOption};
use crate::names::{c_string, c_value, metadata_key};

/// The metadata of an image: see [`Image::metadata`].
#[derive(Debug, Clone, Copy)]
pub struct ImageMetadata<'a>(&'a Image);

/// The options that an image overrides: see [`Image::config`].
#[derive(Debug, Clone, Copy)]
pub struct ImageConfig<'a>(&'a Image);

impl Image {
    /// Returns the group of calls that list, read and change the metadata: arbitrary pairs of key
    /// and value.
    pub fn metadata(&self) -> ImageMetadata<'_> {
        ImageMetadata(self)
    }

    /// Returns the group of calls that list the options that an image can override, and that
    /// override them for all clients.
    pub fn config(&self) -> ImageConfig<'_> {
        ImageConfig(self)
    }
}

impl ImageMetadata<'_> {
    /// Lists all keys with their values. Asks the cluster.
    ///
    /// The list includes overridden options, whose names begin with `conf_`: see [`Image::config`].
    ///
    /// Implements: `rbd_metadata_list`.
    #[doc(alias = "rbd_metadata_list")]
    pub fn list(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.0.bounded("list the metadata of", move |raw| raw.metadata())?.into_iter().collect())
    }

    /// Returns the value of one key. Asks the cluster, also on a read-only handle. Fails with
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not set.
    ///
    /// Implements: `rbd_metadata_get`.
    #[doc(alias = "rbd_metadata_get")]
    pub fn get(&self, key: &str) -> Result<String> {
        let object = || self.0.key_object(key);
        let c_key = c_string("read", object, key)?;
        let value = self.0.bounded_on("read", object, move |raw| raw.metadata_value(&c_key));
        if value.as_ref().is_err_and(Error::is_not_found) {
            self.0.check_existence()?;
        }
        value
    }

    /// Sets a key to a value, and replaces a previous value. Neither may contain a NUL byte.
    ///
    /// Implements: `rbd_metadata_set`.
    #[doc(alias = "rbd_metadata_set")]
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let object = || self.0.key_object(key);
        let (c_key, c_value) = (metadata_key("set", object, key)?, c_value("set", object, value)?);
        self.0.bounded_on("set", object, move |raw| raw.metadata_set(&c_key, &c_value))
    }

    /// Removes a key. Fails with [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if it is not
    /// set.
    ///
    /// Implements: `rbd_metadata_remove`.
    #[doc(alias = "rbd_metadata_remove")]
    pub fn remove(&self, key: &str) -> Result<()> {
        let object = || self.0.key_object(key);
        let c_key = c_string("remove", object, key)?;
        self.0.bounded_on("remove", object, move |raw| raw.metadata_remove(&c_key))
    }
}

impl ImageConfig<'_> {
    /// Lists the options that an image can override, with their effective values and where these
    /// are set.
    ///
    /// Implements: `rbd_config_image_list`.
    #[doc(alias = "rbd_config_image_list")]
    pub fn list(&self) -> Result<Vec<ConfigOption>> {
        Ok(config::options(self.0.bounded("list the options of", move |raw| raw.config_options())?))
    }

    /// Overrides an option for this image, for all clients. Takes effect when the image is next
    /// opened.
    ///
    /// Refuses an option that images cannot override, and an invalid value. Some overrides endanger
    /// data, such as a cache that forgets failed writes: then this crate no longer opens the image
    /// for writing. See [`guide::durability`](crate::guide::durability).
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// image.config().set("rbd_qos_iops_limit", "500")?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_metadata_set`, `rbd_config_image_list`.
    pub fn set(&self, option: &str, value: &str) -> Result<()> {
        config::check("override", || self.0.object(), self.0.ioctx.cluster(), &self.list()?, option, value)?;
        ImageMetadata::set(&self.0.metadata(), &config::key(option), value)
    }

    /// Removes the override of an option. Fails with
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if the image does not override it.
    ///
    /// Implements: `rbd_metadata_remove`.
    pub fn remove(&self, option: &str) -> Result<()> {
        ImageMetadata::remove(&self.0.metadata(), &config::key(option))
    }
}

impl Image {
    fn key_object(&self, key: &str) -> Object {
        Object::new(ObjectKind::MetadataKey, format!("{} of {}", shown(key), self.object().name))
    }
}
