//! Snapshots that are removed while a request reads them. librbd reads zeros from then on, and the
//! driver must not answer that as a success.

use std::fmt::Debug;

use rbd_csi::proto::csi::snapshot_metadata_server::SnapshotMetadata;
use rbd_csi::proto::csi::{GetMetadataAllocatedRequest, GetMetadataDeltaRequest};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Status};

use super::driver::{Driver, create, from_snapshot, secrets, services};
use super::groups::{delete, take};

/// Removes a snapshot after the first part of a stream. Returns the error at the stream's end.
async fn end<T: Debug>(
    driver: &Driver,
    mut stream: impl Stream<Item = Result<T, Status>> + Unpin,
    snapshot: &str,
) -> Option<Status> {
    stream.next().await.unwrap().unwrap();
    driver.delete_snapshot(snapshot).await.unwrap();
    while let Some(part) = stream.next().await {
        if let Err(status) = part {
            assert!(stream.next().await.is_none());
            return Some(status);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_a_removed_snapshot_end_with_an_error() {
    let driver = Driver::start().await;
    // Called without a socket, which would hold many parts: so the driver waits for the reader.
    let blocks = services(driver.config()).controller.unwrap();
    let volume = driver.create(create("a", 64)).await.unwrap().volume_id;
    let write = |byte: u8| {
        let image = driver.pool.open("csi-vol-a").run().unwrap();
        // Each object is a part.
        (0..16).for_each(|object| image.write_all_at(&[byte; 4096], object << 22).unwrap());
        image.close().unwrap();
    };
    let snapshot = async |name: &str| driver.snapshot(name, &volume).await.unwrap().snapshot_id;
    write(1);
    let [one, two] = [snapshot("one").await, snapshot("two").await];
    write(2);
    let [three, four] = [snapshot("three").await, snapshot("four").await];
    let allocated = GetMetadataAllocatedRequest {
        snapshot_id: one.clone(),
        max_results: 1,
        secrets: secrets(),
        ..GetMetadataAllocatedRequest::default()
    };
    let delta = |base: &str, target: &str| {
        Request::new(GetMetadataDeltaRequest {
            base_snapshot_id: base.into(),
            target_snapshot_id: target.into(),
            max_results: 1,
            secrets: secrets(),
            ..GetMetadataDeltaRequest::default()
        })
    };
    let all = blocks.get_metadata_allocated(Request::new(allocated)).await.unwrap().into_inner();
    let of_target = end(&driver, all, &one).await;
    let changed = blocks.get_metadata_delta(delta(&two, &three)).await.unwrap().into_inner();
    let of_changed_target = end(&driver, changed, &three).await;
    let changed = blocks.get_metadata_delta(delta(&two, &four)).await.unwrap().into_inner();
    let of_base = end(&driver, changed, &two).await;
    let ends =
        [("target", of_target, one), ("changed target", of_changed_target, three), ("base", of_base, two)];
    let wrong: Vec<_> = ends
        .into_iter()
        .filter(|(_, end, id)| {
            !end.as_ref().is_some_and(|status| {
                let told = status.message();
                status.code() == Code::NotFound
                    && told.starts_with(&format!("snapshot '{id}' was removed while"))
                    && told.contains("discard all blocks")
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_removed_group_snapshot_is_undone() {
    let driver = Driver::start().await;
    let volume = driver.create(create("a", 32)).await.unwrap().volume_id;
    let image = driver.pool.open("csi-vol-a").run().unwrap();
    image.write_all_at(&vec![1; 32 << 20], 0).unwrap();
    // The copy reads one object in a second.
    image.config().set("rbd_qos_iops_limit", "1").unwrap();
    image.close().unwrap();
    let taken = take(&driver, "g", &[&volume]).await.unwrap();
    let id = taken.snapshots[0].snapshot_id.clone();
    let mut restore = create("restored", 32);
    restore.volume_content_source = from_snapshot(&id);
    let copy = tokio::spawn({
        let (restore, mut controller) = (restore.clone(), driver.controller.clone());
        async move { controller.create_volume(restore).await }
    });
    let begun = |pool: &rbd::IoCtx| pool.list().unwrap().iter().any(|image| image.name.ends_with("~part"));
    driver.until("a copy that has begun", begun).await;
    delete(&driver, &taken).await.unwrap();
    assert!(!copy.is_finished());
    let status = copy.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let told = status.message();
    assert!(told.starts_with(&format!("snapshot '{id}' was removed while volume 'restored'")), "{told}");
    assert!(told.contains("the incomplete copy was removed"), "{told}");
    assert_eq!(driver.images(), ["csi-vol-a"]);
    let status = driver.create(restore).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}
