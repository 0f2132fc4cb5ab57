//! One cluster, no daemon.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use rbd::mirror::{
    BootstrapToken, CreateMirrorSnapshot, Direction, ImageMode, ImageState, PeerAccess, PoolMode,
    ReplicationState,
};
use rbd::{Errno, ErrorKind, Features, ObjectKind, cluster::Key, image::Quiesce};

use super::Pool;
use crate::support::{block_on, cluster};

/// The token of a former cluster:
/// `{"fsid":"f","client_id":"c","key":"AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==","mon_host":"h"}`.
const TOKEN: &str = "eyJmc2lkIjoiZiIsImNsaWVudF9pZCI6ImMiLCJrZXkiOiJBUUJpS0J4WXVQWGlKUkFBc3VwblRCc1VSb1d6YjBrMDBvTTNpUT09IiwibW9uX2hvc3QiOiJoIn0=";

/// Asserts that it failed because mirroring is disabled.
fn disabled<T: std::fmt::Debug>(result: rbd::Result<T>) {
    let error = result.unwrap_err();
    assert!(error.is_mirroring_disabled() && error.to_string().contains("it is not mirrored"), "{error}");
}

#[test]
fn where_mirroring_is_disabled_everything_says_so() {
    let pool = Pool::new();
    let mirroring = pool.mirroring();
    assert_eq!(mirroring.mode().unwrap(), PoolMode::Disabled);
    assert!(mirroring.peers().list().unwrap().is_empty());
    disabled(mirroring.create_bootstrap_token());
    let token = BootstrapToken::new(TOKEN);
    disabled(mirroring.import_bootstrap_token(&token, Direction::RxOnly));
    let error = mirroring.import_bootstrap_token(&BootstrapToken::new("abc"), Direction::RxOnly).unwrap_err();
    assert!(error.to_string().contains("it is not base64"), "{error}");
    disabled(mirroring.peers().add("there", "client.there").run());

    pool.create("foo", 4 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    let foo = image.mirroring();
    let info = foo.info().unwrap();
    assert_eq!((info.global_id.as_str(), info.state, info.primary), ("", ImageState::Disabled, false));
    assert_eq!(foo.mode().unwrap(), None);
    assert_eq!(foo.status().unwrap().local().state, ReplicationState::NotReported);
    let error = foo.enable(ImageMode::Snapshot).unwrap_err();
    assert!(error.is_mirroring_disabled() && error.to_string().contains("pool or namespace"), "{error}");
    foo.disable().run().expect("it is not mirrored, and that is what was asked");

    for mode in [PoolMode::Disabled, PoolMode::Image] {
        mirroring.set_mode(mode).unwrap();
        disabled(foo.promote().run());
        disabled(foo.demote());
        disabled(foo.resync());
        disabled(foo.create_snapshot().run());
        disabled(foo.promote().start().wait());
        disabled(foo.promote().force(true).start().timeout(Duration::from_secs(60)).wait());
        disabled(foo.start_demote().wait());
        disabled(foo.create_snapshot().start().wait());
    }
    let error = mirroring.set_mode(PoolMode::Unknown(77)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn an_image_is_primary_until_it_is_demoted() {
    let pool = Pool::new();
    pool.mirroring().set_mode(PoolMode::Image).unwrap();
    pool.create("foo", 4 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    let foo = image.mirroring();
    foo.enable(ImageMode::Snapshot).unwrap();
    foo.enable(ImageMode::Snapshot).expect("it is already, and that is what was asked");
    let error = foo.enable(ImageMode::Journal).unwrap_err();
    assert!(
        error.is_already_exists() && error.to_string().contains("already mirrored by snapshot"),
        "{error}"
    );
    assert_eq!(foo.mode().unwrap(), Some(ImageMode::Snapshot));
    let info = foo.info().unwrap();
    assert!(info.primary && info.state == ImageState::Enabled && !info.global_id.is_empty(), "{info:?}");

    for refused in [foo.promote().run(), foo.resync()] {
        let error = refused.unwrap_err();
        assert!(
            *error.kind() == ErrorKind::InvalidInput && error.to_string().contains("it is primary already"),
            "{error}"
        );
    }
    let error = foo.create_snapshot().run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::MirrorPeer }, "{error}");
    pool.mirroring().peers().add("there", "client.there").run().unwrap();
    let id = foo.create_snapshot().skip_quiesce(true).run().unwrap();
    assert!(image.snapshots().list().unwrap().iter().any(|snapshot| snapshot.id == id));

    image.write_all_at(b"before", 0).unwrap();
    foo.demote().unwrap();
    assert!(!foo.info().unwrap().primary);
    assert!(image.write_all_at(b"after", 0).unwrap_err().is_read_only());
    assert!(image.resize(8 << 20).run().unwrap_err().is_read_only());
    for refused in [foo.demote(), foo.create_snapshot().run().map(drop), foo.disable().run()] {
        let error = refused.unwrap_err();
        assert!(error.is_read_only() && error.to_string().contains("it is not primary"), "{error}");
    }
    foo.promote().run().unwrap();
    image.write_all_at(b"after", 0).unwrap();

    let listed = pool.mirroring().images(None).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, listed[0].mode), (&image.id().unwrap(), ImageMode::Snapshot));
    assert_eq!(listed[0].info, foo.info().unwrap());
    assert!(pool.mirroring().images(ImageMode::Journal).unwrap().is_empty());
    let statuses = pool.mirroring().statuses().unwrap();
    let status = &statuses[&image.id().unwrap()];
    assert_eq!((status.name.as_str(), &status.global_id, status.primary), ("foo", &info.global_id, None));
    assert_eq!(pool.mirroring().summary().unwrap()[&ReplicationState::NotReported], 1);
    assert!(pool.mirroring().instance_ids().unwrap().is_empty());
    assert_eq!(foo.instance_id().unwrap(), None);

    let error = pool.mirroring().set_mode(PoolMode::Disabled).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("peers"), "{error}");
    for peer in pool.mirroring().peers().list().unwrap() {
        pool.mirroring().peers().remove(&peer.uuid).unwrap();
    }
    let error = pool.mirroring().set_mode(PoolMode::Disabled).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("still mirrored"), "{error}");
    foo.demote().unwrap();
    foo.disable().force(true).run().unwrap();
    assert_eq!(foo.info().unwrap().state, ImageState::Disabled);
    image.write_all_at(b"of its own", 0).expect("it is an image of its own again");
    pool.mirroring().set_mode(PoolMode::Disabled).unwrap();
}

