//! Requests that their callers give up at any time: the work goes on to its end, and the same
//! request again has the answer. Nothing is made twice, and nothing is left.

use std::time::{Duration, Instant};

use rbd_csi::proto::csi::*;
use tonic::Status;

use super::driver::{Driver, MIB, create, from_volume, secrets};

/// The times at which a caller gives up, in parts of the time that the request takes.
const PARTS: u32 = 8;

/// Makes a request whose caller gives up at each part of its time, each time on another object, and
/// then the same request again, which must have an answer. Returns the answers.
async fn given_up<T, F>(what: &str, request: impl Fn(String) -> F) -> Vec<T>
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = Result<T, Status>>,
{
    let begun = Instant::now();
    request(format!("{what}-whole")).await.unwrap();
    let whole = begun.elapsed();
    let (mut answers, mut cut) = (Vec::new(), 0);
    for part in 0..PARTS {
        let name = format!("{what}-{part}");
        // A request that nobody has polled has not been sent.
        let wait = whole * part / PARTS + Duration::from_millis(1);
        cut += u32::from(tokio::time::timeout(wait, request(name.clone())).await.is_err());
        let answer = request(name.clone()).await.unwrap_or_else(|status| panic!("{name}: {status}"));
        assert_eq!(request(name).await.unwrap(), answer);
        answers.push(answer);
    }
    assert!(cut > 0, "{what}: no request was given up");
    answers
}

/// The number at the end of an object's name; 0 for that of the whole request.
fn number(name: &str) -> usize {
    name.rsplit('-').next().unwrap().parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_given_up_converge() {
    let driver = Driver::start().await;
    let source = driver.volume("source").await.volume_id;

    let blank = given_up("blank", |name| driver.create(create(&name, 16))).await;
    given_up("clone", |name| {
        let mut request = create(&name, 32);
        request.volume_content_source = from_volume(&source);
        driver.create(request)
    })
    .await;
    let numbers = (0..PARTS).map(|part| part.to_string()).chain(["whole".to_owned()]);
    let mut images = vec!["csi-vol-source".to_owned()];
    images.extend(numbers.flat_map(|part| ["blank", "clone"].map(|what| format!("csi-vol-{what}-{part}"))));
    images.sort();
    assert_eq!(driver.images(), images);

    let snapshots = given_up("snap", |name| {
        let (driver, source) = (&driver, &source);
        async move { driver.snapshot(&name, source).await }
    })
    .await;
    let image = driver.pool.open("csi-vol-source").read_only(true).run().unwrap();
    // The snapshots that clones needed are gone or in the trash, and no user's.
    let users = image.snapshots().list().unwrap();
    let users = users.iter().filter(|snapshot| snapshot.name.starts_with("csi-snap-")).count();
    assert_eq!(users, PARTS as usize + 1);
    assert!(image.snapshots().list().unwrap().iter().all(|taken| !taken.name.starts_with("csi-clone-")));
    drop(image);

    let sizes = given_up("size", |name| {
        let request = ControllerExpandVolumeRequest {
            volume_id: blank[number(&name)].volume_id.clone(),
            capacity_range: Some(CapacityRange { required_bytes: 64 * MIB, limit_bytes: 0 }),
            secrets: secrets(),
            volume_capability: None,
        };
        let mut controller = driver.controller.clone();
        async move { Ok(controller.controller_expand_volume(request).await?.into_inner().capacity_bytes) }
    })
    .await;
    assert!(sizes.iter().all(|size| *size == 64 * MIB), "{sizes:?}");

    let volumes: Vec<String> = blank.iter().map(|volume| volume.volume_id.clone()).collect();
    given_up("group", |name| {
        let request = CreateVolumeGroupSnapshotRequest {
            name,
            source_volume_ids: volumes[..2].to_vec(),
            secrets: secrets(),
            ..Default::default()
        };
        let mut groups = driver.groups.clone();
        async move {
            Ok(groups.create_volume_group_snapshot(request).await?.into_inner().group_snapshot.unwrap())
        }
    })
    .await;
    assert_eq!(driver.pool.groups().list().unwrap().len(), PARTS as usize + 1);

    given_up("unsnap", |name| {
        let (driver, snapshot) = (&driver, &snapshots[number(&name)]);
        async move { driver.delete_snapshot(&snapshot.snapshot_id).await }
    })
    .await;
    given_up("delete", |name| {
        // The first two have group snapshots.
        let (driver, volume) = (&driver, &volumes[number(&name).max(2)]);
        async move { driver.delete(volume).await }
    })
    .await;
    let left = driver.images().into_iter().filter(|name| name.starts_with("csi-vol-blank")).count();
    assert_eq!(left, 3, "{:?}", driver.images());
}
