//! The usage of a cluster and its pools.

use super::Cluster;
use crate::error::Result;
use crate::raw;

/// Usage of a whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterUsage {
    /// Raw capacity in bytes.
    pub total: u64,
    /// Raw bytes used, including all replicas and overhead.
    pub used: u64,
    /// Raw bytes free.
    pub available: u64,
    /// Number of objects.
    pub objects: u64,
}

/// Usage of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolUsage {
    /// Bytes in the pool's objects.
    pub bytes: u64,
    /// Number of objects.
    pub objects: u64,
    /// Number of object copies.
    pub object_copies: u64,
    /// Number of object copies that are missing on the primary OSD.
    pub missing_on_primary: u64,
    /// Number of objects that no OSD has.
    pub unfound: u64,
    /// Number of objects with fewer copies than wanted.
    pub degraded: u64,
    /// Read operations served.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write operations served.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Cluster {
    /// Returns the usage of the cluster. The numbers come from the manager and lag by seconds.
    ///
    /// Implements: `rados_cluster_stat`.
    #[doc(alias = "rados_cluster_stat")]
    pub fn usage(&self) -> Result<ClusterUsage> {
        let stat = self.bounded("read the usage of", || self.object(), move |raw| raw.stat())?;
        Ok(ClusterUsage {
            total: stat.kb.saturating_mul(1024),
            used: stat.kb_used.saturating_mul(1024),
            available: stat.kb_avail.saturating_mul(1024),
            objects: stat.num_objects,
        })
    }
}

impl PoolUsage {
    pub(crate) fn from_raw(stat: raw::ioctx::PoolStat) -> PoolUsage {
        PoolUsage {
            bytes: stat.num_bytes,
            objects: stat.num_objects,
            object_copies: stat.num_object_copies,
            missing_on_primary: stat.num_objects_missing_on_primary,
            unfound: stat.num_objects_unfound,
            degraded: stat.num_objects_degraded,
            reads: stat.num_rd,
            read_bytes: stat.num_rd_kb.saturating_mul(1024),
            writes: stat.num_wr,
            written_bytes: stat.num_wr_kb.saturating_mul(1024),
        }
    }
}
