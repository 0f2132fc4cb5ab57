use std::collections::BTreeSet;

use rbd_csi::proto::csi::controller_service_capability::{Type, rpc};
use rbd_csi::proto::csi::{
    ControllerGetCapabilitiesRequest, ControllerGetVolumeRequest, GetCapacityRequest, ListSnapshotsRequest,
    ListVolumesRequest,
};
use tonic::Code;

use super::driver::{Driver, MIB, class, code};

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_snapshots_are_listed_in_pages() {
    let mut driver = Driver::start().await;
    let (mut volumes, mut snapshots) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..7 {
        let volume = driver.volume(&format!("v{number}")).await;
        let taken = driver.snapshot(&format!("s{number}"), &volume.volume_id).await.unwrap();
        volumes.insert(volume.volume_id);
        snapshots.insert(taken.snapshot_id);
    }
    for max_entries in [0, 1, 3, 7, 100] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = ListVolumesRequest { max_entries, starting_token: token };
            let answer = driver.controller.list_volumes(request).await.unwrap().into_inner();
            assert!(max_entries == 0 || answer.entries.len() <= max_entries as usize);
            for entry in answer.entries {
                let volume = entry.volume.unwrap();
                assert_eq!(volume.capacity_bytes, 16 * MIB);
                found.push(volume.volume_id);
            }
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len(), 7, "{max_entries}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), volumes);

        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = ListSnapshotsRequest {
                max_entries,
                starting_token: token,
                ..ListSnapshotsRequest::default()
            };
            let answer = driver.controller.list_snapshots(request).await.unwrap().into_inner();
            found.extend(answer.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id));
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len(), 7, "{max_entries}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), snapshots);
    }
    for (max_entries, token, expected) in
        [(0, "no token", Code::Aborted), (0, "1", Code::Aborted), (-1, "", Code::InvalidArgument)]
    {
        let request = ListVolumesRequest { max_entries, starting_token: token.into() };
        assert_eq!(code(driver.controller.list_volumes(request).await), expected);
        let request = ListSnapshotsRequest {
            max_entries,
            starting_token: token.into(),
            ..ListSnapshotsRequest::default()
        };
        assert_eq!(code(driver.controller.list_snapshots(request).await), expected);
    }
    let id = volumes.first().unwrap().clone();
    let request = ControllerGetVolumeRequest { volume_id: id.clone() };
    let answer = driver.controller.controller_get_volume(request).await.unwrap().into_inner();
    assert_eq!(answer.volume.unwrap().volume_id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_user_of_its_own_the_driver_lists_nothing_and_says_so() {
    let mut driver = Driver::with(false).await;
    let able = driver.controller.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await;
    let able = able.unwrap().into_inner().capabilities;
    let has = |kind: rpc::Type| {
        able.iter().any(|able| matches!(&able.r#type, Some(Type::Rpc(rpc)) if rpc.r#type() == kind))
    };
    assert!(
        has(rpc::Type::CreateDeleteVolume) && !has(rpc::Type::ListVolumes) && !has(rpc::Type::GetCapacity)
    );
    let list = driver.controller.list_volumes(ListVolumesRequest::default()).await.unwrap_err();
    assert_eq!(list.code(), Code::Unimplemented);
    assert!(list.message().contains("'keyFile'"), "{list}");
    let request = GetCapacityRequest { parameters: class(), ..GetCapacityRequest::default() };
    assert_eq!(code(driver.controller.get_capacity(request).await), Code::Unimplemented);
    // With secrets everything else works.
    driver.volume("a").await;
}
