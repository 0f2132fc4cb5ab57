//! The file of clusters: which clusters there are, and where their monitors are.
//!
//! It has the form of ceph-csi's file `config.json`: a JSON list of objects with `clusterID` and
//! `monitors`. `rbd.radosNamespace` puts all volumes of a cluster into a namespace of their pools.
//! `user`, `keyFile` and `pools` are this driver's own: with them the controller can answer the
//! calls that come without secrets (list volumes, get a volume, capacity).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One cluster of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClusterConfig {
    /// The name by which classes mean this cluster.
    #[serde(rename = "clusterID")]
    pub id: String,
    /// The monitors' addresses.
    pub monitors: Vec<String>,
    /// Settings of block devices.
    #[serde(default)]
    pub rbd: RbdConfig,
    /// The user of the calls that come without secrets.
    pub user: Option<String>,
    /// The file with that user's key.
    #[serde(rename = "keyFile")]
    pub key_file: Option<PathBuf>,
    /// The pools whose volumes are listed.
    #[serde(default)]
    pub pools: Vec<String>,
}

/// Settings of block devices in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RbdConfig {
    /// The namespace of the volumes in their pools.
    #[serde(rename = "radosNamespace", default)]
    pub namespace: String,
}

/// All clusters, by their names.
#[derive(Debug, Clone, Default)]
pub struct Config(BTreeMap<String, ClusterConfig>);

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the file of clusters '{}'", path.display()))?;
        Config::parse(&text).with_context(|| format!("cannot use the file of clusters '{}'", path.display()))
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Config> {
        let list: Vec<ClusterConfig> = serde_json::from_str(text).context("it is no list of clusters")?;
        let mut all = BTreeMap::new();
        for cluster in list {
            let id = cluster.id.clone();
            if id.is_empty() || id.len() > 64 || id.contains(':') {
                bail!("the clusterID '{id}' is empty, has a colon, or is longer than 64 bytes; correct it");
            }
            if cluster.monitors.is_empty() {
                bail!("cluster '{id}' has no monitors; add their addresses to 'monitors'");
            }
            if cluster.rbd.namespace.contains(':') {
                bail!("the radosNamespace of cluster '{id}' has a colon; use another namespace");
            }
            if cluster.user.is_some() != cluster.key_file.is_some() {
                bail!("cluster '{id}' needs both 'user' and 'keyFile', or neither");
            }
            if all.insert(id.clone(), cluster).is_some() {
                bail!("it has the clusterID '{id}' twice; remove one of the two clusters");
            }
        }
        Ok(Config(all))
    }

    /// Returns a cluster by its name.
    pub fn get(&self, id: &str) -> Option<&ClusterConfig> {
        self.0.get(id)
    }

    /// Returns the clusters for which the driver has its own user, in order of their names.
    pub fn with_user(&self) -> impl Iterator<Item = &ClusterConfig> {
        self.0.values().filter(|cluster| cluster.user.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_other_drivers_are_read() {
        let config = Config::parse(
            r#"[
                {"clusterID": "a", "monitors": ["10.0.0.1:6789", "10.0.0.2"],
                 "cephFS": {"subvolumeGroup": "x"}},
                {"clusterID": "b", "monitors": ["m"],
                 "rbd": {"radosNamespace": "ns", "mirrorDaemonCount": 1},
                 "user": "csi", "keyFile": "/key", "pools": ["p"]}
            ]"#,
        )
        .unwrap();
        assert_eq!(config.get("a").unwrap().rbd.namespace, "");
        assert_eq!(config.get("b").unwrap().rbd.namespace, "ns");
        assert_eq!(config.with_user().map(|cluster| &*cluster.id).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn faults_are_told() {
        for (text, told) in [
            ("{}", "no list of clusters"),
            (r#"[{"clusterID": "", "monitors": ["m"]}]"#, "is empty"),
            (r#"[{"clusterID": "a:b", "monitors": ["m"]}]"#, "has a colon"),
            (r#"[{"clusterID": "a", "monitors": []}]"#, "has no monitors"),
            (r#"[{"clusterID": "a", "monitors": ["m"], "user": "u"}]"#, "needs both"),
            (r#"[{"clusterID": "a", "monitors": ["m"]}, {"clusterID": "a", "monitors": ["m"]}]"#, "twice"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
