//! The arguments of the driver's program.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A CSI driver for Ceph block devices: RBD images as volumes of Kubernetes
///
/// Run it once with --controller beside the provisioner, and on each node with --node. It maps
/// images itself, by the kernel, and keeps one connection for each cluster and user.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// The socket to serve on
    #[arg(long, env = "CSI_ENDPOINT", default_value = "unix:///csi/csi.sock")]
    pub endpoint: String,
    /// The file of clusters: a JSON list of {"clusterID": …, "monitors": […]}
    #[arg(long, default_value = "/etc/ceph-csi-config/config.json")]
    pub clusters: PathBuf,
    /// The driver's name: the provisioner of its storage classes
    #[arg(long, default_value = crate::DEFAULT_NAME)]
    pub driver_name: String,
    /// Create and delete volumes and snapshots
    #[arg(long)]
    pub controller: bool,
    /// Map and mount volumes on this node
    #[arg(long, requires = "node_id")]
    pub node: bool,
    /// This node's name
    #[arg(long, env = "NODE_ID")]
    pub node_id: Option<String>,
    /// With --node: the socket by which the kubelet finds the driver, such as
    /// /registration/rbd.csi.ceph.com-reg.sock
    #[arg(long, requires = "node")]
    pub registration: Option<PathBuf>,
    /// With --registration: the driver's socket as the kubelet sees it
    #[arg(long, requires = "registration")]
    pub kubelet_endpoint: Option<PathBuf>,
    /// Flatten a volume in the background when it has so many ancestors
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub flatten_depth: u8,
    /// Seconds that staging waits for another user of the image to go; a node that has died counts
    /// as one for 30 s
    #[arg(long, default_value_t = 45)]
    pub wait_for_users: u64,
    /// Seconds that a map may take
    #[arg(long, default_value_t = 60)]
    pub map_timeout: u64,
    /// Seconds that requests in flight may take after SIGTERM or SIGINT; a second signal ends the
    /// driver at once
    #[arg(long, default_value_t = 5)]
    pub grace: u64,
    /// Serve metrics in Prometheus' format, and liveness, on this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<String>,
    /// What to log: error, warn, info, debug, or a filter such as rbd_csi=debug
    #[arg(long, default_value = "info")]
    pub log: String,
    /// How to log
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// A JSON object a line.
    Json,
}
