//! Options of the configuration that pools and images override.

use crate::cluster::Cluster;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::raw::image::metadata::RawConfigOption;

/// An option, its value in force, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConfigOption {
    /// Its name, such as `rbd_cache`.
    pub name: String,
    /// The value in force.
    pub value: String,
    /// Where the value stands.
    pub source: ConfigSource,
}

/// Where the value of an option stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// The configuration of this client: its file, the monitors' store, or Ceph's default.
    Config,
    /// The pool overrides it.
    Pool,
    /// The image overrides it.
    Image,
    /// Somewhere that this crate does not know.
    Unknown(u32),
}

/// Under which key of the metadata an override is kept.
pub(crate) fn key(option: &str) -> String {
    format!("conf_{option}")
}

pub(crate) fn options(raw: Vec<RawConfigOption>) -> Vec<ConfigOption> {
    let option = |raw: RawConfigOption| ConfigOption {
        name: raw.name,
        value: raw.value,
        source: match raw.source.0 {
            0 => ConfigSource::Config,
            1 => ConfigSource::Pool,
            2 => ConfigSource::Image,
            other => ConfigSource::Unknown(other),
        },
    };
    let mut options: Vec<ConfigOption> = raw.into_iter().map(option).collect();
    options.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    options
}

/// Refuses an override that clients would later ignore: of an option that is not among `known`, or
/// with a bad value.
pub(crate) fn check(
    operation: &'static str,
    place: impl FnOnce() -> Object,
    cluster: &Cluster,
    known: &[ConfigOption],
    option: &str,
    value: &str,
) -> Result<()> {
    let object = || Object::new(ObjectKind::ConfigOption, option);
    if !known.iter().any(|known| known.name == option) {
        let why = format!("it is no option that {} can override", place());
        let error = Error::invalid(operation, object(), why);
        return Err(error.with_kind(ErrorKind::NotFound { what: ObjectKind::ConfigOption }));
    }
    cluster.try_config(option, value).map_err(|error| {
        Error::invalid(operation, object(), format!("it cannot have the value {value:?}"))
            .with_log(error.log().to_vec())
    })
}
