//! The description of a cluster.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::cluster::TestCluster;
use crate::conf::Conf;
use crate::{Error, Result, boot, ports};

/// The store of the OSDs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectStore {
    /// In memory, the fastest. An OSD keeps its data across [`stop_osd`](TestCluster::stop_osd) and
    /// [`start_osd`](TestCluster::start_osd), and loses it when it is killed.
    #[default]
    Memstore,
    /// A sparse file per OSD in the cluster's directory, the store of production clusters. Data
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

/// Describes a cluster and starts it: see [`TestCluster::builder`].
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
    /// Sets the number of OSDs. Default: 1.
    pub fn osds(mut self, count: u32) -> Self {
        self.osds = count;
        self
    }

    /// Sets the store of the OSDs. Default: memory.
    pub fn object_store(mut self, object_store: ObjectStore) -> Self {
        self.object_store = object_store;
        self
    }

    /// Sets the capacity of each OSD in bytes. Only written data takes space. Default: 8 GiB.
    pub fn osd_size(mut self, bytes: u64) -> Self {
        self.osd_size = bytes;
        self
    }

    /// Sets how many OSDs store each object. Writes work as long as one of them runs. Default: 1.
    pub fn replicas(mut self, count: u32) -> Self {
        self.replicas = count;
        self
    }

    /// Sets the pools to create, each initialised for RBD. Default: one called `rbd`.
    pub fn pools<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.pools = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether a manager runs. Default: on. Images work without it, but `ceph -s` shows no
    /// placement groups, and there are no pool statistics and background tasks. It needs 300 MB of
    /// memory and half of the starting time.
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

    /// Sets the type of the first keys. Default: `aes`, which every release and kernel knows. Ceph
    /// 20 also has `aes256k`.
    pub fn key_type(mut self, key_type: impl Into<String>) -> Self {
        self.key_type = key_type.into();
        self
    }

    /// Sets whether monitor and OSDs also listen for version 1 of the protocol, which kernels
    /// before 5.11 need. Default: on.
    pub fn msgr1(mut self, wanted: bool) -> Self {
        self.msgr1 = wanted;
        self
    }

    /// Puts the cluster's files (configuration, keys, logs, data) into `path`, and leaves them
    /// there when the cluster ends. The directory must be empty or not exist. Default: a temporary
    /// directory, which is always removed.
    pub fn keep_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.keep = Some(path.into());
        self
    }

    /// Sets the ports of 127.0.0.1 from which two are chosen for the monitor. Avoid 6800-7300
    /// and 8000-20799, where other daemons listen. Default: 21000-28999.
    pub fn monitor_ports(mut self, range: RangeInclusive<u16>) -> Self {
        self.monitor_ports = range;
        self
    }

    /// Starts the cluster and returns when it is ready: every OSD up, every placement group
    /// `active+clean`, the pools usable for RBD, the manager available, the health `HEALTH_OK` (if
    /// options prevent the last, the start succeeds some seconds later). Takes about 5 s.
    pub fn start(self) -> Result<TestCluster> {
        self.check()?;
        boot::boot(self)
    }

    /// Refuses invalid settings before anything is touched.
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
