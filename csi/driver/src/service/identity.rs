//! Who the driver is, and whether it is alive.

use tonic::{Request, Response, Status, async_trait};

use super::{Identity, answer};
use crate::proto::csi::identity_server::Identity as Service;
use crate::proto::csi::plugin_capability::{
    Service as Offered, Type, VolumeExpansion, service, volume_expansion,
};
use crate::proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};

#[async_trait]
impl Service for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let info = GetPluginInfoResponse {
            name: self.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [("librbd".to_owned(), rbd::Cluster::librbd_version().to_string())].into(),
        };
        answer(self, "GetPluginInfo", "", async { Ok(info) }).await
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let offered = |kind: service::Type| PluginCapability {
            r#type: Some(Type::Service(Offered { r#type: kind.into() })),
        };
        let online = volume_expansion::Type::Online;
        let mut capabilities = vec![PluginCapability {
            r#type: Some(Type::VolumeExpansion(VolumeExpansion { r#type: online.into() })),
        }];
        if self.controller {
            capabilities.extend([
                offered(service::Type::ControllerService),
                offered(service::Type::GroupControllerService),
                offered(service::Type::SnapshotMetadataService),
            ]);
        }
        answer(self, "GetPluginCapabilities", "", async {
            Ok(GetPluginCapabilitiesResponse { capabilities })
        })
        .await
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        answer(self, "Probe", "", async { Ok(ProbeResponse { ready: Some(true) }) }).await
    }
}
