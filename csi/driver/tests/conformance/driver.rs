//! The driver, served on a socket by this process, with a namespace of its own in the cluster.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rbd::{Cluster, IoCtx};
use rbd_csi::clusters::Clusters;
use rbd_csi::config::Config;
use rbd_csi::controller::{Controller, Options};
use rbd_csi::node::{self, Node};
use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::group_controller_client::GroupControllerClient;
use rbd_csi::proto::csi::identity_client::IdentityClient;
use rbd_csi::proto::csi::node_client::NodeClient;
use rbd_csi::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use rbd_csi::proto::csi::*;
use rbd_csi::server::{self, Services};
use rbd_csi::service::{ControllerService, Identity, NodeService};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

pub const CLUSTER: &str = "test-cluster";
pub const MIB: i64 = 1 << 20;
/// Ancestors of a volume that is flattened.
pub const DEPTH: usize = 3;
/// Snapshots that a volume may have.
pub const MOST: usize = 40;

/// A user of the cluster, as a storage class's secret names it.
pub struct User {
    pub name: String,
    pub key: String,
}

/// The user that the tests' secrets name.
pub fn user() -> &'static User {
    static USER: OnceLock<User> = OnceLock::new();
    USER.get_or_init(|| {
        let name = format!("csi-{}", std::process::id());
        let command = format!(
            r#"{{"prefix": "auth get-or-create", "entity": "client.{name}",
                "caps": ["mon", "profile rbd", "osd", "profile rbd", "mgr", "profile rbd"]}}"#
        );
        admin().mon_command(&command, &[]).unwrap();
        let key = admin().key_of(&format!("client.{name}")).unwrap().expose().to_owned();
        User { name, key }
    })
}

/// A connection that sees what the driver has done.
pub fn admin() -> &'static Cluster {
    static ADMIN: OnceLock<Cluster> = OnceLock::new();
    ADMIN.get_or_init(|| {
        let conf = rbd_testcluster::shared().conf();
        Cluster::builder().ignore_environment(true).conf_file(conf).connect().unwrap()
    })
}

/// A driver and its clients.
pub struct Driver {
    pub controller: ControllerClient<Channel>,
    pub groups: GroupControllerClient<Channel>,
    pub blocks: SnapshotMetadataClient<Channel>,
    pub node: NodeClient<Channel>,
    pub identity: IdentityClient<Channel>,
    /// Where its images lie.
    pub pool: IoCtx,
    config: PathBuf,
    _stop: watch::Sender<bool>,
    home: tempfile::TempDir,
}

impl Driver {
    /// A driver with a user of its own, for the calls without secrets.
    pub async fn start() -> Driver {
        Driver::with(true).await
    }

