//! Makes one request to the node's service, as the kubelet does: for tests inside a virtual
//! machine, and to try a driver by hand.
//!
//! Prints the answer. After a failure the status is 1, and stderr has the code and the text.
#![allow(missing_docs, clippy::pedantic)]

use std::collections::HashMap;

use clap::{Args, Parser};
use hyper_util::rt::TokioIo;
use rbd_csi::proto::csi::node_client::NodeClient;
use rbd_csi::proto::csi::volume_capability::access_mode::Mode;
use rbd_csi::proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use rbd_csi::proto::csi::*;
use rbd_csi::proto::registration::InfoRequest;
use rbd_csi::proto::registration::registration_client::RegistrationClient;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// Makes one request to the node's service, as the kubelet does
#[derive(Parser)]
struct Program {
    /// The driver's socket
    #[arg(long, default_value = "/csi.sock")]
    socket: String,
    #[command(subcommand)]
    call: Call,
}

#[derive(Parser)]
enum Call {
    /// Map a volume and mount it at the staging path
    Stage {
        /// 1:CLUSTERID:POOL-ID:NAMESPACE:IMAGE-ID
        id: String,
        staging: String,
        #[command(flatten)]
        usage: Usage,
        /// userID=NAME and userKey=KEY
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        secret: Vec<(String, String)>,
        /// A parameter of the storage class
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        parameter: Vec<(String, String)>,
    },
    /// Unmount a volume from the staging path and unmap it
    Unstage { id: String, staging: String },
    /// Mount a staged volume at a pod's path
    Publish {
        id: String,
        staging: String,
        target: String,
        #[command(flatten)]
        usage: Usage,
        #[arg(long)]
        read_only: bool,
    },
    /// Unmount a volume from a pod's path
    Unpublish { id: String, target: String },
    /// Grow the file system after the image has grown; prints the new size
    Expand {
        id: String,
        path: String,
        bytes: i64,
        /// Where the volume is staged
        #[arg(long, default_value = "", hide_default_value = true)]
        staging: String,
    },
    /// Print total, used and available bytes and inodes
    Stats { id: String, path: String },
    /// Print the node's name
    Info,
    /// Print what the driver tells the kubelet when it registers; --socket is that of
    /// --registration
    Registration,
}

#[derive(Args)]
struct Usage {
    /// A block device instead of a file system
    #[arg(long)]
    block: bool,
    /// ext4 or xfs; without it, a blank image gets ext4
    #[arg(long, default_value = "", hide_default_value = true)]
    file_system: String,
    /// An option of mount; may be repeated
    #[arg(long)]
    mount_flag: Vec<String>,
    /// 1 (one node writes), 2 (one node reads), 3 (many read), 5 (many write)
    #[arg(long, default_value_t = 1)]
    mode: i32,
}

impl Usage {
    fn capability(self) -> Option<VolumeCapability> {
        let access_type = if self.block {
            AccessType::Block(BlockVolume {})
        } else {
            AccessType::Mount(MountVolume {
                fs_type: self.file_system,
                mount_flags: self.mount_flag,
                ..MountVolume::default()
            })
        };
        let mode = Mode::try_from(self.mode).unwrap_or_default().into();
        Some(VolumeCapability { access_mode: Some(AccessMode { mode }), access_type: Some(access_type) })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let program = Program::parse();
    if let Err(status) = run(program).await {
        eprintln!("{:?}\n{}", status.code(), status.message());
        std::process::exit(1);
    }
}

async fn connect(socket: String) -> Result<Channel, Status> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(format!("{error:?}")))
}

async fn run(program: Program) -> Result<(), Status> {
    let channel = connect(program.socket).await?;
    let mut node = NodeClient::new(channel.clone());
    match program.call {
        Call::Stage { id, staging, usage, secret, parameter } => {
            node.node_stage_volume(NodeStageVolumeRequest {
                volume_id: id,
                staging_target_path: staging,
                volume_capability: usage.capability(),
                secrets: HashMap::from_iter(secret),
                volume_context: HashMap::from_iter(parameter),
                ..NodeStageVolumeRequest::default()
            })
            .await?;
        }
        Call::Unstage { id, staging } => {
            let request = NodeUnstageVolumeRequest { volume_id: id, staging_target_path: staging };
            node.node_unstage_volume(request).await?;
        }
        Call::Publish { id, staging, target, usage, read_only } => {
            node.node_publish_volume(NodePublishVolumeRequest {
                volume_id: id,
                staging_target_path: staging,
                target_path: target,
                volume_capability: usage.capability(),
                readonly: read_only,
                ..NodePublishVolumeRequest::default()
            })
            .await?;
        }
        Call::Unpublish { id, target } => {
            let request = NodeUnpublishVolumeRequest { volume_id: id, target_path: target };
            node.node_unpublish_volume(request).await?;
        }
        Call::Expand { id, path, bytes, staging } => {
            let request = NodeExpandVolumeRequest {
                volume_id: id,
                volume_path: path,
                staging_target_path: staging,
                capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
                ..NodeExpandVolumeRequest::default()
            };
            println!("{}", node.node_expand_volume(request).await?.into_inner().capacity_bytes);
        }
        Call::Stats { id, path } => {
            let request = NodeGetVolumeStatsRequest {
                volume_id: id,
                volume_path: path,
                ..NodeGetVolumeStatsRequest::default()
            };
            for usage in node.node_get_volume_stats(request).await?.into_inner().usage {
                println!("{:?} {} {} {}", usage.unit(), usage.total, usage.used, usage.available);
            }
        }
        Call::Info => println!("{}", node.node_get_info(NodeGetInfoRequest {}).await?.into_inner().node_id),
        Call::Registration => {
            let info = RegistrationClient::new(channel).get_info(InfoRequest {}).await?.into_inner();
            println!("{} {} {}", info.r#type, info.name, info.endpoint);
        }
    }
    Ok(())
}
