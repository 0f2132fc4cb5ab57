//! Volumes: created, cloned, grown, deleted; and the parameters of a class that concern images.

use std::sync::Arc;
use std::time::Duration;

use rbd::features::Features;
use rbd_csi::class::Class;
use rbd_csi::clusters::{Clusters, Secrets};
use rbd_csi::config::Config;
use rbd_csi::controller::{Controller, CreateVolume, Options, Source};
use rbd_csi::proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeGroupSnapshotRequest, CreateVolumeRequest,
    GetCapacityRequest,
};
use rbd_csi::size::Sizes;
use tonic::Code;

use super::driver::{DEPTH, Driver, MIB, MOST, class, code, create, from_snapshot, from_volume, secrets};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_makes_one_volume() {
    let driver = Driver::start().await;
    let first = driver.create(create("pvc-1", 16)).await.unwrap();
    assert_eq!(first.capacity_bytes, 16 * MIB);
    assert_eq!(first.volume_context["imageName"], "csi-vol-pvc-1");
    assert_eq!(first.volume_context["pool"], "rbd");
    let again = driver.create(create("pvc-1", 16)).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(driver.images(), ["csi-vol-pvc-1"]);
    // What the volume has satisfies a smaller request, and not a larger one.
    assert_eq!(driver.create(create("pvc-1", 8)).await.unwrap(), first);
    let status = driver.create(create("pvc-1", 17)).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("it has 16777216 bytes"), "{status}");
    let mut small = create("pvc-1", 1);
    small.capacity_range = Some(CapacityRange { required_bytes: MIB, limit_bytes: 2 * MIB });
    assert_eq!(code(driver.create(small).await), Code::AlreadyExists);
    // After a restart it is the same volume still.
    driver.delete(&first.volume_id).await.unwrap();
    driver.delete(&first.volume_id).await.unwrap();
    assert!(driver.images().is_empty());
    // A new volume of an old name is another one.
    let new = driver.create(create("pvc-1", 16)).await.unwrap();
    assert_ne!(new.volume_id, first.volume_id);
    driver.delete(&first.volume_id).await.unwrap();
    assert_eq!(driver.images(), ["csi-vol-pvc-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_says_how_images_are_made() {
    let driver = Driver::start().await;
    let mut request = create("a", 16);
    request.parameters.extend(
        [
            ("imageFeatures", "layering,exclusive-lock"),
            ("objectSize", "1048576"),
            ("stripeUnit", "65536"),
            ("stripeCount", "4"),
            ("volumeNamePrefix", "team-"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    driver.create(request.clone()).await.unwrap();
    let image = driver.pool.open("team-a").read_only(true).run().unwrap();
    assert_eq!(image.features().unwrap(), Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::STRIPING);
    assert_eq!(image.stat().unwrap().object_size, 1 << 20);
    assert_eq!((image.stripe_unit().unwrap(), image.stripe_count().unwrap()), (65536, 4));
    // Clones, and copies, get the layout of their class, too.
    let source = driver.volume("source").await;
    let taken = driver.snapshot("s", &source.volume_id).await.unwrap();
    let group = CreateVolumeGroupSnapshotRequest {
        name: "g".into(),
        source_volume_ids: vec![source.volume_id.clone()],
        secrets: secrets(),
        ..CreateVolumeGroupSnapshotRequest::default()
    };
    let group = driver.groups.clone().create_volume_group_snapshot(group).await.unwrap().into_inner();
    let part = group.group_snapshot.unwrap().snapshots[0].snapshot_id.clone();
    for (name, start) in [
        ("of-snapshot", from_snapshot(&taken.snapshot_id)),
        ("of-volume", from_volume(&source.volume_id)),
        ("of-part", from_snapshot(&part)),
    ] {
        let request =
            CreateVolumeRequest { name: name.into(), volume_content_source: start, ..request.clone() };
        driver.create(request).await.unwrap();
        let image = driver.pool.open(&format!("team-{name}")).read_only(true).run().unwrap();
        assert_eq!(image.stat().unwrap().object_size, 1 << 20, "{name}");
        let stripes = (image.stripe_unit().unwrap(), image.stripe_count().unwrap());
        assert_eq!(stripes, (65536, 4), "{name}");
    }
    // A name that is none for an image.
    let odd = driver.create(create("a/b@c ü", 1)).await.unwrap();
    assert!(odd.volume_context["imageName"].starts_with("csi-vol-."), "{odd:?}");
    assert_eq!(driver.create(create("a/b@c ü", 1)).await.unwrap(), odd);
}

/// The data goes to the pool, and the image to the namespace, that the class names; also those of
/// copies.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_says_where_images_lie() {
    let driver = Driver::start().await;
    let (data, namespace) =
        (format!("csi-data-{}", std::process::id()), format!("{}-x", driver.pool.namespace()));
    rbd_testcluster::shared().create_pool(&data).unwrap();
    let pool = driver.pool.cluster().ioctx("rbd").unwrap();
    pool.namespaces().create(&namespace).unwrap();
    let pool = pool.with_namespace(&namespace).unwrap();
    let placed = |name: &str| {
        let mut request = create(name, 16);
        request.parameters.extend(
            [("dataPool", &*data), ("radosNamespace", &*namespace)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        request
    };
    let first = driver.create(placed("a")).await.unwrap();
    assert_eq!(driver.create(placed("a")).await.unwrap(), first);
    let mut copy = placed("b");
    copy.volume_content_source = from_volume(&first.volume_id);
    let second = driver.create(copy).await.unwrap();
    let data = driver.pool.cluster().ioctx(&data).unwrap().pool_id();
    for volume in [&first, &second] {
        assert!(volume.volume_id.contains(&format!(":{namespace}:")), "{}", volume.volume_id);
        let image = pool.open(&volume.volume_context["imageName"]).read_only(true).run().unwrap();
        assert_eq!(image.data_pool_id().unwrap(), data);
    }
    assert!(driver.images().is_empty(), "the namespace of the cluster is another one");
    driver.delete(&second.volume_id).await.unwrap();
    driver.delete(&first.volume_id).await.unwrap();
    assert!(pool.list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_start_with_snapshots_and_volumes() {
    let driver = Driver::start().await;
    let source = driver.volume("source").await;
    let write = |name: &str, byte: u8| {
        let image = driver.pool.open(name).run().unwrap();
        image.write_all_at(&[byte; 4096], 0).unwrap();
        image.close().unwrap();
    };
    let read = |name: &str| {
        let mut bytes = [0; 1];
        driver.pool.open(name).read_only(true).run().unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes[0]
    };
    write("csi-vol-source", 1);
    let snapshot = driver.snapshot("snap", &source.volume_id).await.unwrap();
    write("csi-vol-source", 2);

    let mut restore = create("restored", 16);
    restore.volume_content_source = from_snapshot(&snapshot.snapshot_id);
    let restored = driver.create(restore.clone()).await.unwrap();
    assert_eq!(restored.content_source, restore.volume_content_source);
    assert_eq!(driver.create(restore.clone()).await.unwrap(), restored);
    assert_eq!(read("csi-vol-restored"), 1);

    let mut copy = create("copy", 32);
    copy.volume_content_source = from_volume(&source.volume_id);
    let copied = driver.create(copy.clone()).await.unwrap();
    assert_eq!(copied.capacity_bytes, 32 * MIB);
    assert_eq!(driver.create(copy.clone()).await.unwrap(), copied);
    assert_eq!(read("csi-vol-copy"), 2);
    // The snapshot that the clone needed is no user's.
    let left = driver.pool.open("csi-vol-source").read_only(true).run().unwrap();
    let names: Vec<String> = left.snapshots().list().unwrap().into_iter().map(|taken| taken.name).collect();
    assert!(names.iter().all(|name| !name.starts_with("csi-clone-")), "{names:?}");
    drop(left);

    // One name, another start.
    let mut other = restore.clone();
    other.volume_content_source = from_volume(&source.volume_id);
    assert_eq!(code(driver.create(other).await), Code::AlreadyExists);
    assert_eq!(code(driver.create(create("restored", 16)).await), Code::AlreadyExists);
    // Smaller than what it starts with.
    let mut small = create("small", 1);
    small.volume_content_source = from_snapshot(&snapshot.snapshot_id);
    small.capacity_range = Some(CapacityRange { required_bytes: 0, limit_bytes: MIB });
    assert_eq!(code(driver.create(small).await), Code::OutOfRange);

    // The source goes: first its snapshot, then itself, though clones live.
    let status = driver.delete(&source.volume_id).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has 1 snapshots"), "{status}");
    driver.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    driver.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    driver.delete(&source.volume_id).await.unwrap();
    driver.delete(&source.volume_id).await.unwrap();
    assert_eq!(driver.images(), ["csi-vol-copy", "csi-vol-restored"]);
    assert_eq!((read("csi-vol-restored"), read("csi-vol-copy")), (1, 2));
    for volume in [&restored, &copied] {
        driver.delete(&volume.volume_id).await.unwrap();
    }
    driver.until("the trash is empty", |pool| pool.trash().list().unwrap().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_chains_of_clones_are_flattened() {
    let driver = Driver::start().await;
    let mut last = driver.volume("generation-0").await;
    for number in 1..=DEPTH {
        let mut request = create(&format!("generation-{number}"), 16);
        request.volume_content_source = from_volume(&last.volume_id);
        last = driver.create(request).await.unwrap();
    }
    let name = format!("csi-vol-generation-{DEPTH}");
    driver
        .until("the last one is flat", |pool| {
            pool.open(&name).read_only(true).run().unwrap().parent().unwrap().is_none()
        })
        .await;
    let before = driver.pool.open("csi-vol-generation-1").read_only(true).run().unwrap();
    assert!(before.parent().unwrap().is_some());
}

/// A deleted volume waits for its clones. When the last one is flat, it goes, without a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_volume_goes_with_its_last_clone() {
    let driver = Driver::start().await;
    let source = driver.volume("source").await;
    let snapshot = driver.snapshot("s", &source.volume_id).await.unwrap().snapshot_id;
    let mut request = create("clone", 16);
    request.volume_content_source = from_snapshot(&snapshot);
    let clone = driver.create(request).await.unwrap();
    driver.delete_snapshot(&snapshot).await.unwrap();
    driver.delete(&source.volume_id).await.unwrap();
    // The look at the trash that follows a deletion is over.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(driver.pool.trash().list().unwrap().len(), 1);
    // Another controller flattens earlier.
    let clusters = Arc::new(Clusters::new(Config::read(driver.config()).unwrap()));
    let other = Controller::new(clusters, Options { flatten_depth: 1, most_snapshots: MOST });
    let again = CreateVolume {
        name: "clone".into(),
        sizes: Sizes::new(None).unwrap(),
        class: Class::new(class()),
        source: Some(Source::Snapshot(snapshot.parse().unwrap())),
        secrets: Secrets::new(secrets()),
    };
    let found = tokio::task::spawn_blocking(move || other.create(&again)).await.unwrap().unwrap();
    assert_eq!(found.id.to_string(), clone.volume_id);
    driver.until("the trash is empty", |pool| pool.trash().list().unwrap().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_grow_and_never_shrink() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let expand = |mib: i64| {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume.volume_id.clone(),
            capacity_range: Some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
            secrets: secrets(),
            volume_capability: None,
        };
        let mut controller = driver.controller.clone();
        async move { controller.controller_expand_volume(request).await.map(|answer| answer.into_inner()) }
    };
    for (asked, size) in [(32, 32), (32, 32), (8, 32)] {
        let answer = expand(asked).await.unwrap();
        assert_eq!((answer.capacity_bytes, answer.node_expansion_required), (size * MIB, true));
    }
    assert_eq!(driver.pool.open("csi-vol-a").read_only(true).run().unwrap().size().unwrap(), 32 << 20);
    // The request that made it is still answered: it has at least what was asked for.
    assert_eq!(driver.create(create("a", 16)).await.unwrap().capacity_bytes, 32 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_is_not_deleted() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let user = driver.pool.open("csi-vol-a").run().unwrap();
    let address = user.ioctx().cluster().address().unwrap().to_string();
    let status = driver.delete(&volume.volume_id).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains(&address), "{status}");
    user.close().unwrap();
    driver.delete(&volume.volume_id).await.unwrap();
}

/// librbd reports a clone whose parent is gone as missing. It is there, and must not count as
/// deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_without_its_parent_does_not_count_as_deleted() {
    let driver = Driver::start().await;
    let source = driver.volume("source").await;
    let taken = driver.snapshot("s", &source.volume_id).await.unwrap();
    let mut request = create("clone", 16);
    request.volume_content_source = from_snapshot(&taken.snapshot_id);
    let clone = driver.create(request).await.unwrap().volume_id;
    let of_clone = driver.snapshot("of-clone", &clone).await.unwrap().snapshot_id;
    let (_, id) = source.volume_id.rsplit_once(':').unwrap();
    driver.pool.objects().remove(&format!("rbd_header.{id}")).unwrap();
    for (what, status) in [
        ("the volume", driver.delete(&clone).await),
        ("its snapshot", driver.delete_snapshot(&of_clone).await),
    ] {
        let status = status.expect_err(what);
        assert_eq!(status.code(), Code::FailedPrecondition, "{what}: {status}");
        assert!(status.message().contains("exists") && status.message().contains("parent"), "{status}");
    }
    assert!(driver.images().contains(&"csi-vol-clone".to_owned()));
    // The volume without a header is gone.
    driver.delete(&source.volume_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capacity_is_the_pools() {
    let mut driver = Driver::start().await;
    let request = GetCapacityRequest { parameters: class(), ..GetCapacityRequest::default() };
    let capacity = driver.controller.get_capacity(request).await.unwrap().into_inner();
    assert!(capacity.available_capacity > 100 * MIB, "{capacity:?}");
}
