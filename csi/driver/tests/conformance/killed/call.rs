//! The requests that change something.

use std::time::{Duration, Instant};

use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::group_controller_client::GroupControllerClient;
use rbd_csi::proto::csi::*;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::super::driver::{MIB, secrets};

/// A client that was killed counts as a user of an image for 30 s.
const SOON: Duration = Duration::from_secs(150);

/// A user that stays longer is a client that died in the moment when it began to watch the image:
/// see docs/releases.md, "A dead client that stays a watcher".
const STAYS: Duration = Duration::from_secs(60);

/// A request that changes something.
#[derive(Debug, Clone)]
pub enum Call {
    Create(Box<CreateVolumeRequest>),
    Delete(String),
    Expand(String),
    Snapshot { volume: String, name: String },
    DeleteSnapshot(String),
    Group { volumes: Vec<String>, name: String },
    DeleteGroup(VolumeGroupSnapshot),
}

/// What a request has made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    Volume(Volume),
    Snapshot(Snapshot),
    Group(VolumeGroupSnapshot),
    Size(i64),
    Nothing,
}

impl Call {
    pub async fn send(self, channel: Channel) -> Result<Made, Status> {
        let (mut controller, mut groups) =
            (ControllerClient::new(channel.clone()), GroupControllerClient::new(channel));
        let secrets = secrets();
        Ok(match self {
            Call::Create(request) => {
                Made::Volume(controller.create_volume(*request).await?.into_inner().volume.unwrap())
            }
            Call::Delete(volume_id) => {
                controller.delete_volume(DeleteVolumeRequest { volume_id, secrets }).await?;
                Made::Nothing
            }
            Call::Expand(volume_id) => {
                let capacity_range = Some(CapacityRange { required_bytes: 64 * MIB, limit_bytes: 0 });
                let volume_capability = None;
                let request =
                    ControllerExpandVolumeRequest { volume_id, capacity_range, secrets, volume_capability };
                Made::Size(controller.controller_expand_volume(request).await?.into_inner().capacity_bytes)
            }
            Call::Snapshot { volume: source_volume_id, name } => {
                let request = CreateSnapshotRequest { source_volume_id, name, secrets, ..Default::default() };
                Made::Snapshot(controller.create_snapshot(request).await?.into_inner().snapshot.unwrap())
            }
            Call::DeleteSnapshot(snapshot_id) => {
                controller.delete_snapshot(DeleteSnapshotRequest { snapshot_id, secrets }).await?;
                Made::Nothing
            }
            Call::Group { volumes: source_volume_ids, name } => {
                let request = CreateVolumeGroupSnapshotRequest {
                    source_volume_ids,
                    name,
                    secrets,
                    ..Default::default()
                };
                let answer = groups.create_volume_group_snapshot(request).await?.into_inner();
                Made::Group(answer.group_snapshot.unwrap())
            }
            Call::DeleteGroup(taken) => {
                let request = DeleteVolumeGroupSnapshotRequest {
                    snapshot_ids: taken.snapshots.iter().map(|taken| taken.snapshot_id.clone()).collect(),
                    group_snapshot_id: taken.group_snapshot_id,
                    secrets,
                };
                groups.delete_volume_group_snapshot(request).await?;
                Made::Nothing
            }
        })
    }

    /// Makes the request until it succeeds, as the callers of a driver do. Fails with what a caller
    /// does not wait for, and after a while.
    pub async fn converge(self, channel: Channel) -> Result<Made, Status> {
        let (begun, mut is_forgotten) = (Instant::now(), false);
        loop {
            let status = match self.clone().send(channel.clone()).await {
                Err(status) => status,
                made => return made,
            };
            let waits = [Code::Aborted, Code::Unavailable, Code::FailedPrecondition];
            if !waits.contains(&status.code()) || begun.elapsed() > SOON {
                return Err(status);
            }
            if !is_forgotten && begun.elapsed() > STAYS && status.message().contains("is in use by") {
                println!("the OSDs are marked down, because {}", status.message());
                rbd_testcluster::shared().mon_query("osd down", json!({ "ids": ["any"] })).unwrap();
                is_forgotten = true;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
