//! Connecting, configuration, pools, commands, keys, fencing.

use std::time::Duration;

use rbd::{Cluster, ErrorKind, ObjectKind};
use serde_json::Value;

use crate::support::{builder, cluster, unique};

#[test]
fn knows_the_cluster_it_is_connected_to() {
    let cluster = cluster();
    let reply = cluster.mon_command(r#"{"prefix": "fsid", "format": "json"}"#, &[]).unwrap();
    let fsid: Value = serde_json::from_slice(&reply).unwrap();
    assert_eq!(fsid["fsid"], cluster.fsid().unwrap());
    assert_eq!(cluster.user(), "client.admin");
    assert!(cluster.instance_id() > 0);
    assert!(cluster.address().unwrap().as_str().contains("127.0.0.1"), "{:?}", cluster.address());
    assert!(Cluster::librbd_version().minor >= 16 && Cluster::librados_version().major >= 3);
}

#[test]
fn a_refused_command_contains_the_clusters_message() {
    let error = cluster()
        .mon_command(r#"{"prefix": "osd pool get", "pool": "nopool", "var": "size"}"#, &[])
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("unrecognized pool 'nopool'"), "{error}");
    for unknown in [r#"{"prefix": "no such command"}"#, "no JSON"] {
        for refused in [
            cluster().mon_command(unknown, &[]),
            cluster().mgr_command(unknown, &[]),
            cluster().osd_command(0, unknown, &[]),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
    let status = cluster().mgr_command(r#"{"prefix": "pg stat", "format": "json"}"#, &[]).unwrap();
    let status: Value = serde_json::from_slice(&status).unwrap();
    assert!(status.is_object());
}

#[test]
fn options_are_read_and_set() {
    let cluster = builder().option("rbd_default_features", "layering,exclusive-lock").connect().unwrap();
    assert_eq!(cluster.default_features().unwrap().to_string(), "layering, exclusive-lock");
    cluster.config().set("rbd_default_features", "1").unwrap();
    assert_eq!(cluster.default_features().unwrap(), rbd::Features::LAYERING);
    let error = cluster.config().get("no_such_option").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::ConfigOption });
    let error = cluster.config().set("rados_osd_op_timeout", "soon").unwrap_err();
    assert!(error.to_string().contains("rados_osd_op_timeout"), "{error}");
    let error = cluster.config().set("rbd_default_order", "many").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("Ceph does not accept this value"), "{error}");
    let error = cluster.config().set("mon_host", "192.0.2.7").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("only when it connects; give it to the builder"), "{error}");
}

#[test]
fn timeouts_are_finite_unless_configured() {
    let seconds = |cluster: &Cluster, option| cluster.config().get(option).unwrap().parse::<f64>().unwrap();
    let plain = cluster();
    assert!((seconds(&plain, "client_mount_timeout") - 30.0).abs() < 1e-9);
    assert!(seconds(&plain, "rados_osd_op_timeout").abs() < 1e-9, "as in Ceph");
    let set = builder()
        .osd_timeout(Duration::from_millis(1500))
        .mon_timeout(None)
        .option("client_mount_timeout", "7")
        .connect()
        .unwrap();
    assert!((seconds(&set, "rados_osd_op_timeout") - 2.0).abs() < 1e-9, "rounded up");
    assert!(seconds(&set, "rados_mon_op_timeout").abs() < 1e-9);
    assert!((seconds(&set, "client_mount_timeout") - 7.0).abs() < 1e-9);
}

#[test]
fn pools_come_and_go() {
    let (cluster, name) = (cluster(), unique("pool"));
    cluster.pools().create(&name).unwrap();
    assert!(cluster.pools().create(&name).unwrap_err().is_already_exists());
    let id = cluster.pools().id(&name).unwrap();
    assert_eq!(cluster.pools().name(id).unwrap(), name);
    assert!(cluster.pools().list().unwrap().contains(&name));
    let pool = cluster.ioctx_by_id(id).unwrap();
    assert_eq!(pool.pool(), name);
    pool.init().run().unwrap();
    pool.create("foo", 1 << 20).run().unwrap();
    assert!(cluster.usage().unwrap().total > 0);
    assert!(pool.usage().unwrap().objects < 100);
    drop(pool);
    let keep = |on: bool| {
        format!(r#"{{"prefix": "osd pool set", "pool": "{name}", "var": "nodelete", "val": "{on}"}}"#)
    };
    cluster.mon_command(&keep(true), &[]).unwrap();
    let error = cluster.pools().remove(&name).unwrap_err();
    assert!(error.is_permission_denied() && error.to_string().contains("mon_allow_pool_delete"), "{error}");
    cluster.mon_command(&keep(false), &[]).unwrap();
    cluster.pools().remove(&name).unwrap();
    assert!(!cluster.pools().list().unwrap().contains(&name));
}

#[test]
fn a_missing_pool_is_named() {
    let error = cluster().ioctx("nopool").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Pool });
    assert_eq!(
        error.to_string(),
        "cannot open pool 'nopool': the pool does not exist (ENOENT 2); check the name"
    );
    let error = cluster().ioctx("a\0b").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn keys_are_found_where_the_configuration_has_them() {
    let cluster = cluster();
    let key = cluster.key_of("client.admin").unwrap();
    assert_eq!(cluster.key().unwrap(), key, "from the keyring file");
    // The secret of a pod volume, with the newline that `echo` adds, and without a configuration
    // file.
    let monitors = cluster.config().get("mon_host").unwrap();
    let bare = Cluster::builder()
        .ignore_environment(true)
        .no_conf_file(true)
        .monitors(monitors)
        .user("admin")
        .key(format!("{}\n", key.expose()))
        .connect()
        .unwrap();
    assert_eq!(bare.key().unwrap(), key);
    assert!(cluster.key_of("client.nobody").unwrap_err().is_not_found());
}

