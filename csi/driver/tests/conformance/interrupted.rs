//! Requests that were interrupted between two steps. The repeated request converges.

use std::ops::ControlFlow;

use rbd::image::CloneFormat;
use rbd::trash::TrashSource;
use tonic::Code;

use super::driver::{CLUSTER, Driver, MIB, admin, class, code, create, from_volume, secrets};
use rbd_csi::class::Class;
use rbd_csi::clusters::Secrets;
use rbd_csi::controller::CreateVolume;
use rbd_csi::size::Sizes;

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_volume_without_its_mark_is_taken_over() {
    let driver = Driver::start().await;
    driver.pool.create("csi-vol-a", 16 << 20).run().unwrap();
    let volume = driver.create(create("a", 16)).await.unwrap();
    let image = driver.pool.open("csi-vol-a").read_only(true).run().unwrap();
    assert!(volume.volume_id.ends_with(&image.id().unwrap()));
    let name = image.metadata().get("csi.name").unwrap();
    assert_eq!(name, format!("{} a", image.id().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_driver_did_not_make_is_left_alone() {
    let driver = Driver::start().await;
    driver.pool.create("csi-vol-data", 16 << 20).run().unwrap();
    let image = driver.pool.open("csi-vol-data").run().unwrap();
    image.write_all_at(b"data", 0).unwrap();
    image.close().unwrap();
    driver.pool.create("csi-vol-taken", 16 << 20).run().unwrap();
    let image = driver.pool.open("csi-vol-taken").run().unwrap();
    image.snapshots().create("theirs").run().unwrap();
    image.close().unwrap();
    driver.pool.create("csi-vol-size", 8 << 20).run().unwrap();
    for name in ["data", "taken", "size"] {
        let status = driver.create(create(name, 16)).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status}");
        let image = driver.pool.open(&format!("csi-vol-{name}")).read_only(true).run().unwrap();
        assert!(image.metadata().get("csi.name").is_err(), "{name}");
    }
}

/// After each step of a clone of a volume: the snapshot, the clone, its size.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_goes_on_where_it_stopped() {
    let driver = Driver::start().await;
    let source = driver.volume("source").await;
    for steps in 1..=3 {
        let name = format!("copy-{steps}");
        let (image, snapshot) = (format!("csi-vol-{name}"), format!("csi-clone-csi-vol-{name}"));
        let parent = driver.pool.open("csi-vol-source").run().unwrap();
        parent.snapshots().create(&snapshot).run().unwrap();
        parent.close().unwrap();
        if steps > 1 {
            let clone = driver.pool.clone_image("csi-vol-source", &snapshot, &image);
            clone.format(CloneFormat::V2).run().unwrap();
        }
        if steps > 2 {
            let clone = driver.pool.open(&image).run().unwrap();
            clone.resize(32 << 20).run().unwrap();
            clone.close().unwrap();
        }
        let mut request = create(&name, 32);
        request.volume_content_source = from_volume(&source.volume_id);
        let volume = driver.create(request.clone()).await.unwrap();
        assert_eq!(volume.capacity_bytes, 32 * MIB, "{steps}");
        assert_eq!(driver.create(request).await.unwrap(), volume);
        let parent = driver.pool.open("csi-vol-source").read_only(true).run().unwrap();
        assert!(!parent.snapshots().exists(&snapshot).unwrap(), "{steps}");
    }
    // A clone of another volume is refused.
    let other = driver.volume("other").await;
    let parent = driver.pool.open("csi-vol-other").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.close().unwrap();
    let clone = driver.pool.clone_image("csi-vol-other", "s", "csi-vol-wrong");
    clone.format(CloneFormat::V2).run().unwrap();
    let mut request = create("wrong", 16);
    request.volume_content_source = from_volume(&source.volume_id);
    assert_eq!(code(driver.create(request).await), Code::AlreadyExists);
    drop(other);
}

/// How far a removal has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Removal {
    /// The image is in the trash, and its move there is not marked as ended.
    Moving,
    Moved,
    /// librbd has stopped it, and the image is still in the list.
    Stopped,
}

