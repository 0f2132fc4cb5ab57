//! The kubelet's registration of the driver, without a container beside it.

use std::path::PathBuf;

use tonic::{Request, Response, Status, async_trait};

use crate::proto::registration::registration_server::Registration;
use crate::proto::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// Tells the kubelet where the driver's socket is.
#[derive(Debug, Clone)]
pub struct Registrar {
    /// The driver's name.
    pub name: String,
    /// The driver's socket, as the kubelet sees it.
    pub endpoint: PathBuf,
}

#[async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: self.name.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!("the kubelet has registered this driver");
        } else {
            tracing::error!(reason = status.error, "the kubelet did not register this driver");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
