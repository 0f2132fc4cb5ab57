//! Snapshots of one volume.

use std::time::{Duration, Instant};

use rbd_csi::proto::csi::{CreateSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest};
use tonic::Code;

use super::driver::{Driver, MIB, MOST, code, create, from_volume, map, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_takes_one_snapshot() {
    let driver = Driver::start().await;
    let (a, b) = (driver.volume("a").await, driver.volume("b").await);
    let first = driver.snapshot("snap", &a.volume_id).await.unwrap();
    assert_eq!((first.size_bytes, first.ready_to_use), (16 * MIB, true));
    assert_eq!(first.source_volume_id, a.volume_id);
    assert!(first.creation_time.is_some());
    assert_eq!(driver.snapshot("snap", &a.volume_id).await.unwrap(), first);
    let status = driver.snapshot("snap", &b.volume_id).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("csi-vol-a"), "{status}");
    // A new snapshot of an old name is another one.
    driver.delete_snapshot(&first.snapshot_id).await.unwrap();
    driver.delete_snapshot(&first.snapshot_id).await.unwrap();
    let new = driver.snapshot("snap", &b.volume_id).await.unwrap();
    assert_ne!(new.snapshot_id, first.snapshot_id);
    let image = driver.pool.open("csi-vol-b").read_only(true).run().unwrap();
    assert_eq!(image.snapshots().list().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_is_found() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let taken = driver.snapshot("snap", &volume.volume_id).await.unwrap();
    let get = |id: &str| {
        let request = GetSnapshotRequest { snapshot_id: id.into(), secrets: secrets() };
        let mut controller = driver.controller.clone();
        async move {
            Ok::<_, tonic::Status>(controller.get_snapshot(request).await?.into_inner().snapshot.unwrap())
        }
    };
    assert_eq!(get(&taken.snapshot_id).await.unwrap(), taken);
    let list = |snapshot: &str, volume: &str| {
        let request = ListSnapshotsRequest {
            snapshot_id: snapshot.into(),
            source_volume_id: volume.into(),
            secrets: secrets(),
            ..ListSnapshotsRequest::default()
        };
        let mut controller = driver.controller.clone();
        async move { controller.list_snapshots(request).await.unwrap().into_inner().entries.len() }
    };
    assert_eq!(list(&taken.snapshot_id, "").await, 1);
    assert_eq!(list("", &volume.volume_id).await, 1);
    assert_eq!(list(&taken.snapshot_id, &volume.volume_id).await, 1);
    for (snapshot, volume) in [("x", ""), ("", "x"), (&*taken.snapshot_id, "x")] {
        assert_eq!(list(snapshot, volume).await, 0, "{snapshot} {volume}");
    }
    driver.delete_snapshot(&taken.snapshot_id).await.unwrap();
    assert_eq!(code(get(&taken.snapshot_id).await), Code::NotFound);
    assert_eq!(list(&taken.snapshot_id, "").await, 0);
}

/// The kernel does not map an image with too many snapshots.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_room_for_so_many_snapshots() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await.volume_id;
    let copy = |name: &str| {
        let mut request = create(name, 16);
        request.volume_content_source = from_volume(&volume);
        driver.create(request)
    };
    // A clone keeps its snapshot, which no user sees.
    let clone = copy("clone").await.unwrap();
    let mut taken = Vec::new();
    let image = driver.pool.open("csi-vol-a").run().unwrap();
    for number in 2..MOST {
        image.snapshots().create(&format!("csi-snap-{number}")).run().unwrap();
    }
    image.close().unwrap();
    for number in 2..=MOST {
        taken.push(driver.snapshot(&number.to_string(), &volume).await.unwrap());
    }
    let status = driver.snapshot("more", &volume).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains(&format!("has {MOST} snapshots")), "{status}");
    // Those that are there are still answered.
    assert_eq!(driver.snapshot("2", &volume).await.unwrap(), taken[0]);
    // The clone is flattened, which makes room, sooner or later.
    assert!(matches!(code(copy("copy").await), Code::ResourceExhausted | Code::Ok));
    let begun = Instant::now();
    while let Err(status) = driver.snapshot("more", &volume).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let clone = driver.pool.open(&clone.volume_context["imageName"]).read_only(true).run().unwrap();
    assert!(clone.parent().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_in_a_snapshot_class_is_refused() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await.volume_id;
    let request = |parameter: &str| CreateSnapshotRequest {
        source_volume_id: volume.clone(),
        name: "s".into(),
        secrets: secrets(),
        parameters: map([(parameter, "team-")]),
    };
    let mut controller = driver.controller.clone();
    let status = controller.create_snapshot(request("snapshotNamePrefx")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("'snapshotNamePrefix'"), "{status}");
    controller.create_snapshot(request("snapshotNamePrefix")).await.unwrap();
    let image = driver.pool.open("csi-vol-a").read_only(true).run().unwrap();
    assert!(image.snapshots().exists("team-s").unwrap());
}
