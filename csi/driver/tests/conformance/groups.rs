//! Snapshots of several volumes at one point in time.

use rbd_csi::proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetMetadataDeltaRequest,
    GetSnapshotRequest, GetVolumeGroupSnapshotRequest, ListSnapshotsRequest, Snapshot, VolumeGroupSnapshot,
};
use tonic::{Code, Status};

use super::driver::{Driver, code, create, from_snapshot, secrets};

pub async fn take(driver: &Driver, name: &str, volumes: &[&str]) -> Result<VolumeGroupSnapshot, Status> {
    let request = CreateVolumeGroupSnapshotRequest {
        name: name.into(),
        source_volume_ids: volumes.iter().map(|id| (*id).to_owned()).collect(),
        secrets: secrets(),
        ..CreateVolumeGroupSnapshotRequest::default()
    };
    let answer = driver.groups.clone().create_volume_group_snapshot(request).await?;
    Ok(answer.into_inner().group_snapshot.unwrap())
}

pub async fn delete(driver: &Driver, taken: &VolumeGroupSnapshot) -> Result<(), Status> {
    let request = DeleteVolumeGroupSnapshotRequest {
        group_snapshot_id: taken.group_snapshot_id.clone(),
        snapshot_ids: taken.snapshots.iter().map(|taken| taken.snapshot_id.clone()).collect(),
        secrets: secrets(),
    };
    driver.groups.clone().delete_volume_group_snapshot(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_snapshotted_together() {
    let driver = Driver::start().await;
    let (a, b, c) = (driver.volume("a").await, driver.volume("b").await, driver.volume("c").await);
    for (name, byte) in [("csi-vol-a", 1), ("csi-vol-b", 2)] {
        let image = driver.pool.open(name).run().unwrap();
        image.write_all_at(&[byte; 4096], 0).unwrap();
        image.close().unwrap();
    }
    let volumes = [&*a.volume_id, &*b.volume_id];
    let taken = take(&driver, "g", &volumes).await.unwrap();
    assert_eq!(taken.snapshots.len(), 2);
    assert!(taken.ready_to_use && taken.creation_time.is_some());
    for (snapshot, volume) in taken.snapshots.iter().zip(volumes) {
        assert_eq!(snapshot.source_volume_id, volume);
        assert_eq!(snapshot.group_snapshot_id, taken.group_snapshot_id);
    }
    assert_eq!(take(&driver, "g", &volumes).await.unwrap(), taken);
    // The volumes are free for the next group.
    let second = take(&driver, "h", &[&b.volume_id, &c.volume_id]).await.unwrap();
    assert_eq!(code(take(&driver, "g", &[&a.volume_id, &c.volume_id]).await), Code::AlreadyExists);

    // A part of the volumes is not the same request.
    assert_eq!(code(take(&driver, "g", &[&a.volume_id]).await), Code::AlreadyExists);

    let request = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: taken.group_snapshot_id.clone(),
        snapshot_ids: taken.snapshots.iter().map(|taken| taken.snapshot_id.clone()).collect(),
        secrets: secrets(),
    };
    let found = driver.groups.clone().get_volume_group_snapshot(request).await.unwrap().into_inner();
    assert_eq!(found.group_snapshot.unwrap(), taken);

    // Its parts are snapshots like others.
    let part = &taken.snapshots[0];
    let request = GetSnapshotRequest { snapshot_id: part.snapshot_id.clone(), secrets: secrets() };
    let found = driver.controller.clone().get_snapshot(request).await.unwrap().into_inner().snapshot;
    assert_eq!(found.as_ref(), Some(part));
    let alone = driver.snapshot("alone", &a.volume_id).await.unwrap();
    for (source_volume_id, expected) in [(a.volume_id.clone(), 2), (String::new(), 5)] {
        let request = ListSnapshotsRequest { source_volume_id, secrets: secrets(), ..Default::default() };
        let list = driver.controller.clone().list_snapshots(request).await.unwrap().into_inner().entries;
        let list: Vec<Snapshot> = list.into_iter().map(|entry| entry.snapshot.unwrap()).collect();
        assert_eq!(list.len(), expected, "{list:?}");
        assert!(list.contains(part) && list.contains(&alone), "{list:?}");
    }
    // Only librbd of Ceph 18.2 or later finds changes since a part of a group snapshot.
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: part.snapshot_id.clone(),
        target_snapshot_id: alone.snapshot_id.clone(),
        secrets: secrets(),
        ..GetMetadataDeltaRequest::default()
    };
    let delta = driver.blocks.clone().get_metadata_delta(request).await;
    let delta = match delta {
        Ok(stream) => stream.into_inner().message().await.map(drop),
        Err(status) => Err(status),
    };
    let found = code(delta);
    assert!(matches!(found, Code::Ok | Code::Unimplemented), "{found:?}");

    // Snapshots that are no parts of it.
    let request = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: taken.group_snapshot_id.clone(),
        snapshot_ids: vec![part.snapshot_id.clone(), alone.snapshot_id.clone()],
        secrets: secrets(),
    };
    let found = driver.groups.clone().get_volume_group_snapshot(request).await;
    assert_eq!(code(found), Code::InvalidArgument);
    let wrong = VolumeGroupSnapshot { snapshots: vec![alone.clone()], ..taken.clone() };
    assert_eq!(code(delete(&driver, &wrong).await), Code::InvalidArgument);
    driver.delete_snapshot(&alone.snapshot_id).await.unwrap();

    // A volume of a part of it. A volume with a similar name stays.
    let similar = driver.create(create("restored.part", 16)).await.unwrap();
    let mut restore = create("restored", 16);
    restore.volume_content_source = from_snapshot(&taken.snapshots[1].snapshot_id);
    let restored = driver.create(restore.clone()).await.unwrap();
    assert_eq!(driver.create(restore).await.unwrap(), restored);
    let mut byte = [0];
    let image = driver.pool.open("csi-vol-restored").read_only(true).run().unwrap();
    image.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, [2]);
    drop(image);
    assert_eq!(driver.create(create("restored.part", 16)).await.unwrap(), similar);

    // A part cannot go alone.
    let part = &taken.snapshots[0].snapshot_id;
    assert_eq!(code(driver.delete_snapshot(part).await), Code::FailedPrecondition);
    delete(&driver, &taken).await.unwrap();
    delete(&driver, &taken).await.unwrap();
    delete(&driver, &second).await.unwrap();
    assert!(driver.pool.groups().list().unwrap().is_empty());
    driver.delete(&a.volume_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_when_a_volume_is_missing() {
    let driver = Driver::start().await;
    let (a, gone) = (driver.volume("a").await, driver.volume("gone").await);
    driver.delete(&gone.volume_id).await.unwrap();
    assert_eq!(code(take(&driver, "g", &[&a.volume_id, &gone.volume_id]).await), Code::NotFound);
    assert_eq!(code(take(&driver, "g", &[]).await), Code::InvalidArgument);
    assert_eq!(code(take(&driver, "", &[&a.volume_id]).await), Code::InvalidArgument);
    assert!(driver.pool.groups().list().unwrap().is_empty());
}

/// A request that was interrupted before the snapshot, and is never made again.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_group_keeps_nothing_from_being_deleted() {
    let driver = Driver::start().await;
    let (a, b) = (driver.volume("a").await, driver.volume("b").await);
    let group = driver.pool.groups().create("csi-group-g").unwrap();
    group.add(&driver.pool, "csi-vol-a").unwrap();
    assert_eq!(code(take(&driver, "h", &[&a.volume_id, &b.volume_id]).await), Code::Aborted);
    driver.delete(&a.volume_id).await.unwrap();
    assert_eq!(driver.images(), ["csi-vol-b"]);
    // Made again, it goes on.
    group.add(&driver.pool, "csi-vol-b").unwrap();
    assert_eq!(take(&driver, "g", &[&b.volume_id]).await.unwrap().snapshots.len(), 1);
}