#[test]
fn a_new_user_can_connect_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let name = unique("new");
                    let user = rbd_testcluster::shared().user(&name, &[("mon", "allow r")]).unwrap();
                    builder().user(&name).keyring(&user.keyring).connect().unwrap();
                }
            });
        }
    });
}

#[test]
fn a_wrong_key_is_refused_as_such() {
    let error = builder().key("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==").connect().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("did not accept the key of client.admin"), "{error}");
    assert!(!error.to_string().contains("AQBi"), "{error}");
    let error = builder().user("stranger").keyring("/nonexistent").connect().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::File }, "{error}");
}

#[test]
fn a_fenced_client_learns_that_it_is_fenced() {
    let (admin, space) = (cluster(), crate::support::Space::new());
    space.create("foo", 4 << 20).run().unwrap();
    let victim = builder().connect().unwrap();
    let image =
        victim.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    image.write_all_at(&[1; 512], 0).unwrap();
    let watcher = space.open("foo").read_only(true).run().unwrap().watchers().unwrap().remove(0);
    assert_eq!(watcher.client, victim.instance_id());
    admin.blocklist().add(&watcher.address).duration(Duration::from_secs(600)).run().unwrap();
    assert!(admin.blocklist().list().unwrap().iter().any(|blocked| blocked.address == watcher.address));
    victim.wait_for_latest_osdmap().unwrap();
    let error = image.write_all_at(&[2; 512], 0).and_then(|()| image.flush()).unwrap_err();
    assert!(error.is_blocklisted(), "{error}");
    // Ceph leaves an entry as it is. A shorter time than that of the entry is nothing to tell.
    admin.blocklist().add(&watcher.address).duration(Duration::from_secs(60)).run().unwrap();
    let error = admin.blocklist().add(&watcher.address).duration(Duration::MAX).run().unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("on the blocklist already"), "{error}");
    admin.blocklist().remove(&watcher.address).unwrap();
    assert!(!admin.blocklist().list().unwrap().iter().any(|blocked| blocked.address == watcher.address));
    admin.blocklist().add(&watcher.address).duration(Duration::MAX).run().unwrap();
    let listed = admin.blocklist().list().unwrap();
    let entry = listed.iter().find(|blocked| blocked.address == watcher.address).expect("it is fenced");
    assert!(entry.until.starts_with("2106-"), "{entry:?}");
    admin.blocklist().remove(&watcher.address).unwrap();
    // Ceph lists all clients of a machine in another form than they are added in.
    let machine = "192.0.2.7".parse().unwrap();
    admin.blocklist().add(&machine).duration(Duration::from_secs(600)).run().unwrap();
    let error = admin.blocklist().add(&machine).duration(Duration::MAX).run().unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    admin.blocklist().remove(&machine).unwrap();
    assert_eq!(*"somebody".parse::<rbd::ClientAddress>().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// Returns a key of the type `aes256k`, which Ceph 20.2 makes: the cluster's, or for an older Ceph,
/// one of a former cluster.
pub(crate) fn newer_key() -> String {
    const KEY: &str = "AgBgNQtrJrLaGSAAMhEvZd1wW43pZrKImhkCgxc3vAqhuslZRStfa1YQ/WQ=";
    let keyring = rbd_testcluster::shared().conf().with_file_name("ceph.client.admin.keyring");
    let keyring = std::fs::read_to_string(keyring).unwrap();
    let own = keyring.lines().find_map(|line| line.trim().strip_prefix("key = "));
    own.filter(|key| key.starts_with("Ag")).unwrap_or(KEY).to_owned()
}

#[test]
fn a_key_of_a_newer_type_is_explained_and_never_shown() {
    let key = newer_key();
    let keyring = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keyring.path(), format!("[client.admin]\n\tkey = {key}\n")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &key).unwrap();
    for builder in [builder().keyring(keyring.path()), builder().key_file(file.path()), builder().key(&*key)]
    {
        let error = builder.connect_timeout(Duration::from_secs(20)).connect().unwrap_err();
        let text = format!("{error} {error:?} {error:#}");
        assert!(!text.contains(&key[12..]), "the key is shown: {text}");
        if Cluster::librbd_version().minor >= 20 {
            assert_eq!(*error.kind(), ErrorKind::PermissionDenied, "{text}");
        } else {
            assert_eq!(*error.kind(), ErrorKind::NotSupported, "{text}");
            assert!(
                text.contains("the key of client.admin is of the newer type 2, which librados "),
                "{text}"
            );
        }
    }
}

#[test]
fn a_cluster_of_the_second_protocol_only_serves_io() {
    let daemons = rbd_testcluster::TestCluster::builder().msgr1(false).start().unwrap();
    let cluster = Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let dump = cluster.mon_command(r#"{"prefix": "osd dump", "format": "json"}"#, &[]).unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    let listens = dump["osds"][0]["public_addrs"]["addrvec"].as_array().unwrap();
    assert!(listens.iter().all(|address| address["type"] == "v2") && !listens.is_empty(), "{listens:?}");
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("foo", 8 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    image.write_all_at(b"by the second protocol", 4096).unwrap();
    image.flush().unwrap();
    let mut back = [0; 22];
    image.read_exact_at(&mut back, 4096).unwrap();
    assert_eq!(&back, b"by the second protocol");
    image.snapshots().create("s").run().unwrap();
    image.close().unwrap();
}
