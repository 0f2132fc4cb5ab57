//! Requests that must fail, with their codes.

use std::collections::HashMap;

use rbd_csi::clusters::Secrets;
use rbd_csi::proto::csi::*;
use tonic::Code;

use super::driver::{
    CLUSTER, Driver, MIB, class, code, create, from_snapshot, from_volume, map, secrets, user,
};

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_for_volumes_fail_before_anything_is_made() {
    use volume_capability::access_mode::Mode;
    use volume_capability::{AccessMode, AccessType, MountVolume};
    let driver = Driver::start().await;
    type Change = fn(&mut CreateVolumeRequest);
    let many_writers: Change = |request| {
        request.volume_capabilities[0].access_mode =
            Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() });
    };
    let odd_file_system: Change = |request| {
        let mount = MountVolume { fs_type: "ntfs".into(), ..MountVolume::default() };
        request.volume_capabilities[0].access_type = Some(AccessType::Mount(mount));
    };
    let set = |name: &'static str, value: &'static str| (name.to_owned(), value.to_owned());
    let cases: Vec<(&str, Box<dyn Fn(&mut CreateVolumeRequest)>, Code)> = vec![
        ("no name", Box::new(|request| request.name.clear()), Code::InvalidArgument),
        ("no uses", Box::new(|request| request.volume_capabilities.clear()), Code::InvalidArgument),
        (
            "no mode",
            Box::new(|request| request.volume_capabilities[0].access_mode = None),
            Code::InvalidArgument,
        ),
        (
            "no type",
            Box::new(|request| request.volume_capabilities[0].access_type = None),
            Code::InvalidArgument,
        ),
        ("many writers", Box::new(many_writers), Code::InvalidArgument),
        ("odd file system", Box::new(odd_file_system), Code::InvalidArgument),
        (
            "no cluster",
            Box::new(|request| drop(request.parameters.remove("clusterID"))),
            Code::InvalidArgument,
        ),
        ("no pool", Box::new(|request| drop(request.parameters.remove("pool"))), Code::InvalidArgument),
        (
            "unknown cluster",
            Box::new(move |request| request.parameters.extend([set("clusterID", "x")])),
            Code::FailedPrecondition,
        ),
        (
            "unknown pool",
            Box::new(move |request| request.parameters.extend([set("pool", "x")])),
            Code::NotFound,
        ),
        (
            "unknown namespace",
            Box::new(move |request| request.parameters.extend([set("radosNamespace", "x")])),
            Code::InvalidArgument,
        ),
        (
            "encrypted",
            Box::new(move |request| request.parameters.extend([set("encrypted", "true")])),
            Code::InvalidArgument,
        ),
        (
            "mutable",
            Box::new(move |request| request.mutable_parameters.extend([set("a", "b")])),
            Code::InvalidArgument,
        ),
        (
            "negative",
            Box::new(|request| {
                request.capacity_range = Some(CapacityRange { required_bytes: -1, limit_bytes: 0 });
            }),
            Code::InvalidArgument,
        ),
        (
            "impossible range",
            Box::new(|request| {
                request.capacity_range =
                    Some(CapacityRange { required_bytes: MIB + 1, limit_bytes: MIB + 2 });
            }),
            Code::OutOfRange,
        ),
        (
            "more than an object map describes",
            Box::new(|request| {
                request.capacity_range = Some(CapacityRange { required_bytes: 1 << 50, limit_bytes: 0 });
            }),
            Code::OutOfRange,
        ),
        (
            "a slip in a name",
            Box::new(move |request| request.parameters.extend([set("datapool", "rbd")])),
            Code::InvalidArgument,
        ),
        (
            "an unknown option of the mapping",
            Box::new(move |request| request.parameters.extend([set("mapOptions", "krbd:queue_dept=64")])),
            Code::InvalidArgument,
        ),
        (
            "a user without a key",
            Box::new(|request| drop(request.secrets.remove("userKey"))),
            Code::InvalidArgument,
        ),
        (
            "no such snapshot",
            Box::new(|request| request.volume_content_source = from_snapshot("x")),
            Code::NotFound,
        ),
        (
            "no such volume",
            Box::new(|request| {
                request.volume_content_source = from_volume(&format!("1:{CLUSTER}:1::abcdef"));
            }),
            Code::NotFound,
        ),
        (
            "a source without a type",
            Box::new(|request| request.volume_content_source = Some(VolumeContentSource { r#type: None })),
            Code::InvalidArgument,
        ),
    ];
    for (what, change, expected) in cases {
        let mut request = create("a", 16);
        change(&mut request);
        let result = driver.create(request).await;
        assert_eq!(code(result.clone()), expected, "{what}: {result:?}");
        assert!(driver.images().is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_and_what_is_gone_is_deleted() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let controller = &mut driver.controller;
    for (id, expected) in [("", Code::InvalidArgument), ("x", Code::Ok), ("1:test-cluster:1::abc", Code::Ok)]
    {
        let request = DeleteVolumeRequest { volume_id: id.into(), secrets: secrets() };
        assert_eq!(code(controller.delete_volume(request).await), expected, "{id}");
        let request = DeleteSnapshotRequest {
            snapshot_id: if id.contains(':') { format!("{id}@1") } else { id.into() },
            secrets: secrets(),
        };
        assert_eq!(code(controller.delete_snapshot(request).await), expected, "{id}");
    }
    // An unknown cluster cannot be asked, so no volume of it counts as deleted.
    let request = DeleteVolumeRequest { volume_id: "1:other:1::abc".into(), secrets: secrets() };
    assert_eq!(code(controller.delete_volume(request).await), Code::FailedPrecondition);
    for (id, expected) in
        [("", Code::InvalidArgument), ("x", Code::NotFound), ("1:test-cluster:1::abc", Code::NotFound)]
    {
        let request = CreateSnapshotRequest {
            source_volume_id: id.into(),
            name: "s".into(),
            secrets: secrets(),
            ..CreateSnapshotRequest::default()
        };
        assert_eq!(code(controller.create_snapshot(request).await), expected, "{id}");
        let request = ControllerExpandVolumeRequest {
            volume_id: id.into(),
            capacity_range: Some(CapacityRange { required_bytes: MIB, limit_bytes: 0 }),
            secrets: secrets(),
            volume_capability: None,
        };
        assert_eq!(code(controller.controller_expand_volume(request).await), expected, "{id}");
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: id.into(),
            volume_capabilities: vec![super::driver::mount()],
            secrets: secrets(),
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        assert_eq!(code(controller.validate_volume_capabilities(request).await), expected, "{id}");
        let request = ControllerGetVolumeRequest { volume_id: id.into() };
        assert_eq!(code(controller.controller_get_volume(request).await), expected, "{id}");
        let request = GetSnapshotRequest {
            snapshot_id: if id.contains(':') { format!("{id}@1") } else { id.into() },
            secrets: secrets(),
        };
        assert_eq!(code(controller.get_snapshot(request).await), expected, "{id}");
    }
    let request = CreateSnapshotRequest {
        source_volume_id: volume.volume_id.clone(),
        secrets: secrets(),
        ..CreateSnapshotRequest::default()
    };
    assert_eq!(code(controller.create_snapshot(request).await), Code::InvalidArgument);
    let request = ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        secrets: secrets(),
        ..ControllerExpandVolumeRequest::default()
    };
    assert_eq!(code(controller.controller_expand_volume(request).await), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_are_confirmed_or_not() {
    use volume_capability::AccessMode;
    use volume_capability::access_mode::Mode;
    let mut driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let mut ask = async |capability: VolumeCapability| {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume.volume_id.clone(),
            volume_capabilities: vec![capability],
            secrets: secrets(),
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        driver.controller.validate_volume_capabilities(request).await.unwrap().into_inner()
    };
    let good = ask(super::driver::mount()).await;
    assert_eq!(good.confirmed.unwrap().volume_capabilities, [super::driver::mount()]);
    let mut many = super::driver::mount();
    many.access_mode = Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() });
    let bad = ask(many).await;
    assert!(bad.confirmed.is_none() && bad.message.contains("several nodes"), "{}", bad.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_do_not_fit_are_told_without_the_key() {
    let driver = Driver::with(false).await;
    let wrong = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";
    let cases: [(HashMap<String, String>, &[Code]); 4] = [
        (HashMap::new(), &[Code::InvalidArgument]),
        (map([("userID", &*user().name)]), &[Code::InvalidArgument]),
        (map([("userID", &*user().name), ("userKey", wrong)]), &[Code::Unauthenticated]),
        (map([("userID", "nobody"), ("userKey", wrong)]), &[Code::Unauthenticated]),
    ];
    for (secrets, codes) in cases {
        let mut request = create("a", 16);
        request.secrets = secrets;
        let status = driver.create(request).await.unwrap_err();
        assert!(codes.contains(&status.code()), "{status}");
        assert!(!format!("{status:?}").contains(&wrong[..16]), "{status:?}");
    }
    // A key that ends in a newline, as a secret made by `echo` has it.
    let mut request = create("a", 16);
    request.secrets = map([("userID", &*user().name), ("userKey", &*format!("{}\n", user().key))]);
    driver.create(request).await.unwrap();
    assert_eq!(class()["pool"], "rbd");
}

/// A user of another pool: nothing is made, and nothing counts as gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told() {
    let driver = Driver::start().await;
    let volume = driver.volume("there").await;
    let taken = driver.snapshot("there", &volume.volume_id).await.unwrap();
    let name = format!("{}-other", user().name);
    let other = rbd_testcluster::shared()
        .user(&name, &[("mon", "profile rbd"), ("osd", "profile rbd pool=elsewhere")])
        .unwrap();
    let secrets = map([("userID", &*other.id), ("userKey", &*other.key)]);
    let mut controller = driver.controller.clone();
    let told = |status: Result<_, tonic::Status>| {
        let status = status.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains("'rbd/csi-") || status.message().contains("there"), "{status}");
    };
    told(
        controller
            .create_volume(CreateVolumeRequest { secrets: secrets.clone(), ..create("a", 16) })
            .await
            .map(drop),
    );
    let delete = DeleteVolumeRequest { volume_id: volume.volume_id.clone(), secrets: secrets.clone() };
    told(controller.delete_volume(delete).await.map(drop));
    let snapshot = DeleteSnapshotRequest { snapshot_id: taken.snapshot_id, secrets: secrets.clone() };
    told(controller.delete_snapshot(snapshot).await.map(drop));
    let expand = ControllerExpandVolumeRequest {
        volume_id: volume.volume_id,
        capacity_range: Some(CapacityRange { required_bytes: 32 * MIB, limit_bytes: 0 }),
        secrets,
        volume_capability: None,
    };
    told(controller.controller_expand_volume(expand).await.map(drop));
    assert_eq!(driver.images(), ["csi-vol-there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_leave_no_connection_behind() {
    let driver = Driver::start().await;
    let controller = driver.again();
    let missing: rbd_csi::ids::VolumeId = format!("1:{CLUSTER}:1::abc").parse().unwrap();
    tokio::task::spawn_blocking(move || {
        let exists = |key: &str| {
            let secrets = map([("userID", &*user().name), ("userKey", key)]);
            controller.exists(&missing, &Secrets::new(secrets))
        };
        assert!(!exists(&user().key).unwrap());
        assert_eq!(controller.clusters().connections(), 1);
        assert_eq!(code(exists("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==")), Code::Unauthenticated);
        assert_eq!(controller.clusters().connections(), 1);
        // The same key in another form is a new key: the former connection goes.
        assert!(!exists(&format!("{}\n", user().key)).unwrap());
        assert_eq!(controller.clusters().connections(), 1);
    })
    .await
    .unwrap();
}
