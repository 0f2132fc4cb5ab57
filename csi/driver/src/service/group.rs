//! The service of group snapshots.

use tonic::{Request, Response, Status, async_trait};

use super::controller::{snapshot, volume_id};
use super::{ControllerService, answer, required, work};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::controller::GroupSnapshot;
use crate::ids::{GroupSnapshotId, SnapshotId, VolumeId};
use crate::proto::csi::group_controller_server::GroupController;
use crate::proto::csi::group_controller_service_capability::{Rpc, Type, rpc};
use crate::proto::csi::{
    CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse, DeleteVolumeGroupSnapshotRequest,
    DeleteVolumeGroupSnapshotResponse, GetVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotResponse,
    GroupControllerGetCapabilitiesRequest, GroupControllerGetCapabilitiesResponse,
    GroupControllerServiceCapability, VolumeGroupSnapshot,
};

fn group_snapshot(taken: &GroupSnapshot) -> VolumeGroupSnapshot {
    VolumeGroupSnapshot {
        group_snapshot_id: taken.id.to_string(),
        snapshots: taken.snapshots.iter().map(snapshot).collect(),
        creation_time: taken.snapshots.iter().map(|taken| taken.created).min().map(Into::into),
        ready_to_use: true,
    }
}

/// Parses ids of snapshots. An id that this driver has not made is no part of a group snapshot.
fn parts(snapshots: &[String]) -> Result<Vec<SnapshotId>, Status> {
    let part = |id: &String| {
        id.parse()
            .map_err(|_| Status::invalid_argument(format!("snapshot '{id}' is no part of a group snapshot")))
    };
    snapshots.iter().map(part).collect()
}

#[async_trait]
impl GroupController for ControllerService {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let kind = rpc::Type::CreateDeleteGetVolumeGroupSnapshot.into();
        let capability = GroupControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind })) };
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities: vec![capability] }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "CreateVolumeGroupSnapshot", &request.name.clone(), async move {
            let name = required("name", &request.name)?.to_owned();
            if request.source_volume_ids.is_empty() {
                return Err(Status::invalid_argument("source_volume_ids is missing"));
            }
            let ids: Vec<VolumeId> =
                request.source_volume_ids.iter().map(|id| volume_id(id)).collect::<Result<_, _>>()?;
            let (class, secrets) = (Class::read_new(request.parameters)?, Secrets::new(request.secrets));
            let turn =
                self.turns.take("CreateVolumeGroupSnapshot", format!("group snapshot '{name}'")).await?;
            let controller = self.controller.clone();
            let taken =
                work(turn, move || controller.create_group_snapshot(&name, &ids, &class, &secrets)).await?;
            Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(group_snapshot(&taken)) })
        })
        .await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        let object = request.group_snapshot_id.clone();
        answer(&self.identity, "DeleteVolumeGroupSnapshot", &object, async move {
            let text = required("group_snapshot_id", &request.group_snapshot_id)?;
            let Ok(id) = text.parse::<GroupSnapshotId>() else {
                return Ok(DeleteVolumeGroupSnapshotResponse {});
            };
            let (parts, secrets) = (parts(&request.snapshot_ids)?, Secrets::new(request.secrets));
            let turn = self.turns.take("DeleteVolumeGroupSnapshot", format!("group snapshot '{id}'")).await?;
            let controller = self.controller.clone();
            work(turn, move || controller.delete_group_snapshot(&id, &parts, &secrets)).await?;
            Ok(DeleteVolumeGroupSnapshotResponse {})
        })
        .await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        let object = request.group_snapshot_id.clone();
        answer(&self.identity, "GetVolumeGroupSnapshot", &object, async move {
            let text = required("group_snapshot_id", &request.group_snapshot_id)?;
            let id: GroupSnapshotId = text
                .parse()
                .map_err(|_| Status::not_found(format!("group snapshot '{text}' does not exist")))?;
            let (parts, secrets) = (parts(&request.snapshot_ids)?, Secrets::new(request.secrets));
            let controller = self.controller.clone();
            let found = work(None, move || controller.parts_of_group_snapshot(&id, &parts, &secrets)).await?;
            Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(group_snapshot(&found)) })
        })
        .await
    }
}
