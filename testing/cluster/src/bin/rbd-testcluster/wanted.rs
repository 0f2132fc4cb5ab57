//! The options that describe a cluster.

use std::path::PathBuf;
use std::time::Instant;

use rbd_testcluster::{ObjectStore, TestCluster};

use crate::Result;

#[derive(clap::Args)]
pub(crate) struct Wanted {
    /// How many OSDs
    #[arg(long, default_value_t = 1, value_name = "N")]
    osds: u32,
    /// The store of the OSDs; memstore loses its data when the OSD is killed
    #[arg(long, value_enum, default_value_t = Store::Memstore)]
    objectstore: Store,
    /// How many OSDs store each object
    #[arg(long, default_value_t = 1, value_name = "N")]
    replicas: u32,
    /// A pool to create, initialised for RBD; may be repeated
    #[arg(long = "pool", default_value = "rbd", value_name = "NAME")]
    pools: Vec<String>,
    /// Run no manager: starts faster and needs 300 MB less
    #[arg(long)]
    no_mgr: bool,
    /// The type of the keys; Ceph 20 also has `aes256k`, which older clients and kernels do not
    /// know
    #[arg(long, default_value = "aes", value_name = "TYPE")]
    key_type: String,
    /// Listen only for version 2 of the protocol
    #[arg(long)]
    no_msgr1: bool,
    /// Set a Ceph option; may be repeated. SECTION is `global` if not given
    #[arg(short = 'o', long = "option", value_name = "[SECTION:]KEY=VALUE", value_parser = parse_option)]
    options: Vec<(String, String, String)>,
    /// Put the cluster's files into this empty directory and leave them there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Store {
    Memstore,
    Bluestore,
}

fn parse_option(text: &str) -> std::result::Result<(String, String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no `=`")?;
    let (section, key) = name.split_once(':').unwrap_or(("global", name));
    Ok((section.trim().to_owned(), key.trim().to_owned(), value.trim().to_owned()))
}

impl Wanted {
    /// Starts the cluster and prints that.
    pub(crate) fn start(self) -> Result<TestCluster> {
        let store = match self.objectstore {
            Store::Memstore => ObjectStore::Memstore,
            Store::Bluestore => ObjectStore::Bluestore,
        };
        let mut builder = TestCluster::builder()
            .osds(self.osds)
            .object_store(store)
            .replicas(self.replicas)
            .pools(self.pools)
            .mgr(!self.no_mgr)
            .key_type(self.key_type)
            .msgr1(!self.no_msgr1);
        for (section, key, value) in &self.options {
            builder = builder.section_option(section, key, value);
        }
        if let Some(directory) = self.keep {
            builder = builder.keep_directory(directory);
        }
        let begin = Instant::now();
        let cluster = builder.start()?;
        eprintln!(
            "rbd-testcluster: cluster {} is ready after {:.1} s",
            cluster.fsid(),
            begin.elapsed().as_secs_f32()
        );
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_option;

    #[test]
    fn an_option_may_name_its_section() {
        let parsed = |section: &str, key: &str, value: &str| {
            Ok((section.to_owned(), key.to_owned(), value.to_owned()))
        };
        assert_eq!(parse_option("a b=1"), parsed("global", "a b", "1"));
        assert_eq!(parse_option("osd: a = x=y:z"), parsed("osd", "a", "x=y:z"));
        assert!(parse_option("a").is_err());
    }
}
