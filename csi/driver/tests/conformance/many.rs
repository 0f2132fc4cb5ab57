use std::collections::BTreeSet;

use super::driver::{Driver, create};

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_volumes_at_once() {
    let driver = Driver::start().await;
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let mut controller = driver.controller.clone();
            let request = create(&format!("pvc-{number}"), 16);
            tokio::spawn(async move {
                controller.create_volume(request).await.unwrap().into_inner().volume.unwrap()
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap().volume_id);
    }
    assert_eq!((ids.len(), driver.images().len()), (100, 100));
    let tasks: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let request =
                rbd_csi::proto::csi::DeleteVolumeRequest { volume_id: id, secrets: super::driver::secrets() };
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
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let mut controller = driver.controller.clone();
            let request = create("pvc", 16);
            tokio::spawn(async move {
                controller.create_volume(request).await.unwrap().into_inner().volume.unwrap()
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap().volume_id);
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(driver.images(), ["csi-vol-pvc"]);
}
