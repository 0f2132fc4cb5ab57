//! A driver of the Container Storage Interface (CSI): RBD images as volumes of Kubernetes.
//!
//! The layers, from the bottom:
//!
//! - `proto` is the interface, compiled from `proto/`.
//! - `args`, `config`, `class`, `ids`, `size`, `slips`, `status`, `turns` are values and rules
//!   without a cluster.
//! - `clusters` keeps one connection for each cluster and user.
//! - `calls` makes single calls of the OSDs' class `rbd`.
//! - `notes` keeps what the driver must know about a volume later, in the metadata of its image.
//! - `controller` and `node` do the work, in blocking calls of `rbd` and `rbd_volume`.
//! - `metrics` counts and times the requests.
//! - `service` turns requests into those calls, and `server` serves them on a socket.

#![forbid(unsafe_code)]

pub mod args;
mod calls;
pub mod class;
pub mod clusters;
pub mod config;
pub mod controller;
pub mod ids;
pub mod metrics;
pub mod node;
mod notes;
pub mod proto;
pub mod server;
pub mod service;
pub mod size;
mod slips;
pub mod status;
pub mod turns;

/// The driver's name unless `--driver-name` says another.
pub const DEFAULT_NAME: &str = "rbd.csi.ceph.com";
