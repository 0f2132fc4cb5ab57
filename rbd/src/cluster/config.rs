//! The configuration of this client.

use super::{Cluster, builder, timeouts};
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, c_value};
use crate::raw::image::safeguards::CACHES;

/// The configuration of a client: see [`Cluster::config`].
#[derive(Debug, Clone, Copy)]
pub struct ClusterConfig<'a>(&'a Cluster);

impl Cluster {
    /// Returns the group of calls that read and set the configuration options of this client.
    pub fn config(&self) -> ClusterConfig<'_> {
        ClusterConfig(self)
    }
}

impl ClusterConfig<'_> {
    /// Returns the effective value of a configuration option. Does not block.
    ///
    /// Implements: `rados_conf_get`.
    #[doc(alias = "rados_conf_get")]
    pub fn get(&self, option: &str) -> Result<String> {
        let object = || Object::new(ObjectKind::ConfigOption, option);
        let name = c_string("read", object, option)?;
        self.0.call("read", object, || self.0.raw().conf_get(&name))
    }

    /// Sets a configuration option of this client. Does not block. Ceph reads many options only
    /// when it connects or opens an image: give these to the
    /// [builder](crate::ClusterBuilder::option).
    ///
    /// Implements: `rados_conf_set`.
    #[doc(alias = "rados_conf_set")]
    pub fn set(&self, option: &str, value: &str) -> Result<()> {
        let object = || Object::new(ObjectKind::ConfigOption, option);
        let (name, c_value) = (c_string("set", object, option)?, c_value("set", object, value)?);
        if option == timeouts::OSD_TIMEOUT
            || (self.0.raw().osd_timeout().is_some() && CACHES.iter().any(|(cache, _)| *cache == option))
        {
            let why = "it decides whether an acknowledged write can be lost, and is fixed when \
                       connecting; give it to the builder";
            return Err(Error::invalid("set", object(), why));
        }
        self.0.call("set", object, || self.0.raw().conf_set(&name, &c_value)).map_err(|error| {
            match (error.errno(), error.kind()) {
                (Some(Errno::EINVAL), ErrorKind::Other) => {
                    error.with_kind(ErrorKind::InvalidInput).with_detail(builder::BAD_VALUE)
                }
                // Not a refusal of the cluster, which was not asked.
                (Some(Errno::EPERM | Errno::ENOSYS), _) => error
                    .with_kind(ErrorKind::InvalidInput)
                    .with_detail("Ceph reads it only when it connects; give it to the builder"),
                _ => error,
            }
        })
    }
}
