//! Connects to a cluster, and manages its pools, keys, commands, logs and blocklist.
//!
//! ```no_run
//! use rbd::cluster::Key;
//! let key: Key = "AQBhOKFiAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==".into();
//! let cluster = rbd::Cluster::builder().user("backup").monitors("10.0.0.1").key(key).connect()?;
//! println!("{:?}", cluster.pools().list()?);
//! # Ok::<(), rbd::Error>(())
//! ```

mod blocklist;
pub(crate) mod bounded;
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
mod safeguards;
mod service;
mod timeouts;
mod usage;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::address::ClientAddress;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::{c_string, c_value};
use crate::raw::ffi::late::{Failure, library_of};
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
/// A `Cluster` is cheap to clone. The clones share one connection, which ends when the last clone
/// and everything opened from it are dropped. All methods that talk to the cluster block the
/// calling thread. The timeouts of the [builder](Cluster::builder) limit how long; for an operation
/// that reports progress and for a long transfer, the call timeout applies to each step. The end of
/// the connection blocks for at most the call timeout, and then continues in the background.
///
/// A forked process must connect again: handles that it inherited fail, and dropping them leaks
/// them.
///
/// Drop the last clone before `main` returns, and do not keep one in a static. A connection has
/// threads of its own, which crash if the exit destroys data that they use. `std::process::exit`
/// drops nothing. The process then waits for operations in flight and for calls on threads of this
/// crate, for at most 2 s (250 ms if a callback of librbd exits the process). It does not wait for
/// calls that run on your own threads, as management calls do with
/// [`call_timeout(None)`](ClusterBuilder::call_timeout), and not reliably for what other threads
/// begin meanwhile.
///
/// If a connection is open when a process exits, the exit handlers of the program run (those of
/// `atexit`), and the buffers of C's streams (`FILE`) are written. Then this crate ends the process
/// with its exit status, and the destructors of shared libraries do not run (with glibc only).
///
/// The first connection initialises OpenSSL without its exit handler, because threads that connect
/// during an exit would crash after that handler. If the program has used the same shared OpenSSL
/// before, the handler stays: then join the threads that connect before the program exits. The
/// crate `openssl` leaves the handler out, too.
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
    /// `None` if the configuration sends the log elsewhere.
    log: Option<Log>,
    user: String,
    /// Read once, when connecting: reading it takes a lock that librados holds during callbacks.
    fsid: String,
    /// Read once, for the same reason.
    instance_id: u64,
}

impl Cluster {
    /// Returns a builder that sets the user, configuration and timeouts of a connection.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// Connects as the `rbd` command does without options: as `client.admin` unless CEPH_ARGS names
    /// another user, with the configuration file that CEPH_ARGS, CEPH_CONF or else the default
    /// search path names. Blocks like [`ClusterBuilder::connect`].
    pub fn connect() -> Result<Cluster> {
        Cluster::builder().connect()
    }

    /// Returns the user that this client authenticated as, such as `client.admin`.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// Returns the id of the cluster, which was read when connecting. Does not block.
    #[doc(alias = "rados_cluster_fsid")]
    pub fn fsid(&self) -> Result<String> {
        Ok(self.0.fsid.clone())
    }

    /// Returns the global id of this client, as watchers and lock owners show it: 4123 for
    /// `client.4123`. Does not block.
    ///
    /// Implements: `rados_get_instance_id`.
    #[doc(alias = "rados_get_instance_id")]
    pub fn instance_id(&self) -> u64 {
        self.0.instance_id
    }

    /// Returns the address of this client. Record it before the work starts if others may have to
    /// fence this client. Does not block.
    ///
    /// Implements: `rados_getaddrs`.
    #[doc(alias = "rados_getaddrs")]
    pub fn address(&self) -> Result<ClientAddress> {
        let address =
            self.call("read this client's address at", || self.object(), || self.0.raw.addresses())?;
        Ok(ClientAddress::from_ceph(address))
    }

    /// Checks that an option accepts a value, on a client that never connects.
    pub(crate) fn try_config(&self, option: &str, value: &str) -> Result<()> {
        let object = || Object::new(ObjectKind::ConfigOption, option);
        let (name, value) = (c_string("try", object, option)?, c_value("try", object, value)?);
        self.call("try", object, || {
            raw::cluster::Cluster::create(c"ceph", c"client.admin")?.conf_set(&name, &value)
        })
    }

    /// Returns the features that a new image has by default: those of the option
    /// `rbd_default_features`.
    pub fn default_features(&self) -> Result<crate::features::Features> {
        let option = "rbd_default_features";
        let value = self.config().get(option)?;
        value.parse().map_err(|error: Error| {
            Error::invalid("understand", Object::new(ObjectKind::ConfigOption, option), error.to_string())
        })
    }

    /// Returns the version of the loaded librbd, which identifies the Ceph release: 1.16 is Pacific
    /// (16), 1.20 is Tentacle (20).
    ///
    /// Implements: `rbd_version`.
    #[doc(alias = "rbd_version")]
    pub fn librbd_version() -> Version {
        raw::ffi::version::librbd_version()
    }

    /// Returns the version of the loaded librados.
    ///
    /// Implements: `rados_version`.
    #[doc(alias = "rados_version")]
    pub fn librados_version() -> Version {
        raw::ffi::version::librados_version()
    }

    /// Waits until this client knows the newest OSD map, and with it new blocklist entries and
    /// pools. Blocks for at most the call timeout.
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

    /// Makes a call that never waits, on this thread. If it fails, the error contains what Ceph
    /// logged meanwhile.
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

    /// Returns the lines logged since `mark`, without waiting. `None` if the log goes elsewhere.
    pub(crate) fn log_written_since(&self, mark: u64) -> Option<Vec<String>> {
        self.0.log.as_ref().map(|log| log.written_since(mark))
    }
}

/// Returns the error of a call in a forked process, which has none of Ceph's threads.
pub(crate) fn forked(operation: impl Into<Cow<'static, str>>, object: Object) -> Error {
    let why = "this process was forked from the one that connected, and has none of Ceph's \
        threads; connect again here";
    Error::invalid(operation, object, why)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("user", &self.0.user).finish_non_exhaustive()
    }
}
