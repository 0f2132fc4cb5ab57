//! The controller's service.

use tonic::{Request, Response, Status, async_trait};

use super::{ControllerService, answer, bytes, capability, max_entries, required, work};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::controller::{CreateVolume, Snapshot, Source, Volume};
use crate::ids::{SnapshotId, VolumeId};
use crate::proto::csi;
use crate::proto::csi::controller_server::Controller as Service;
use crate::proto::csi::controller_service_capability::{Rpc, Type, rpc};
use crate::proto::csi::volume_content_source;
#[allow(clippy::wildcard_imports)] // nearly all messages
use crate::proto::csi::*;
use crate::size::Sizes;

/// Parses an id of an object that must exist. An id that this driver has not made is NOT_FOUND.
pub(super) fn volume_id(text: &str) -> Result<VolumeId, Status> {
    let text = required("volume_id", text)?;
    text.parse().map_err(|_| Status::not_found(format!("volume '{text}' does not exist")))
}

pub(super) fn snapshot_id(text: &str) -> Result<SnapshotId, Status> {
    let text = required("snapshot_id", text)?;
    text.parse().map_err(|_| Status::not_found(format!("snapshot '{text}' does not exist")))
}

pub(super) fn snapshot(snapshot: &Snapshot) -> csi::Snapshot {
    csi::Snapshot {
        size_bytes: bytes(snapshot.size),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.id.volume.to_string(),
        creation_time: Some(snapshot.created.into()),
        ready_to_use: true,
        group_snapshot_id: snapshot.group.clone().unwrap_or_default(),
    }
}

fn volume(volume: &Volume) -> csi::Volume {
    csi::Volume {
        capacity_bytes: bytes(volume.size),
        volume_id: volume.id.to_string(),
        volume_context: [("imageName".to_owned(), volume.image.clone())].into(),
        ..csi::Volume::default()
    }
}

fn source(content: Option<&VolumeContentSource>) -> Result<Option<Source>, Status> {
    use volume_content_source::Type;
    match content.map(|content| content.r#type.as_ref()) {
        None => Ok(None),
        Some(Some(Type::Snapshot(source))) => Ok(Some(Source::Snapshot(snapshot_id(&source.snapshot_id)?))),
        Some(Some(Type::Volume(source))) => Ok(Some(Source::Volume(volume_id(&source.volume_id)?))),
        Some(None) => Err(Status::invalid_argument("the type of volume_content_source is missing")),
    }
}

impl ControllerService {
    /// Requests for lists have no secrets, so they need the driver's own user.
    fn must_list(&self) -> Result<(), Status> {
        if self.identity.lists {
            return Ok(());
        }
        Err(Status::unimplemented(
            "this call comes without secrets: set 'user', 'keyFile' and 'pools' of a cluster in the driver's \
             file of clusters",
        ))
    }
}

