//! A hundred requests at the same time.

use std::collections::BTreeSet;

use rbd_csi::proto::csi::DeleteVolumeRequest;

use super::driver::{Driver, create, secrets};

/// Makes a request for each of these names at once, and returns the ids of the volumes.
async fn create_all(driver: &Driver, names: impl Iterator<Item = String>) -> BTreeSet<String> {
    let tasks: Vec<_> = names
        .map(|name| {
            let (mut controller, request) = (driver.controller.clone(), create(&name, 16));
            tokio::spawn(async move { controller.create_volume(request).await.unwrap().into_inner() })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap().volume.unwrap().volume_id);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_volumes_at_once() {
    let driver = Driver::start().await;
    let ids = create_all(&driver, (0..100).map(|number| format!("pvc-{number}"))).await;
    assert_eq!((ids.len(), driver.images().len()), (100, 100));
    let tasks: Vec<_> = ids
        .into_iter()
        .map(|volume_id| {
            let request = DeleteVolumeRequest { volume_id, secrets: secrets() };
            let mut controller = driver.controller.clone();
            tokio::spawn(async move { controller.delete_volume(request).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(driver.images().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_for_one_volume() {
    let driver = Driver::start().await;
    let ids = create_all(&driver, (0..100).map(|_| "pvc".to_owned())).await;
    assert_eq!(ids.len(), 1);
    assert_eq!(driver.images(), ["csi-vol-pvc"]);
}
