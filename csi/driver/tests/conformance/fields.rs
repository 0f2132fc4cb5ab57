//! Each call without each field that it needs: INVALID_ARGUMENT, and the text names the field. The
//! same request with all fields is not refused in this way.

use rbd_csi::proto::csi::*;
use tonic::{Code, Status};

use super::driver::{CLUSTER, Driver, MIB, code, create, mount, secrets};

/// Checks one call. Fields behind the semicolon are paths, which must also be absolute.
macro_rules! call {
    ($wrong:ident, $client:expr, $call:ident, $whole:expr, [$($field:ident),*; $($path:ident),*]) => {{
        let whole = $whole;
        if let Err(status) = $client.$call(whole.clone()).await && status.code() == Code::InvalidArgument {
            $wrong.push(format!("{} with all fields: {}", stringify!($call), status.message()));
        }
        let mut without = Vec::new();
        $({
            let mut request = whole.clone();
            request.$field = Default::default();
            without.push((stringify!($field), request));
        })*
        $({
            let mut request = whole.clone();
            request.$path = Default::default();
            without.push((stringify!($path), request));
            let mut request = whole.clone();
            request.$path = "relative/path".into();
            without.push((stringify!($path), request));
        })*
        for (field, request) in without {
            let names_it = |status: &Status| status.message().contains(field);
            let what = match $client.$call(request).await {
                Err(status) if status.code() == Code::InvalidArgument && names_it(&status) => continue,
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
                Ok(_) => "success".to_owned(),
            };
            $wrong.push(format!("{} without {field}: {what}", stringify!($call)));
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_needs_its_fields() {
    let mut driver = Driver::start().await;
    let volume_id = driver.volume("a").await.volume_id;
    let snapshot_id = driver.snapshot("s", &volume_id).await.unwrap().snapshot_id;
    // A volume and a group snapshot that are not there: nothing is done on this machine.
    let gone = format!("1:{CLUSTER}:1::abcdef");
    let group_snapshot_id = format!("1:{CLUSTER}:1::group:gone");
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (staging_target_path, target_path) = (path("stage"), path("pod"));
    let capacity_range = Some(CapacityRange { required_bytes: MIB, limit_bytes: 0 });
    let mut wrong = Vec::new();

    let controller = &mut driver.controller;
    call!(wrong, controller, create_volume, create("b", 16), [name, volume_capabilities;]);
    let whole = DeleteVolumeRequest { volume_id: gone.clone(), secrets: secrets() };
    call!(wrong, controller, delete_volume, whole, [volume_id;]);
    let whole = ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.clone(),
        volume_capabilities: vec![mount()],
        secrets: secrets(),
        ..Default::default()
    };
    call!(wrong, controller, validate_volume_capabilities, whole, [volume_id, volume_capabilities;]);
    let whole = ControllerGetVolumeRequest { volume_id: volume_id.clone() };
    call!(wrong, controller, controller_get_volume, whole, [volume_id;]);
    let whole = ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range,
        secrets: secrets(),
        volume_capability: None,
    };
    call!(wrong, controller, controller_expand_volume, whole, [volume_id, capacity_range;]);
    let whole = CreateSnapshotRequest {
        source_volume_id: volume_id.clone(),
        name: "t".into(),
        secrets: secrets(),
        ..Default::default()
    };
    call!(wrong, controller, create_snapshot, whole, [source_volume_id, name;]);
    let whole = GetSnapshotRequest { snapshot_id: snapshot_id.clone(), secrets: secrets() };
    call!(wrong, controller, get_snapshot, whole, [snapshot_id;]);
    let whole = DeleteSnapshotRequest { snapshot_id: format!("{gone}@1"), secrets: secrets() };
    call!(wrong, controller, delete_snapshot, whole, [snapshot_id;]);

    let groups = &mut driver.groups;
    let whole = CreateVolumeGroupSnapshotRequest {
        name: "g".into(),
        source_volume_ids: vec![volume_id.clone()],
        secrets: secrets(),
        ..Default::default()
    };
    call!(wrong, groups, create_volume_group_snapshot, whole, [name, source_volume_ids;]);
    let whole = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: group_snapshot_id.clone(),
        snapshot_ids: vec![],
        secrets: secrets(),
    };
    call!(wrong, groups, get_volume_group_snapshot, whole, [group_snapshot_id;]);
    let whole =
        DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids: vec![], secrets: secrets() };
    call!(wrong, groups, delete_volume_group_snapshot, whole, [group_snapshot_id;]);

    let blocks = &mut driver.blocks;
    let whole = GetMetadataAllocatedRequest {
        snapshot_id: snapshot_id.clone(),
        secrets: secrets(),
        ..Default::default()
    };
    call!(wrong, blocks, get_metadata_allocated, whole, [snapshot_id;]);
    let whole = GetMetadataDeltaRequest {
        base_snapshot_id: snapshot_id.clone(),
        target_snapshot_id: snapshot_id,
        secrets: secrets(),
        ..Default::default()
    };
    call!(wrong, blocks, get_metadata_delta, whole, [base_snapshot_id, target_snapshot_id;]);

    let node = &mut driver.node;
    let whole = NodeStageVolumeRequest {
        volume_id: gone.clone(),
        staging_target_path: staging_target_path.clone(),
        volume_capability: Some(mount()),
        secrets: secrets(),
        volume_context: super::driver::class(),
        ..Default::default()
    };
    call!(wrong, node, node_stage_volume, whole, [volume_id, volume_capability; staging_target_path]);
    let whole = NodePublishVolumeRequest {
        volume_id: gone.clone(),
        staging_target_path: staging_target_path.clone(),
        target_path: target_path.clone(),
        volume_capability: Some(mount()),
        ..Default::default()
    };
    call!(
        wrong,
        node,
        node_publish_volume,
        whole,
        [volume_id, volume_capability; staging_target_path, target_path]
    );
    let whole = NodeUnpublishVolumeRequest { volume_id: gone.clone(), target_path };
    call!(wrong, node, node_unpublish_volume, whole, [volume_id; target_path]);
    let whole = NodeUnstageVolumeRequest { volume_id: gone.clone(), staging_target_path };
    call!(wrong, node, node_unstage_volume, whole, [volume_id; staging_target_path]);
    let whole =
        NodeGetVolumeStatsRequest { volume_id: gone.clone(), volume_path: path("pod"), ..Default::default() };
    call!(wrong, node, node_get_volume_stats, whole, [volume_id; volume_path]);
    let whole = NodeExpandVolumeRequest { volume_id: gone, volume_path: path("pod"), ..Default::default() };
    call!(wrong, node, node_expand_volume, whole, [volume_id; volume_path]);

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

/// What the driver does not offer, it says so, and its lists of capabilities leave it out.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_not_offered_are_unimplemented() {
    use controller_service_capability::{Type, rpc};
    let driver = Driver::start().await;
    let mut controller = driver.controller.clone();
    let publish = controller.controller_publish_volume(ControllerPublishVolumeRequest::default()).await;
    assert_eq!(code(publish), Code::Unimplemented);
    let unpublish = controller.controller_unpublish_volume(ControllerUnpublishVolumeRequest::default()).await;
    assert_eq!(code(unpublish), Code::Unimplemented);
    let modify = controller.controller_modify_volume(ControllerModifyVolumeRequest::default()).await;
    assert_eq!(code(modify), Code::Unimplemented);
    let able = controller.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await.unwrap();
    let mut able: Vec<_> = able
        .into_inner()
        .capabilities
        .into_iter()
        .map(|able| match able.r#type.unwrap() {
            Type::Rpc(rpc) => rpc.r#type().as_str_name(),
        })
        .collect();
    able.sort_unstable();
    let mut offered = [
        rpc::Type::CreateDeleteVolume,
        rpc::Type::CreateDeleteSnapshot,
        rpc::Type::CloneVolume,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
        rpc::Type::GetSnapshot,
        rpc::Type::ListVolumes,
        rpc::Type::GetCapacity,
        rpc::Type::GetVolume,
        rpc::Type::ListSnapshots,
    ]
    .map(|kind| kind.as_str_name());
    offered.sort_unstable();
    assert_eq!(able, offered);
}
