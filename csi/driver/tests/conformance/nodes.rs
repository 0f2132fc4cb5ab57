//! What the node refuses. What it does is tested on a real kernel: see the test `vm`.

use rbd_csi::proto::csi::*;
use tonic::Code;

use super::driver::{CLUSTER, Driver, class, code, mount, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn the_node_says_who_it_is() {
    let mut driver = Driver::start().await;
    let info = driver.node.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.node_id, "node-1");
    let able = driver.node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap();
    assert_eq!(able.into_inner().capabilities.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_fail_before_anything_is_touched() {
    let mut driver = Driver::start().await;
    let home = tempfile::tempdir().unwrap();
    let (there, gone) = (home.path().display().to_string(), format!("{}/gone", home.path().display()));
    let missing = format!("1:{CLUSTER}:1::abcdef");
    let stage = |id: &str, path: &str, capability: Option<VolumeCapability>| NodeStageVolumeRequest {
        volume_id: id.into(),
        staging_target_path: path.into(),
        volume_capability: capability,
        secrets: secrets(),
        volume_context: class(),
        ..NodeStageVolumeRequest::default()
    };
    for (request, expected) in [
        (stage("", &there, Some(mount())), Code::InvalidArgument),
        (stage(&missing, "", Some(mount())), Code::InvalidArgument),
        (stage(&missing, "relative", Some(mount())), Code::InvalidArgument),
        (stage(&missing, &there, None), Code::InvalidArgument),
        (stage("x", &there, Some(mount())), Code::NotFound),
        (stage(&missing, &there, Some(mount())), Code::NotFound),
    ] {
        let text = format!("{} {}", request.volume_id, request.staging_target_path);
        assert_eq!(code(driver.node.node_stage_volume(request).await), expected, "{text}");
    }
    let publish = |id: &str, staging: &str, target: &str, capability| NodePublishVolumeRequest {
        volume_id: id.into(),
        staging_target_path: staging.into(),
        target_path: target.into(),
        volume_capability: capability,
        ..NodePublishVolumeRequest::default()
    };
    for (request, expected) in [
        (publish("", &there, &gone, Some(mount())), Code::InvalidArgument),
        (publish(&missing, "", &gone, Some(mount())), Code::InvalidArgument),
        (publish(&missing, &there, "", Some(mount())), Code::InvalidArgument),
        (publish(&missing, &there, &gone, None), Code::InvalidArgument),
        (publish(&missing, &there, &gone, Some(mount())), Code::FailedPrecondition),
    ] {
        assert_eq!(code(driver.node.node_publish_volume(request).await), expected);
    }
    for (id, path, expected) in [
        ("", &*gone, Code::InvalidArgument),
        (&*missing, "", Code::InvalidArgument),
        (&*missing, &*gone, Code::Ok),
    ] {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: path.into() };
        assert_eq!(code(driver.node.node_unpublish_volume(request).await), expected, "{id} {path}");
    }
    for (id, path, expected) in [
        ("", &*there, Code::InvalidArgument),
        (&*missing, "", Code::InvalidArgument),
        (&*missing, &*gone, Code::NotFound),
        (&*missing, &*there, Code::NotFound),
    ] {
        let request = NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: path.into(),
            ..NodeGetVolumeStatsRequest::default()
        };
        assert_eq!(code(driver.node.node_get_volume_stats(request).await), expected, "{id} {path}");
        let request = NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: path.into(),
            ..NodeExpandVolumeRequest::default()
        };
        assert_eq!(code(driver.node.node_expand_volume(request).await), expected, "{id} {path}");
    }
    assert!(!std::path::Path::new(&gone).exists());
}
