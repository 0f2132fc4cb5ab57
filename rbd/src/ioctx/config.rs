//! Configuration options that pools and images can override.

use crate::cluster::Cluster;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::raw::image::metadata::RawConfigOption;

/// An option with its effective value and the source of that value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConfigOption {
    /// Its name, such as `rbd_cache`.
    pub name: String,
    /// The effective value.
    pub value: String,
    /// Where the value is set.
    pub source: ConfigSource,
}

/// Where the value of an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// The configuration of this client: its file, the monitors' store, or Ceph's default.
    Config,
    /// The pool overrides it.
    Pool,
    /// The image overrides it.
    Image,
    /// A source that this crate does not know.
    Unknown(u32),
}

/// Returns the metadata key that stores an override.
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

/// Refuses an override that clients would ignore: of an option that is not in `known`, or with an
/// invalid value.
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
        let why = format!(
            "{} cannot override this option; `config().list()` shows the options that it can",
            place()
        );
        let error = Error::invalid(operation, object(), why);
        return Err(error.with_kind(ErrorKind::NotFound { what: ObjectKind::ConfigOption }));
    }
    cluster.try_config(option, value).map_err(|error| {
        Error::invalid(
            operation,
            object(),
            format!(
                "the value {value:?} is not valid; `ceph config help` shows the \
            option's type and range"
            ),
        )
        .with_log(error.log().to_vec())
    })
}
