//! Lists of volumes and snapshots, in pages; and how many operations requests take.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use rbd_csi::class::Class;
use rbd_csi::clusters::{Clusters, Secrets};
use rbd_csi::config::Config;
use rbd_csi::controller::{Controller, CreateVolume, Options, Volume};
use rbd_csi::proto::csi::controller_service_capability::{Type, rpc};
use rbd_csi::proto::csi::{
    ControllerGetCapabilitiesRequest, ControllerGetVolumeRequest, GetCapacityRequest, ListSnapshotsRequest,
    ListVolumesRequest,
};
use rbd_csi::size::Sizes;
use rbd_testcluster::TestCluster;
use tonic::Code;

use super::driver::{CLUSTER, DEPTH, Driver, MIB, MOST, class, code};

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

/// How many operations the OSD of this cluster has done.
fn operations(daemons: &TestCluster) -> u64 {
    let socket = daemons.directory().join("run/osd.0.asok");
    let output =
        Command::new("ceph").arg("--admin-daemon").arg(socket).args(["perf", "dump", "osd"]).output();
    let figures: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    figures["osd"]["op"].as_u64().unwrap()
}

/// A list opens no image: that would take over ten operations for each. A volume is created without
/// opening one, too.
#[test]
fn requests_take_few_operations() {
    const VOLUMES: u64 = 40;
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let pool = admin.ioctx("rbd").unwrap();
    let home = tempfile::tempdir().unwrap();
    let key_file = home.path().join("key");
    std::fs::write(&key_file, daemons.key("admin").unwrap()).unwrap();
    let config = serde_json::json!([{
        "clusterID": CLUSTER, "monitors": [admin.config().get("mon_host").unwrap()],
        "user": "admin", "keyFile": key_file, "pools": ["rbd"],
    }]);
    let clusters = Arc::new(Clusters::new(Config::parse(&config.to_string()).unwrap()));
    let controller = Controller::new(clusters, Options { flatten_depth: DEPTH, most_snapshots: MOST });
    let create = |name: String| {
        let (sizes, class) = (Sizes::new(None).unwrap(), Class::new(class()));
        let request = CreateVolume { name, sizes, class, source: None, secrets: Secrets::default() };
        controller.create(&request).unwrap()
    };
    create("warm".into());
    let before = operations(&daemons);
    let volumes: Vec<Volume> = (0..VOLUMES).map(|number| create(format!("v{number}"))).collect();
    let created = operations(&daemons) - before;
    assert!(created < 20 * VOLUMES, "{created} operations for {VOLUMES} volumes");
    for volume in &volumes {
        let image = pool.open(&volume.image).run().unwrap();
        image.snapshots().create(&format!("csi-snap-{}", volume.image)).run().unwrap();
        image.close().unwrap();
    }

    let before = operations(&daemons);
    assert_eq!(controller.volumes(None, 0).unwrap().entries.len() as u64, VOLUMES + 1);
    let listed = operations(&daemons) - before;
    assert!(listed < 3 * VOLUMES, "{listed} operations for a list of {VOLUMES} volumes");

    let before = operations(&daemons);
    let snapshots = controller.snapshots(None, None, 0, &Secrets::default()).unwrap();
    assert_eq!(snapshots.entries.len() as u64, VOLUMES);
    let listed = operations(&daemons) - before;
    assert!(listed < 4 * VOLUMES, "{listed} operations for a list of {VOLUMES} snapshots");
}
