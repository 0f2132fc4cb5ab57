//! The node's service.

use std::path::PathBuf;

use tonic::{Request, Response, Status, async_trait};

use super::controller::volume_id;
use super::{NodeService, answer, bytes, capability, required, work};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::node::{Access, Publish, Stage, Stats};
use crate::proto::csi::node_server::Node;
use crate::proto::csi::node_service_capability::{Rpc, Type, rpc};
use crate::proto::csi::volume_usage::Unit;
use crate::proto::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeCapability, VolumeUsage,
};
use crate::size::Sizes;

fn access(capability: Option<&VolumeCapability>) -> Result<Access, Status> {
    capability::access(capability.ok_or_else(|| Status::invalid_argument("volume_capability is missing"))?)
}

fn path(name: &str, path: &str) -> Result<PathBuf, Status> {
    let path = PathBuf::from(required(name, path)?);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Status::invalid_argument(format!("{name} '{}' is not an absolute path", path.display())))
    }
}

#[async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodeStageVolume", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let staging = path("staging_target_path", &request.staging_target_path)?;
            let access = access(request.volume_capability.as_ref())?;
            let id = volume_id(&request.volume_id)?;
            let class = Class::new(request.volume_context);
            class.check()?;
            let stage =
                Stage { id: id.clone(), staging, access, class, secrets: Secrets::new(request.secrets) };
            let turn = self.turns.take("NodeStageVolume", format!("volume '{id}'")).await?;
            let permit = self.stages.begin(&id.place).await?;
            let node = self.node.clone();
            let stage = move || {
                let _permit = permit;
                node.stage(&stage)
            };
            work(turn, stage).await?;
            Ok(NodeStageVolumeResponse {})
        })
        .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodeUnstageVolume", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let staging = path("staging_target_path", &request.staging_target_path)?;
            let id = volume_id(&request.volume_id)?;
            let turn = self.turns.take("NodeUnstageVolume", format!("volume '{id}'")).await?;
            let node = self.node.clone();
            work(turn, move || node.unstage(&id, &staging)).await?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodePublishVolume", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let target = path("target_path", &request.target_path)?;
            let staging = path("staging_target_path", &request.staging_target_path)?;
            let access = access(request.volume_capability.as_ref())?;
            let id = volume_id(&request.volume_id)?;
            let publish = Publish {
                id: id.clone(),
                staging,
                target,
                block: access.block,
                read_only: request.readonly || access.read_only,
                once: capability::is_for_one_pod(request.volume_capability.as_ref()),
            };
            let turn = self.turns.take("NodePublishVolume", format!("volume '{id}'")).await?;
            let node = self.node.clone();
            work(turn, move || node.publish(&publish)).await?;
            Ok(NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodeUnpublishVolume", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let target = path("target_path", &request.target_path)?;
            let turn =
                self.turns.take("NodeUnpublishVolume", format!("volume '{}'", request.volume_id)).await?;
            let node = self.node.clone();
            work(turn, move || node.unpublish(&target)).await?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodeGetVolumeStats", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let path = path("volume_path", &request.volume_path)?;
            let id = volume_id(&request.volume_id)?;
            let node = self.node.clone();
            let usage = match work(None, move || node.stats(&id, &path)).await? {
                Stats::Block(size) => vec![VolumeUsage {
                    total: bytes(size),
                    unit: Unit::Bytes.into(),
                    ..VolumeUsage::default()
                }],
                Stats::FileSystem(usage) => vec![
                    VolumeUsage {
                        available: bytes(usage.available_bytes),
                        total: bytes(usage.bytes),
                        used: bytes(usage.used_bytes),
                        unit: Unit::Bytes.into(),
                    },
                    VolumeUsage {
                        available: bytes(usage.free_inodes),
                        total: bytes(usage.inodes),
                        used: bytes(usage.inodes.saturating_sub(usage.free_inodes)),
                        unit: Unit::Inodes.into(),
                    },
                ],
            };
            Ok(NodeGetVolumeStatsResponse { usage, volume_condition: None })
        })
        .await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "NodeExpandVolume", &request.volume_id.clone(), async move {
            required("volume_id", &request.volume_id)?;
            let path = path("volume_path", &request.volume_path)?;
            let id = volume_id(&request.volume_id)?;
            let staging = match &*request.staging_target_path {
                "" => None,
                staging => Some(self::path("staging_target_path", staging)?),
            };
            let sizes = Sizes::new(request.capacity_range.as_ref())?;
            let turn = self.turns.take("NodeExpandVolume", format!("volume '{id}'")).await?;
            let node = self.node.clone();
            let size =
                work(turn, move || node.expand(&id, &path, staging.as_deref(), sizes.required())).await?;
            Ok(NodeExpandVolumeResponse { capacity_bytes: bytes(size) })
        })
        .await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        use rpc::Type::{ExpandVolume, GetVolumeStats, SingleNodeMultiWriter, StageUnstageVolume};
        let capabilities = [StageUnstageVolume, GetVolumeStats, ExpandVolume, SingleNodeMultiWriter]
            .map(|kind| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) })
            .into();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node.id().to_owned(), ..Default::default() }))
    }
}