#[async_trait]
impl Service for ControllerService {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        let name = request.name.clone();
        answer(&self.identity, "CreateVolume", &name, async move {
            let name = required("name", &request.name)?.to_owned();
            capability::check_all(&request.volume_capabilities)?;
            if !request.mutable_parameters.is_empty() {
                return Err(Status::invalid_argument("this driver has no mutable_parameters"));
            }
            let create = CreateVolume {
                name: name.clone(),
                sizes: Sizes::new(request.capacity_range.as_ref())?,
                class: Class::read_new(request.parameters)?,
                source: source(request.volume_content_source.as_ref())?,
                secrets: Secrets::new(request.secrets),
            };
            let turn = self.turns.take("CreateVolume", format!("volume '{name}'")).await?;
            let controller = self.controller.clone();
            let (made, class) = work(turn, move || Ok((controller.create(&create)?, create.class))).await?;
            let mut answer = volume(&made);
            answer.volume_context.extend(class.into_context());
            answer.content_source = request.volume_content_source;
            Ok(CreateVolumeResponse { volume: Some(answer) })
        })
        .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "DeleteVolume", &request.volume_id.clone(), async move {
            // An id that this driver has not made names no volume, so there is nothing to delete.
            let Ok(id) = required("volume_id", &request.volume_id)?.parse::<VolumeId>() else {
                return Ok(DeleteVolumeResponse {});
            };
            let secrets = Secrets::new(request.secrets);
            let turn = self.turns.take("DeleteVolume", format!("volume '{id}'")).await?;
            let controller = self.controller.clone();
            work(turn, move || controller.delete(&id, &secrets)).await?;
            Ok(DeleteVolumeResponse {})
        })
        .await
    }

    async fn controller_publish_volume(
        &self,
        _: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        Err(Status::unimplemented("volumes need no attaching: set attachRequired to false in the CSIDriver"))
    }

    async fn controller_unpublish_volume(
        &self,
        _: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        Err(Status::unimplemented("volumes need no attaching: set attachRequired to false in the CSIDriver"))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        use validate_volume_capabilities_response::Confirmed;
        let request = request.into_inner();
        answer(&self.identity, "ValidateVolumeCapabilities", &request.volume_id.clone(), async move {
            let id = volume_id(&request.volume_id)?;
            if request.volume_capabilities.is_empty() {
                return Err(Status::invalid_argument("volume_capabilities is missing"));
            }
            let secrets = Secrets::new(request.secrets);
            let controller = self.controller.clone();
            let exists = work(None, {
                let id = id.clone();
                move || controller.exists(&id, &secrets)
            });
            if !exists.await? {
                return Err(Status::not_found(format!("volume '{id}' does not exist")));
            }
            let unfit = capability::check_all(&request.volume_capabilities).err();
            let message = unfit.as_ref().map(|status| status.message().to_owned()).unwrap_or_default();
            let confirmed = unfit.is_none().then_some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            });
            Ok(ValidateVolumeCapabilitiesResponse { confirmed, message })
        })
        .await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "ListVolumes", "", async move {
            self.must_list()?;
            let max = max_entries(request.max_entries)?;
            let after = token::<VolumeId>(&request.starting_token)?;
            let controller = self.controller.clone();
            let page = work(None, move || controller.volumes(after.as_ref(), max)).await?;
            let entry =
                |made: &Volume| list_volumes_response::Entry { volume: Some(volume(made)), status: None };
            Ok(ListVolumesResponse {
                entries: page.entries.iter().map(entry).collect(),
                next_token: page.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "GetCapacity", "", async move {
            self.must_list()?;
            if !request.volume_capabilities.is_empty()
                && capability::check_all(&request.volume_capabilities).is_err()
            {
                return Ok(GetCapacityResponse::default());
            }
            let class = Class::new(request.parameters);
            let controller = self.controller.clone();
            let available = work(None, move || controller.capacity(&class)).await?;
            Ok(GetCapacityResponse { available_capacity: bytes(available), ..Default::default() })
        })
        .await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        use rpc::Type::{
            CloneVolume, CreateDeleteSnapshot, CreateDeleteVolume, ExpandVolume, GetCapacity, GetSnapshot,
            GetVolume, ListSnapshots, ListVolumes, SingleNodeMultiWriter,
        };
        let always = [
            CreateDeleteVolume,
            CreateDeleteSnapshot,
            CloneVolume,
            ExpandVolume,
            SingleNodeMultiWriter,
            GetSnapshot,
        ];
        let with_user = [ListVolumes, GetCapacity, GetVolume, ListSnapshots];
        let offered = always.into_iter().chain(with_user.into_iter().filter(|_| self.identity.lists));
        let capabilities = offered
            .map(|kind| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) })
            .collect();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "CreateSnapshot", &request.name.clone(), async move {
            let name = required("name", &request.name)?.to_owned();
            required("source_volume_id", &request.source_volume_id)?;
            let id = volume_id(&request.source_volume_id)?;
            let (class, secrets) = (Class::read_new(request.parameters)?, Secrets::new(request.secrets));
            let turn = self.turns.take("CreateSnapshot", format!("snapshot '{name}'")).await?;
            let controller = self.controller.clone();
            let taken = work(turn, move || controller.create_snapshot(&name, &id, &class, &secrets)).await?;
            Ok(CreateSnapshotResponse { snapshot: Some(snapshot(&taken)) })
        })
        .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "DeleteSnapshot", &request.snapshot_id.clone(), async move {
            let Ok(id) = required("snapshot_id", &request.snapshot_id)?.parse::<SnapshotId>() else {
                return Ok(DeleteSnapshotResponse {});
            };
            let secrets = Secrets::new(request.secrets);
            let turn = self.turns.take("DeleteSnapshot", format!("snapshot '{id}'")).await?;
            let controller = self.controller.clone();
            work(turn, move || controller.delete_snapshot(&id, &secrets)).await?;
            Ok(DeleteSnapshotResponse {})
        })
        .await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "ListSnapshots", &request.snapshot_id.clone(), async move {
            let max = max_entries(request.max_entries)?;
            let after = token::<SnapshotId>(&request.starting_token)?;
            let secrets = Secrets::new(request.secrets);
            let controller = self.controller.clone();
            let (one, volume) = (request.snapshot_id, request.source_volume_id);
            let none = ListSnapshotsResponse::default();
            let page = if !one.is_empty() {
                let Ok(id) = one.parse::<SnapshotId>() else { return Ok(none) };
                if !volume.is_empty() && id.volume.to_string() != volume {
                    return Ok(none);
                }
                match work(None, move || controller.snapshot(&id, &secrets)).await {
                    Err(status) if status.code() == tonic::Code::NotFound => return Ok(none),
                    found => crate::controller::Page { entries: vec![found?], next: None },
                }
            } else if !volume.is_empty() {
                let Ok(id) = volume.parse::<VolumeId>() else { return Ok(none) };
                work(None, move || controller.snapshots(Some(&id), after.as_ref(), max, &secrets)).await?
            } else {
                self.must_list()?;
                work(None, move || controller.snapshots(None, after.as_ref(), max, &secrets)).await?
            };
            let entry = |taken: &Snapshot| list_snapshots_response::Entry { snapshot: Some(snapshot(taken)) };
            Ok(ListSnapshotsResponse {
                entries: page.entries.iter().map(entry).collect(),
                next_token: page.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "GetSnapshot", &request.snapshot_id.clone(), async move {
            let (id, secrets) = (snapshot_id(&request.snapshot_id)?, Secrets::new(request.secrets));
            let controller = self.controller.clone();
            let found = work(None, move || controller.snapshot(&id, &secrets)).await?;
            Ok(GetSnapshotResponse { snapshot: Some(snapshot(&found)) })
        })
        .await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "ControllerExpandVolume", &request.volume_id.clone(), async move {
            let id = volume_id(&request.volume_id)?;
            let range = request.capacity_range.as_ref();
            let sizes = Sizes::new(range)?;
            if range.is_none() {
                return Err(Status::invalid_argument("capacity_range is missing"));
            }
            let secrets = Secrets::new(request.secrets);
            let turn = self.turns.take("ControllerExpandVolume", format!("volume '{id}'")).await?;
            let controller = self.controller.clone();
            let size = work(turn, move || controller.expand(&id, sizes, &secrets)).await?;
            // The kernel announces the new size of a block volume, but only the node knows when it
            // has done so.
            Ok(ControllerExpandVolumeResponse { capacity_bytes: bytes(size), node_expansion_required: true })
        })
        .await
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "ControllerGetVolume", &request.volume_id.clone(), async move {
            self.must_list()?;
            let id = volume_id(&request.volume_id)?;
            let controller = self.controller.clone();
            let found = work(None, move || controller.volume(&id)).await?;
            Ok(ControllerGetVolumeResponse { volume: Some(volume(&found)), status: None })
        })
        .await
    }

    async fn controller_modify_volume(
        &self,
        _: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        Err(Status::unimplemented("this driver has no mutable parameters"))
    }
}

/// The id after which a page begins.
fn token<T: std::str::FromStr>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Status::aborted(format!(
            "this driver has not returned the starting_token '{text}'; begin the list anew"
        ))
    })
}