/// After an interrupted removal, a deletion removes the rest.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_removal_is_ended() {
    let driver = Driver::start().await;
    let objects = driver.pool.objects();
    for removal in [Removal::Moving, Removal::Moved, Removal::Stopped] {
        let volume = driver.create(create("a", 16)).await.unwrap();
        let id = volume.volume_id.rsplit_once(':').unwrap().1.to_owned();
        let image = driver.pool.open("csi-vol-a").run().unwrap();
        image.write_all_at(&[1; 4096], 0).unwrap();
        image.close().unwrap();
        if removal == Removal::Stopped {
            let stopped = driver.pool.remove("csi-vol-a").progress(|_, _| ControlFlow::Break(())).run();
            assert_eq!(*stopped.unwrap_err().kind(), rbd::ErrorKind::Stopped);
        } else {
            driver.pool.trash().add("csi-vol-a").run().unwrap();
            // The byte after the head of the encoding is the source of the entry: 3 means a
            // removal.
            let key = format!("id_{id}").into_bytes();
            let mut entry = objects.omap("rbd_trash").unwrap()[&key].clone();
            entry[6] = 3;
            objects.set_omap("rbd_trash", &[(&key[..], &entry[..])]).unwrap();
            assert_eq!(driver.pool.trash().get(&id).unwrap().source, TrashSource::Removing);
        }
        if removal == Removal::Moving {
            let id = [&(id.len() as u32).to_le_bytes()[..], id.as_bytes(), &[1, 0]].concat();
            objects.execute("rbd_trash", "rbd", "trash_state_set", &id).unwrap();
        }
        driver.delete(&volume.volume_id).await.unwrap();
        assert!(driver.images().is_empty(), "{removal:?}");
        let left: Vec<String> = objects
            .list()
            .unwrap()
            .map(|object| object.unwrap().name)
            .filter(|name| name.contains(&id))
            .collect();
        assert!(left.is_empty(), "{removal:?}: {left:?}");
        let entries = objects.omap("rbd_trash").unwrap();
        assert!(entries.is_empty(), "{removal:?}: {entries:?}");
        driver.delete(&volume.volume_id).await.unwrap();
    }
}

/// A controller that the cluster has fenced off connects again.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_controller_connects_again() {
    let driver = Driver::start().await;
    let controller = driver.again();
    let request = |name: &str| CreateVolume {
        name: name.into(),
        sizes: Sizes::new(None).unwrap(),
        class: Class::new(class()),
        source: None,
        secrets: Secrets::new(secrets()),
    };
    let requests = [request("a"), request("b")];
    tokio::task::spawn_blocking(move || {
        let first = controller.create(&requests[0]).unwrap();
        let connection = controller.clusters().connect(CLUSTER, &Secrets::new(secrets())).unwrap();
        let address = connection.address().unwrap();
        admin().blocklist().add(&address).run().unwrap();
        let begun = std::time::Instant::now();
        let second = loop {
            match controller.create(&requests[1]) {
                Ok(made) => break made,
                Err(status) => assert!(begun.elapsed().as_secs() < 30, "{status}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        };
        assert_ne!(second.id, first.id);
        let now = controller.clusters().connect(CLUSTER, &Secrets::new(secrets())).unwrap();
        assert_ne!(now.address().unwrap(), address);
        admin().blocklist().remove(&address).unwrap();
    })
    .await
    .unwrap();
}

/// A caller that gives up, and asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_is_made_again() {
    let driver = Driver::start().await;
    for micros in [0, 200, 1_000, 3_000, 10_000] {
        let name = format!("cancelled-{micros}");
        let request = driver.create(create(&name, 16));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(micros), request).await;
        let volume = driver.create(create(&name, 16)).await.unwrap();
        assert_eq!(driver.create(create(&name, 16)).await.unwrap(), volume);
    }
    assert_eq!(driver.images().len(), 5);
}

/// Another controller, which knows nothing of the first, gives the same answers.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_remembered_in_the_process() {
    let driver = Driver::start().await;
    let first = driver.volume("a").await;
    let again = driver.again();
    let request = CreateVolume {
        name: "a".into(),
        sizes: Sizes::new(None).unwrap(),
        class: Class::new(class()),
        source: None,
        secrets: Secrets::new(secrets()),
    };
    let second = tokio::task::spawn_blocking(move || again.create(&request)).await.unwrap().unwrap();
    assert_eq!(second.id.to_string(), first.volume_id);
}