#[test]
fn a_snapshot_asks_the_quiesce_watches_unless_told_not_to() {
    let pool = Pool::new();
    pool.mirroring().set_mode(PoolMode::Image).unwrap();
    pool.mirroring().peers().add("there", "client.there").run().unwrap();
    pool.create("foo", 4 << 20).run().unwrap();
    let image = Arc::new(pool.open("foo").run().unwrap());
    let foo = image.mirroring();
    foo.enable(ImageMode::Snapshot).unwrap();
    let (sender, events) = channel();
    let refuse = move |event| {
        sender.send(event).unwrap();
        Err(Errno::EBUSY)
    };
    let watch = image.watch_quiesce(refuse).unwrap();
    let asked = || events.try_iter().filter(|event| *event == Quiesce::Freeze).count() > 0;
    let ways: [fn(CreateMirrorSnapshot<'_>) -> rbd::Result<u64>; 2] =
        [|snapshot| snapshot.run(), |snapshot| snapshot.start().wait()];
    for make in ways {
        make(foo.create_snapshot()).unwrap_err();
        assert!(asked());
        make(foo.create_snapshot().skip_quiesce(true)).unwrap();
        assert!(!asked());
        make(foo.create_snapshot().ignore_quiesce_error(true)).unwrap();
        assert!(asked());
    }
    drop(watch);
}

#[test]
fn the_same_without_waiting() {
    let pool = Pool::new();
    pool.mirroring().set_mode(PoolMode::Image).unwrap();
    pool.mirroring().peers().add("there", "client.there").run().unwrap();
    pool.create("foo", 4 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    let foo = image.mirroring();
    assert_eq!(foo.start_info().wait().unwrap(), foo.info().unwrap());
    foo.enable(ImageMode::Snapshot).unwrap();
    let error = foo.promote().start().wait().unwrap_err();
    assert!(
        *error.kind() == ErrorKind::InvalidInput && error.to_string().contains("it is primary already"),
        "{error}"
    );
    let id = block_on(foo.create_snapshot().into_future()).unwrap();
    assert!(image.snapshots().list().unwrap().iter().any(|snapshot| snapshot.id == id));
    foo.start_demote().wait().unwrap();
    for refused in [foo.start_demote().wait(), foo.create_snapshot().start().wait().map(drop)] {
        let error = refused.unwrap_err();
        assert!(error.is_read_only() && error.to_string().contains("it is not primary"), "{error}");
    }
    // Many at once, some of which are dropped.
    let (infos, statuses): (Vec<_>, Vec<_>) = (0..8).map(|_| (foo.start_info(), foo.start_status())).unzip();
    drop((foo.start_info(), foo.start_status(), foo.start_mode()));
    for info in infos {
        assert!(!info.wait().unwrap().primary);
    }
    for status in statuses {
        assert_eq!(status.wait().unwrap(), foo.status().unwrap());
    }
    assert_eq!(foo.start_mode().wait().unwrap(), ImageMode::Snapshot);
    block_on(foo.promote().into_future()).unwrap();
    assert!(foo.info().unwrap().primary);
    let _closed_with_some_in_flight = (foo.start_info(), foo.start_status());
    image.close().unwrap();
}

#[test]
fn peers_are_added_changed_and_removed() {
    let pool = Pool::new();
    let mirroring = pool.mirroring();
    mirroring.set_mode(PoolMode::Image).unwrap();
    let uuid = mirroring.peers().add("there", "client.there").direction(Direction::RxOnly).run().unwrap();
    let peer = mirroring.peers().list().unwrap().remove(0);
    assert_eq!((&peer.uuid, peer.direction), (&uuid, Direction::RxOnly));
    assert_eq!((peer.site_name.as_str(), peer.client_name.as_str()), ("there", "client.there"));
    assert_eq!((peer.mirror_uuid.as_str(), peer.last_seen), ("", None));
    let error = mirroring.peers().add("there", "client.there").run().unwrap_err();
    assert!(
        error.is_already_exists() && error.to_string().contains("already has a peer at this site"),
        "{error}"
    );
    for refused in [
        mirroring.peers().add("", "client.there").run(),
        mirroring.peers().add("other", "client.there").direction(Direction::TxOnly).run(),
    ] {
        assert_eq!(*refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    mirroring.peers().set_site_name(&uuid, "elsewhere").unwrap();
    mirroring.peers().set_client_name(&uuid, "client.mirror").unwrap();
    mirroring.peers().set_direction(&uuid, Direction::RxTx).unwrap();
    let peer = mirroring.peers().list().unwrap().remove(0);
    assert_eq!((peer.site_name.as_str(), peer.client_name.as_str()), ("elsewhere", "client.mirror"));
    assert_eq!(peer.direction, Direction::RxTx);

    let mut access = mirroring.peers().access(&uuid).unwrap();
    assert_eq!(access, PeerAccess::default());
    access.mon_host = Some(format!("v2:10.0.0.1:3300/0,{}", "v2:10.0.0.2:3300/0,".repeat(100)));
    access.key = Some(Key::new("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ=="));
    mirroring.peers().set_access(&uuid, &access).unwrap();
    assert_eq!(mirroring.peers().access(&uuid).unwrap(), access);
    access.mon_host = None;
    mirroring.peers().set_access(&uuid, &access).unwrap();
    assert_eq!(mirroring.peers().access(&uuid).unwrap(), access);

    mirroring.peers().remove(&uuid).unwrap();
    for missing in [
        mirroring.peers().remove(&uuid),
        mirroring.peers().set_site_name(&uuid, "x"),
        mirroring.peers().set_client_name(&uuid, "client.x"),
        mirroring.peers().set_direction(&uuid, Direction::RxTx),
        mirroring.peers().access(&uuid).map(drop),
        mirroring.peers().set_access(&uuid, &access),
    ] {
        let error = missing.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::MirrorPeer }, "{error}");
    }
}

#[test]
fn a_token_of_the_cluster_itself_is_refused() {
    let pool = Pool::new();
    let mirroring = pool.mirroring();
    mirroring.set_mode(PoolMode::Pool).unwrap();
    let token = mirroring.create_bootstrap_token().unwrap();
    for (token, direction) in [
        (token.clone(), Direction::RxTx),
        (token, Direction::TxOnly),
        (BootstrapToken::new("bm9uc2Vuc2U="), Direction::RxTx),
        (BootstrapToken::new("a\0b"), Direction::RxTx),
    ] {
        let error = mirroring.import_bootstrap_token(&token, direction).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(!error.to_string().contains(token.expose()), "the secret is not shown");
    }
    assert!(mirroring.peers().list().unwrap().is_empty());
}

#[test]
fn a_namespace_has_a_mode_of_its_own() {
    let pool = Pool::new();
    pool.namespaces().create("ns").unwrap();
    let namespace = pool.with_namespace("ns").unwrap();
    namespace.mirroring().set_mode(PoolMode::Pool).unwrap();
    assert_eq!(namespace.mirroring().mode().unwrap(), PoolMode::Pool);
    assert_eq!(pool.mirroring().mode().unwrap(), PoolMode::Disabled);
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    namespace.create("foo", 4 << 20).features(features).run().unwrap();
    let image = namespace.open("foo").run().unwrap();
    let error = image.mirroring().enable(ImageMode::Snapshot).unwrap_err();
    assert!(*error.kind() == ErrorKind::NotSupported && error.to_string().contains("journaling"), "{error}");
    image.enable_features(Features::JOURNALING).unwrap();
    assert_eq!(image.mirroring().mode().unwrap(), Some(ImageMode::Journal));
    assert!(image.mirroring().info().unwrap().primary);
    let error = image.mirroring().disable().run().unwrap_err();
    assert!(*error.kind() == ErrorKind::NotSupported && error.to_string().contains("journaling"), "{error}");
    drop(image);
    if rbd::Cluster::librbd_version().minor < 20 {
        assert!(namespace.mirroring().remote_namespace().unwrap_err().is_library_too_old());
        assert!(namespace.mirroring().set_remote_namespace("other").unwrap_err().is_library_too_old());
        namespace.mirroring().set_mode(PoolMode::Disabled).unwrap();
        return;
    }
    assert_eq!(namespace.mirroring().remote_namespace().unwrap(), "ns");
    assert!(namespace.mirroring().set_remote_namespace("other").is_err(), "not while mirroring is on");
    namespace.mirroring().set_mode(PoolMode::Disabled).unwrap();
    namespace.mirroring().set_remote_namespace("other").unwrap();
    assert_eq!(namespace.mirroring().remote_namespace().unwrap(), "other");
    namespace.mirroring().set_mode(PoolMode::Image).unwrap();
    assert_eq!(namespace.mirroring().remote_namespace().unwrap(), "other");
    namespace.mirroring().set_mode(PoolMode::Disabled).unwrap();
}

#[test]
fn a_site_has_a_name() {
    let before = cluster().mirror_site_name().unwrap();
    assert_eq!(before, cluster().fsid().unwrap(), "none was set");
    cluster().set_mirror_site_name("here").unwrap();
    assert_eq!(cluster().mirror_site_name().unwrap(), "here");
    cluster().set_mirror_site_name("").unwrap();
    assert_eq!(cluster().mirror_site_name().unwrap(), before);
}
