//! The output of `ceph -s` and `ceph osd tree` as values.
//!
//! Only fields that tests use are read. All have a default, because releases differ.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The state of the cluster, from `ceph -s`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The id of the cluster.
    pub fsid: String,
    /// The health and its problems.
    pub health: Health,
    /// The monitors that are in the quorum.
    pub quorum_names: Vec<String>,
    /// The OSDs in numbers.
    pub osdmap: OsdCounts,
    /// The placement groups in numbers.
    pub pgmap: PgCounts,
    /// The managers.
    pub mgrmap: MgrState,
}

/// The health of the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Health {
    /// `HEALTH_OK`, `HEALTH_WARN` or `HEALTH_ERR`.
    pub status: String,
    /// The problems, by the code of their check.
    pub checks: BTreeMap<String, HealthCheck>,
}

/// A problem.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HealthCheck {
    /// `HEALTH_WARN` or `HEALTH_ERR`.
    pub severity: String,
    /// The problem in a sentence.
    pub summary: HealthSummary,
    /// Whether the check is muted.
    pub muted: bool,
}

/// The sentence of a health check.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HealthSummary {
    /// The sentence.
    pub message: String,
}

/// How many OSDs there are, and in which state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OsdCounts {
    /// All OSDs.
    #[serde(rename = "num_osds")]
    pub all: u32,
    /// The running ones.
    #[serde(rename = "num_up_osds")]
    pub up: u32,
    /// Those that receive data.
    #[serde(rename = "num_in_osds")]
    pub r#in: u32,
}

/// Pools, placement groups and space.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PgCounts {
    /// The number of placement groups in each state.
    pub pgs_by_state: Vec<PgState>,
    /// All placement groups.
    pub num_pgs: u64,
    /// All pools.
    pub num_pools: u64,
    /// All objects.
    pub num_objects: u64,
    /// The data of clients, in bytes.
    pub data_bytes: u64,
    /// The used space of the OSDs, in bytes.
    pub bytes_used: u64,
    /// The free space of the OSDs, in bytes.
    pub bytes_avail: u64,
    /// The space of all OSDs, in bytes.
    pub bytes_total: u64,
}

/// How many placement groups are in a state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PgState {
    /// The state, such as `active+clean`.
    pub state_name: String,
    /// How many.
    pub count: u64,
}

/// The managers.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MgrState {
    /// Whether a manager is active and accepts commands.
    pub available: bool,
    /// The number of standbys.
    pub num_standbys: u32,
}

impl Status {
    /// Returns whether there is no problem.
    pub fn is_healthy(&self) -> bool {
        self.health.status == "HEALTH_OK"
    }

    /// Returns how many placement groups are active and clean, such as `active+clean` and
    /// `active+clean+scrubbing`.
    pub fn clean_pgs(&self) -> u64 {
        let states = self.pgmap.pgs_by_state.iter();
        states.filter(|state| state.state_name.starts_with("active+clean")).map(|state| state.count).sum()
    }

    /// Returns one readable line: health, OSDs, placement groups.
    pub fn summary(&self) -> String {
        let checks: Vec<_> = self
            .health
            .checks
            .iter()
            .filter(|(_, check)| !check.muted)
            .map(|(code, check)| format!("{code}: {}", check.summary.message))
            .collect();
        let pgs: Vec<_> = self
            .pgmap
            .pgs_by_state
            .iter()
            .map(|state| format!("{} {}", state.count, state.state_name))
            .collect();
        format!(
            "{}{}{}; {} osds: {} up, {} in; pgs: {}",
            self.health.status,
            if checks.is_empty() { "" } else { " " },
            checks.join(", "),
            self.osdmap.all,
            self.osdmap.up,
            self.osdmap.r#in,
            if pgs.is_empty() { "none".to_owned() } else { pgs.join(", ") },
        )
    }
}

/// The OSDs and their buckets, from `ceph osd tree`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OsdTree {
    /// Buckets (negative ids) and OSDs, each after its parent.
    pub nodes: Vec<OsdNode>,
    /// OSDs that are in no bucket.
    pub stray: Vec<OsdNode>,
}

/// A bucket or an OSD.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OsdNode {
    /// Its number; negative for buckets.
    pub id: i64,
    /// Its name, such as `osd.0`.
    pub name: String,
    /// `root`, `host`, `osd` …
    #[serde(rename = "type")]
    pub kind: String,
    /// The device class, for OSDs.
    pub device_class: Option<String>,
    /// Its share of the data, usually in TiB.
    pub crush_weight: Option<f64>,
    /// Its depth in the tree.
    pub depth: Option<usize>,
    /// `up`, `down` or `destroyed`, for OSDs.
    pub status: Option<String>,
    /// Between 0 (it receives no data) and 1.
    pub reweight: Option<f64>,
    /// The share of reads that it serves as primary.
    pub primary_affinity: Option<f64>,
    /// The ids of its children.
    pub children: Vec<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_summed_up() {
        let text = r#"{"fsid": "f", "health": {"status": "HEALTH_WARN", "checks": {"OSD_DOWN":
            {"severity": "HEALTH_WARN", "summary": {"message": "1 osds down", "count": 1}, "muted": false},
            "OTHER": {"summary": {"message": "never mind"}, "muted": true}}},
            "osdmap": {"epoch": 9, "num_osds": 2, "num_up_osds": 1, "num_in_osds": 2}, "mgrmap": {"available": true},
            "pgmap": {"pgs_by_state": [{"state_name": "active+clean", "count": 3},
            {"state_name": "stale+active+clean", "count": 5}], "num_pgs": 8}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!(status.clean_pgs(), 3);
        assert!(!status.is_healthy() && status.mgrmap.available);
        assert_eq!(
            status.summary(),
            "HEALTH_WARN OSD_DOWN: 1 osds down; 2 osds: 1 up, 2 in; pgs: 3 active+clean, 5 stale+active+clean"
        );
    }
}
