//! Metadata and overridden options of images and pools, and the statistics of a pool.

use rbd::{ErrorKind, ObjectKind, config::ConfigSource};

use crate::masks::{OBJECT, create};
use crate::support::{Space, builder, own_cluster, unique, wait_for_options};

const MISSING: ErrorKind = ErrorKind::NotFound { what: ObjectKind::MetadataKey };

#[test]
fn metadata_of_images_and_pools_is_kept_and_long_lists_are_whole() {
    let space = Space::new();
    create(&space, "foo", OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    assert!(image.metadata().list().unwrap().is_empty());
    // More pairs than a page, texts longer than the first buffers, and an empty value.
    let mut expected: std::collections::BTreeMap<String, String> =
        (0..150).map(|n| (format!("key-{n:03}"), "v".repeat(n * 10))).collect();
    for (key, value) in &expected {
        image.metadata().set(key, value).unwrap();
        space.metadata().set(key, value).unwrap();
    }
    assert_eq!(image.metadata().list().unwrap(), expected);
    assert_eq!(space.metadata().list().unwrap(), expected);
    image.metadata().set("key-001", "changed: ü").unwrap();
    expected.insert("key-001".into(), "changed: ü".into());
    assert_eq!(image.metadata().list().unwrap(), expected);
    assert_eq!(image.metadata().get("key-001").unwrap(), "changed: ü");
    assert_eq!(image.metadata().get("key-000").unwrap(), "");
    assert_eq!(space.metadata().get("key-149").unwrap().len(), 1490);
    image.metadata().remove("key-001").unwrap();
    space.metadata().remove("key-001").unwrap();
    for error in [
        image.metadata().get("key-001").unwrap_err(),
        image.metadata().remove("key-001").unwrap_err(),
        space.metadata().get("key-001").unwrap_err(),
        space.metadata().remove("key-001").unwrap_err(),
    ] {
        assert_eq!(*error.kind(), MISSING, "{error}");
        assert!(error.object_name().starts_with("key-001 of rbd/"), "{error}");
    }
    for (key, value) in [("", "x"), ("a\0b", "x"), ("a", "x\0")] {
        assert_eq!(*image.metadata().set(key, value).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(*space.metadata().set(key, value).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let read_only = space.open("foo").read_only(true).run().unwrap();
    assert!(read_only.metadata().set("a", "b").unwrap_err().is_read_only());
    assert_eq!(read_only.metadata().list().unwrap().len(), 149);
}

#[test]
fn options_are_overridden_by_pool_and_image_and_tell_where() {
    let (_daemons, cluster) = own_cluster();
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("foo", OBJECT).run().unwrap();
    let option = "rbd_qos_iops_limit";
    let of_pool = || pool.config().list().unwrap().into_iter().find(|o| o.name == option).unwrap();
    let of_image = || {
        let image = pool.open("foo").read_only(true).run().unwrap();
        image.config().list().unwrap().into_iter().find(|o| o.name == option).unwrap()
    };
    assert_eq!((of_pool().value, of_pool().source), ("0".to_owned(), ConfigSource::Config));
    pool.config().set(option, "500").unwrap();
    wait_for_options();
    assert_eq!((of_pool().value, of_pool().source), ("500".to_owned(), ConfigSource::Pool));
    assert_eq!((of_image().value, of_image().source), ("500".to_owned(), ConfigSource::Pool));
    let image = pool.open("foo").run().unwrap();
    image.config().set(option, "700").unwrap();
    assert_eq!((of_image().value, of_image().source), ("700".to_owned(), ConfigSource::Image));
    assert_eq!(image.metadata().list().unwrap()["conf_rbd_qos_iops_limit"], "700");

    let error = image.config().set("rbd_no_such_option", "1").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::ConfigOption }, "{error}");
    for (option, value) in [(option, "many"), ("rbd_cache", "perhaps")] {
        let error = image.config().set(option, value).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(value), "{error}");
        assert!(pool.config().set(option, value).is_err());
    }
    image.config().remove(option).unwrap();
    assert_eq!(of_image().source, ConfigSource::Pool);
    pool.config().remove(option).unwrap();
    wait_for_options();
    assert_eq!(of_image().source, ConfigSource::Config);
    assert_eq!(*image.config().remove(option).unwrap_err().kind(), MISSING);
    let mut names: Vec<_> = pool.config().list().unwrap().into_iter().map(|o| o.name).collect();
    assert!(names.len() > 40 && names.is_sorted());
    names.dedup();
    assert_eq!(names.len(), pool.config().list().unwrap().len());
}

#[test]
fn statistics_count_images_sizes_and_snapshots() {
    let space = Space::new();
    let stats = space.stats().unwrap();
    assert_eq!((stats.images.count, stats.images.provisioned, stats.trash.count), (0, 0, 0));
    create(&space, "foo", 8 * OBJECT).run().unwrap();
    create(&space, "bar", 4 * OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.resize(2 * OBJECT).allow_shrink(true).run().unwrap();
    image.close().unwrap();
    let stats = space.stats().unwrap();
    assert_eq!((stats.images.count, stats.images.snapshots), (2, 1));
    assert_eq!(stats.images.provisioned, 6 * OBJECT);
    assert_eq!(stats.images.max_provisioned, 12 * OBJECT);
    let missing = space.with_namespace("").unwrap().with_namespace("nowhere").unwrap();
    let error = missing.list().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Namespace }, "{error}");
}

/// librbd lists nothing in a namespace that does not exist, and stores what it is told to.
#[test]
fn a_missing_namespace_is_neither_empty_nor_written() {
    let missing = Space::new().with_namespace("").unwrap().with_namespace(&unique("nowhere")).unwrap();
    let (metadata, mirroring) = (missing.metadata(), missing.mirroring());
    for (call, outcome) in [
        ("stats", missing.stats().map(drop)),
        ("list metadata", metadata.list().map(drop)),
        ("set metadata", metadata.set("a", "1")),
        ("override", missing.config().set("rbd_qos_iops_limit", "500")),
        ("purge", missing.trash().purge().run()),
        ("set the mode", mirroring.set_mode(rbd::mirror::PoolMode::Image)),
        ("images", mirroring.images(None).map(drop)),
        ("statuses", mirroring.statuses().map(drop)),
        ("summary", mirroring.summary().map(drop)),
        ("daemons", mirroring.instance_ids().map(drop)),
    ] {
        let error = outcome.expect_err(call);
        let expected = ErrorKind::NotFound { what: ObjectKind::Namespace };
        assert_eq!(*error.kind(), expected, "{call}: {error}");
    }
    assert_eq!(missing.objects().list().unwrap().count(), 0);
}

#[test]
fn a_pool_of_another_application_is_not_taken_over_in_silence() {
    let cluster = builder().connect().unwrap();
    let name = unique("init");
    cluster.pools().create(&name).unwrap();
    let pool = cluster.ioctx(&name).unwrap();
    let enable = serde_json::json!({"pool": name, "app": "cephfs"});
    rbd_testcluster::shared().mon_query("osd pool application enable", enable).unwrap();
    let error = pool.init().run().unwrap_err();
    assert_eq!((error.object_kind(), error.object_name()), (ObjectKind::Pool, &*name), "{error}");
    assert!(error.is_permission_denied() || error.is_already_exists(), "{error}");
    pool.init().force(true).run().unwrap();
    pool.create("foo", OBJECT).run().unwrap();
    cluster.pools().remove(&name).unwrap();
}