    pub async fn with(own_user: bool) -> Driver {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("csi-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let pool = tokio::task::spawn_blocking({
            let namespace = namespace.clone();
            move || {
                user();
                let pool = admin().ioctx("rbd").unwrap();
                pool.namespaces().create(&namespace).unwrap();
                pool.with_namespace(&namespace).unwrap()
            }
        })
        .await
        .unwrap();
        let home = tempfile::tempdir().unwrap();
        let key_file = home.path().join("key");
        std::fs::write(&key_file, format!("{}\n", user().key)).unwrap();
        let monitors = admin().config().get("mon_host").unwrap();
        let mut cluster = serde_json::json!({
            "clusterID": CLUSTER,
            "monitors": [monitors],
            "rbd": {"radosNamespace": namespace},
            "pools": ["rbd"],
        });
        if own_user {
            cluster["user"] = user().name.clone().into();
            cluster["keyFile"] = key_file.display().to_string().into();
        }
        let config = home.path().join("config.json");
        std::fs::write(&config, serde_json::json!([cluster]).to_string()).unwrap();
        let socket = home.path().join("csi.sock");
        let (stop, stopped) = watch::channel(false);
        let services = services(&config);
        tokio::spawn({
            let socket = socket.clone();
            async move { server::serve(services, &socket, stopped).await.unwrap() }
        });
        let channel = connect(socket).await;
        Driver {
            controller: ControllerClient::new(channel.clone()),
            groups: GroupControllerClient::new(channel.clone()),
            blocks: SnapshotMetadataClient::new(channel.clone()),
            node: NodeClient::new(channel.clone()),
            identity: IdentityClient::new(channel),
            pool,
            config,
            _stop: stop,
            home,
        }
    }

    /// The file of clusters.
    pub fn config(&self) -> &std::path::Path {
        &self.config
    }

    /// The socket that it is served on.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("csi.sock")
    }

    /// A second driver for the same cluster and namespace, as after a restart.
    pub fn again(&self) -> Controller {
        let config = Config::read(&self.config).unwrap();
        Controller::new(
            Arc::new(Clusters::new(config)),
            Options { flatten_depth: DEPTH, most_snapshots: MOST },
        )
    }

    pub async fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let answer = self.controller.clone().create_volume(request).await?;
        Ok(answer.into_inner().volume.unwrap())
    }

    /// A volume of 16 MiB.
    pub async fn volume(&self, name: &str) -> Volume {
        self.create(create(name, 16)).await.unwrap()
    }

    pub async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.into(), secrets: secrets() };
        self.controller.clone().delete_volume(request).await.map(drop)
    }

    pub async fn snapshot(&self, name: &str, volume: &str) -> Result<Snapshot, Status> {
        let request = CreateSnapshotRequest {
            source_volume_id: volume.into(),
            name: name.into(),
            secrets: secrets(),
            ..CreateSnapshotRequest::default()
        };
        Ok(self.controller.clone().create_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    pub async fn delete_snapshot(&self, id: &str) -> Result<(), Status> {
        let request = DeleteSnapshotRequest { snapshot_id: id.into(), secrets: secrets() };
        self.controller.clone().delete_snapshot(request).await.map(drop)
    }

    /// The names of the images that are there.
    pub fn images(&self) -> Vec<String> {
        let mut names: Vec<String> = self.pool.list().unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }

    /// Waits for work in the background.
    pub async fn until(&self, what: &str, mut done: impl FnMut(&IoCtx) -> bool) {
        for _ in 0..600 {
            if done(&self.pool) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{what}: not within a minute");
    }
}

/// A driver with these clusters.
pub fn services(config: &std::path::Path) -> Services {
    let config = Config::read(config).unwrap();
    let lists = config.with_user().next().is_some();
    let clusters = Arc::new(Clusters::new(config));
    let identity =
        Identity { name: rbd_csi::DEFAULT_NAME.into(), controller: true, lists, metrics: Arc::default() };
    let controller =
        Controller::new(Arc::clone(&clusters), Options { flatten_depth: DEPTH, most_snapshots: MOST });
    let second = Duration::from_secs(1);
    let options = node::Options { id: "node-1".into(), wait_for_users: second, map_timeout: 10 * second };
    Services {
        identity: identity.clone(),
        controller: Some(ControllerService::new(controller, identity.clone())),
        node: Some(NodeService::new(Node::new(clusters, options), identity)),
    }
}

pub async fn connect(socket: PathBuf) -> Channel {
    for _ in 0..200 {
        if UnixStream::connect(&socket).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

pub fn map<const N: usize>(entries: [(&str, &str); N]) -> HashMap<String, String> {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn secrets() -> HashMap<String, String> {
    map([("userID", &*user().name), ("userKey", &*user().key)])
}

pub fn class() -> HashMap<String, String> {
    map([("clusterID", CLUSTER), ("pool", "rbd"), ("csi.storage.k8s.io/fstype", "ext4")])
}

pub fn mount() -> VolumeCapability {
    use volume_capability::access_mode::Mode;
    use volume_capability::{AccessMode, AccessType, MountVolume};
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

/// A request for a volume of so many MiB.
pub fn create(name: &str, mib: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
        volume_capabilities: vec![mount()],
        parameters: class(),
        secrets: secrets(),
        ..CreateVolumeRequest::default()
    }
}

pub fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    use volume_content_source::{SnapshotSource, Type};
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })) })
}

pub fn from_volume(id: &str) -> Option<VolumeContentSource> {
    use volume_content_source::{Type, VolumeSource};
    Some(VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.into() })) })
}

/// The code of a failure.
pub fn code<T>(result: Result<T, Status>) -> Code {
    match result {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}
