//! What the driver says about itself.

use rbd_csi::proto::csi::plugin_capability::{Type, service};
use rbd_csi::proto::csi::{GetPluginCapabilitiesRequest, GetPluginInfoRequest, ProbeRequest};

use super::driver::Driver;

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_says_who_it_is_and_what_it_can() {
    let mut driver = Driver::start().await;
    let info = driver.identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, rbd_csi::DEFAULT_NAME);
    assert!(!info.vendor_version.is_empty());
    let able = driver.identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap();
    let services: Vec<service::Type> = able
        .into_inner()
        .capabilities
        .iter()
        .filter_map(|able| match able.r#type.as_ref()? {
            Type::Service(service) => Some(service.r#type()),
            Type::VolumeExpansion(_) => None,
        })
        .collect();
    assert_eq!(
        services,
        [
            service::Type::ControllerService,
            service::Type::GroupControllerService,
            service::Type::SnapshotMetadataService
        ]
    );
    let probe = driver.identity.probe(ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(true));
}
