//! A connection to a cluster: connecting, pools, keys, commands, logs, the blocklist.
//!
//! ```no_run
//! use rbd::cluster::Key;
//! let key: Key = "AQBhOKFiAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==".into();
//! let cluster = rbd::Cluster::builder().user("backup").monitors("10.0.0.1").key(key).connect()?;
//! println!("{:?}", cluster.pools().list()?);
//! # Ok::<(), rbd::Error>(())
//! ```

mod blocklist;
mod bounded;
mod builder;
mod command;
mod config;
mod credentials;
mod environment;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
mod log;
mod login;
mod pools;
mod service;
mod timeouts;
mod usage;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::address::ClientAddress;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::{c_string, c_value};
use crate::raw::ffi::weak::{Failure, library_of};
use crate::raw::{self, cluster::log::Log};
use crate::version::Version;

pub use blocklist::{AddToBlocklist, Blocklist, BlocklistEntry};
pub use builder::ClusterBuilder;
pub use config::ClusterConfig;
pub use key::Key;
pub use log::{LogEntry, LogLevel, LogWatch};
pub use pools::Pools;
pub use usage::{ClusterUsage, PoolUsage};

/// A client of a Ceph cluster.
///
/// Cheap to clone: the clones share one connection, which ends when the last of them, and of
/// everything opened from them, is dropped. All methods block the calling thread while they talk to
/// the cluster, within the timeouts set by the [builder](Cluster::builder).
///
/// A forked process must connect anew: what it inherited fails, and is leaked when it is dropped.
///
/// Drop the last one before `main` returns, and do not keep one in a static: the connection has
/// threads of its own, which a process that is exiting pulls libraries away from (a crash in
/// OpenSSL at exit was seen). `std::process::exit` drops nothing; a process that ends so waits for
/// the asynchronous operations that are in flight, 2 s at most (250 ms on a thread of librbd's),
/// since librbd's threads crash when they are at work meanwhile. What other threads still submit,
/// and calls that block there, are not waited for.
///
/// ```no_run
/// let cluster = rbd::Cluster::builder().user("admin").connect()?;
/// println!("connected to {}", cluster.fsid()?);
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    raw: Arc<raw::cluster::Cluster>,
    /// `None` where the configuration sends the log elsewhere.
    log: Option<Log>,
    user: String,
    /// Asked once, when connecting: asking takes a lock, which librados holds while it calls back.
    fsid: String,
}

impl Cluster {
    /// How to connect: as which user, with which configuration and timeouts.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// Connects as the `rbd` command would without options: `client.admin` unless CEPH_ARGS says
    /// otherwise, configured by CEPH_CONF or the default search path.
    pub fn connect() -> Result<Cluster> {
        Cluster::builder().connect()
    }

    /// The user this client authenticated as: `client.admin`.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Returns the id of the cluster, as it was learnt when connecting. Does not block.
    #[doc(alias = "rados_cluster_fsid")]
    pub fn fsid(&self) -> Result<String> {
        Ok(self.0.fsid.clone())
    }

    /// The global id of this client, as it stands in watchers and lock owners: 4123 for
    /// `client.4123`. Does not block.
    ///
    /// Implements: `rados_get_instance_id`.
    #[doc(alias = "rados_get_instance_id")]
    pub fn instance_id(&self) -> u64 {
        self.0.raw.instance_id()
    }

    /// Returns the address of this client. Record it before work that may have to be fenced.
    ///
    /// Implements: `rados_getaddrs`.
    #[doc(alias = "rados_getaddrs")]
    pub fn address(&self) -> Result<ClientAddress> {
        let address =
            self.call("read this client's address at", || self.object(), || self.0.raw.addresses())?;
        Ok(ClientAddress::from_ceph(address))
    }

    /// Whether an option could have a value: tried on a client that is never connected.
    pub(crate) fn try_config(&self, option: &str, value: &str) -> Result<()> {
        let object = || Object::new(ObjectKind::ConfigOption, option);
        let (name, value) = (c_string("try", object, option)?, c_value("try", object, value)?);
        self.call("try", object, || {
            raw::cluster::Cluster::create(c"ceph", c"client.admin")?.conf_set(&name, &value)
        })
    }

    /// Returns the features that a new image gets if none are named: the option
    /// `rbd_default_features`.
    pub fn default_features(&self) -> Result<crate::features::Features> {
        let option = "rbd_default_features";
        let value = self.config().get(option)?;
        value.parse().map_err(|error: Error| {
            Error::invalid("understand", Object::new(ObjectKind::ConfigOption, option), error.to_string())
        })
    }

    /// The version of the loaded librbd; it tells the Ceph release: 1.16 is Pacific (16), 1.20
    /// Tentacle (20).
    ///
    /// Implements: `rbd_version`.
    #[doc(alias = "rbd_version")]
    pub fn librbd_version() -> Version {
        raw::ffi::version::librbd_version()
    }

    /// The version of the loaded librados.
    ///
    /// Implements: `rados_version`.
    #[doc(alias = "rados_version")]
    pub fn librados_version() -> Version {
        raw::ffi::version::librados_version()
    }

    /// Waits until this client knows the newest OSD map, and with it new blocklist entries and
    /// pools.
    ///
    /// Implements: `rados_wait_for_latest_osdmap`.
    #[doc(alias = "rados_wait_for_latest_osdmap")]
    pub fn wait_for_latest_osdmap(&self) -> Result<()> {
        self.bounded(
            "wait for the newest OSD map of",
            || self.object(),
            move |raw| raw.wait_for_latest_osdmap(),
        )
    }

    pub(crate) fn raw(&self) -> &Arc<raw::cluster::Cluster> {
        &self.0.raw
    }

    pub(crate) fn object(&self) -> Object {
        Object::new(ObjectKind::Cluster, &*self.0.fsid)
    }

    /// Makes a call that waits for nobody, on this thread; where it fails, the error carries what
    /// Ceph logged meanwhile.
    pub(crate) fn call<T, E: Into<Failure>>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T> {
        if self.raw().is_forked() {
            return Err(forked(operation, object()));
        }
        let mark = self.log_mark();
        call().map_err(|failure| match failure.into() {
            Failure::Errno(errno) => Error::new(operation, object(), errno).with_log(self.log_since(mark)),
            Failure::Missing { symbol, needs } => {
                Error::unsupported(operation, object(), symbol, needs, library_of(symbol))
            }
        })
    }

    pub(crate) fn log_mark(&self) -> u64 {
        self.0.log.as_ref().map_or(0, Log::mark)
    }

    pub(crate) fn log_since(&self, mark: u64) -> Vec<String> {
        self.0.log.as_ref().map_or_else(Vec::new, |log| log.since(mark))
    }

    /// Without waiting. Nothing where the log goes elsewhere.
    pub(crate) fn log_written_since(&self, mark: u64) -> Option<Vec<String>> {
        self.0.log.as_ref().map(|log| log.written_since(mark))
    }
}

/// What a call of a fork gives, which has none of the threads that would carry it out.
pub(crate) fn forked(operation: impl Into<Cow<'static, str>>, object: Object) -> Error {
    let why =
        "this process is a fork of the one that connected, and has none of Ceph's threads; connect anew here";
    Error::invalid(operation, object, why)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("user", &self.0.user).finish_non_exhaustive()
    }
}