/// Two requests for the same volumes in another order: each is interrupted after its first volume.
#[tokio::test(flavor = "multi_thread")]
async fn requests_for_the_same_volumes_do_not_block_each_other() {
    let driver = Driver::start().await;
    let (a, b) = (driver.volume("a").await, driver.volume("b").await);
    let group = |name: &str, member: &str| {
        driver.pool.groups().create(name).unwrap().add(&driver.pool, member).unwrap();
    };
    group("csi-group-g", "csi-vol-a");
    group("csi-group-h", "csi-vol-b");
    // What was not taken is not there.
    let request = GetVolumeGroupSnapshotRequest {
        group_snapshot_id: format!("{}:group:csi-group-g", a.volume_id.rsplit_once(':').unwrap().0),
        snapshot_ids: Vec::new(),
        secrets: secrets(),
    };
    let found = driver.groups.clone().get_volume_group_snapshot(request).await;
    assert_eq!(code(found), Code::NotFound);
    assert_eq!(code(take(&driver, "g", &[&a.volume_id, &b.volume_id]).await), Code::Aborted);
    assert_eq!(take(&driver, "h", &[&b.volume_id, &a.volume_id]).await.unwrap().snapshots.len(), 2);
    assert_eq!(take(&driver, "g", &[&a.volume_id, &b.volume_id]).await.unwrap().snapshots.len(), 2);
}

/// The group lies in one of the pools, whatever the order of the request.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_two_pools_in_another_order_are_one_request() {
    let driver = Driver::start().await;
    let name = format!("csi-second-{}", std::process::id());
    rbd_testcluster::shared().create_pool(&name).unwrap();
    let second = driver.pool.cluster().ioctx(&name).unwrap();
    second.namespaces().create(driver.pool.namespace()).unwrap();
    let a = driver.volume("a").await.volume_id;
    let mut request = create("b", 16);
    request.parameters.insert("pool".into(), name);
    let b = driver.create(request).await.unwrap().volume_id;
    let taken = take(&driver, "g", &[&a, &b]).await.unwrap();
    let again = take(&driver, "g", &[&b, &a]).await.unwrap();
    assert_eq!(again.group_snapshot_id, taken.group_snapshot_id);
    let ids = |group: &VolumeGroupSnapshot| {
        let mut ids: Vec<_> = group.snapshots.iter().map(|part| part.snapshot_id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&again), ids(&taken));
    delete(&driver, &taken).await.unwrap();
    for id in [a, b] {
        driver.delete(&id).await.unwrap();
    }
}
