//! What cluster is wanted.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::cluster::TestCluster;
use crate::conf::Conf;
use crate::{Error, Result, boot, ports};

/// What the OSDs store their data in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectStore {
    /// Memory: the fastest. An OSD keeps its data over [`stop_osd`](TestCluster::stop_osd) and
    /// [`start_osd`](TestCluster::start_osd), and loses it when killed.
    #[default]
    Memstore,
    /// A sparse file per OSD in the cluster's directory: what production clusters run. Data
    /// survives a kill.
    Bluestore,
}

impl fmt::Display for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectStore::Memstore => "memstore",
            ObjectStore::Bluestore => "bluestore",
        })
    }
}

/// Describes a cluster and starts it. Made by [`TestCluster::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct Builder {
    pub(crate) osds: u32,
    pub(crate) object_store: ObjectStore,
    pub(crate) osd_size: u64,
    pub(crate) replicas: u32,
    pub(crate) pools: Vec<String>,
    pub(crate) mgr: bool,
    pub(crate) extra: Conf,
    pub(crate) key_type: String,
    pub(crate) msgr1: bool,
    pub(crate) keep: Option<PathBuf>,
    pub(crate) monitor_ports: RangeInclusive<u16>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            osds: 1,
            object_store: ObjectStore::default(),
            osd_size: 8 << 30,
            replicas: 1,
            pools: vec!["rbd".to_owned()],
            mgr: true,
            extra: Conf::default(),
            key_type: "aes".to_owned(),
            msgr1: true,
            keep: None,
            monitor_ports: ports::MONITOR_PORTS,
        }
    }
}

impl Builder {
    /// How many OSDs. Default: 1.
    pub fn osds(mut self, count: u32) -> Self {
        self.osds = count;
        self
    }

    /// What the OSDs store their data in. Default: memory.
    pub fn object_store(mut self, object_store: ObjectStore) -> Self {
        self.object_store = object_store;
        self
    }

    /// The capacity of each OSD in bytes; used up only as far as data is written. Default: 8 GiB.
    pub fn osd_size(mut self, bytes: u64) -> Self {
        self.osd_size = bytes;
        self
    }

    /// On how many OSDs each object is stored. Writes go on as long as one of them runs. Default:
    /// 1.
    pub fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }

    /// The pools to create, each prepared for RBD, in place of the default: one called `rbd`.
    pub fn pools<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.pools = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether a manager runs. Default: yes. Images can be used without; `ceph -s` then knows no
    /// placement groups, and pool statistics and background tasks are not to be had. It takes 300
    /// MB of memory and half of the starting time.
    pub fn mgr(mut self, wanted: bool) -> Self {
        self.mgr = wanted;
        self
    }

    /// Sets an option for all daemons and clients (`[global]` of the configuration file).
    pub fn option(self, key: &str, value: impl fmt::Display) -> Self {
        self.section_option("global", key, value)
    }

    /// Sets an option in a section of the configuration file, such as `osd`, `osd.1` or `client`.
    pub fn section_option(mut self, section: &str, key: &str, value: impl fmt::Display) -> Self {
        self.extra.set(section, key, value);
        self
    }

    /// The type of the first keys. Default: `aes`, which every release and kernel knows; Ceph 20
    /// also has `aes256k`.
    pub fn key_type(mut self, key_type: impl Into<String>) -> Self {
        self.key_type = key_type.into();
        self
    }

    /// Whether monitor and OSDs listen for version 1 of the protocol, too, which kernels before
    /// 5.11 need. Default: yes.
    pub fn msgr1(mut self, wanted: bool) -> Self {
        self.msgr1 = wanted;
        self
    }

    /// Puts the cluster's files (configuration, keys, logs, data) into `path`, which must be empty
    /// or not exist, and leaves them there when the cluster ends. Default: a temporary directory
    /// that is removed in any case.
    pub fn keep_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.keep = Some(path.into());
        self
    }

    /// The ports of 127.0.0.1 among which two are chosen for the monitor. Keep out of 6800-7300,
    /// where the other daemons listen. Default: 21000-28999.
    pub fn monitor_ports(mut self, range: RangeInclusive<u16>) -> Self {
        self.monitor_ports = range;
        self
    }

    /// Starts the cluster and returns when it is ready: every OSD up, every placement group
    /// `active+clean`, the pools usable for RBD, the manager available, the health `HEALTH_OK`
    /// (options may prevent the latter; then the start succeeds some seconds later). Takes about 5
    /// s.
    pub fn start(self) -> Result<TestCluster> {
        self.check()?;
        boot::boot(self)
    }

    /// Refuses what cannot work before anything is touched.
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Invalid(reason));
        if self.osds == 0 || self.osds > 32 {
            return refuse(format!("{} OSDs: from 1 to 32 are possible", self.osds));
        }
        if self.replicas == 0 || self.replicas > self.osds {
            return refuse(format!(
                "{} replicas on {} OSDs: from 1 to the number of OSDs are possible",
                self.replicas, self.osds
            ));
        }
        if self.osd_size < 1 << 30 {
            return refuse(format!("an OSD of {} bytes: 1 GiB is the least", self.osd_size));
        }
        for (at, pool) in self.pools.iter().enumerate() {
            if pool.is_empty() || pool.starts_with('.') || pool.contains(['/', '@', '\0']) {
                return refuse(format!("{pool:?} is no usable pool name"));
            }
            if self.pools[..at].contains(pool) {
                return refuse(format!("the pool {pool:?} is wanted twice"));
            }
        }
        self.extra.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: Builder) -> String {
        builder.start().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        let builder = Builder::default;
        assert_eq!(refusal(builder().osds(0)), "0 OSDs: from 1 to 32 are possible");
        assert!(refusal(builder().osds(2).replicas(3)).starts_with("3 replicas on 2 OSDs"));
        assert!(refusal(builder().osd_size(5)).starts_with("an OSD of 5 bytes"));
        assert_eq!(refusal(builder().pools(["a", "a"])), "the pool \"a\" is wanted twice");
        assert_eq!(refusal(builder().pools(["a/b"])), "\"a/b\" is no usable pool name");
        assert!(refusal(builder().option("a\nb", 1)).contains("no name of a Ceph option"));
    }
}
