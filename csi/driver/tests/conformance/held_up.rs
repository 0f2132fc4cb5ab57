//! Requests for one object wait for each other. The error of a request that waited in vain names
//! the request that is under way.

use std::collections::HashMap;
use std::time::Duration;

use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::node_client::NodeClient;
use rbd_csi::proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest,
    NodeStageVolumeRequest, Volume,
};
use rbd_csi::server;
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::driver::{CLUSTER, connect, create, map, mount, services};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

async fn create_volume(channel: Channel, request: CreateVolumeRequest) -> Result<Volume, Status> {
    Ok(ControllerClient::new(channel).create_volume(request).await?.into_inner().volume.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_request_that_waited_names_the_other_request() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let home = tempfile::tempdir().unwrap();
    let (config, socket) = (home.path().join("config.json"), home.path().join("csi.sock"));
    let monitors = admin.config().get("mon_host").unwrap();
    std::fs::write(&config, json!([{"clusterID": CLUSTER, "monitors": [monitors]}]).to_string()).unwrap();
    let mut services = services(&config);
    services.controller = services.controller.map(|controller| controller.patience(PATIENCE));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn({
        let socket = socket.clone();
        async move { server::serve(services, &socket, stopped).await.unwrap() }
    });
    let channel = connect(socket).await;
    let mut controller = ControllerClient::new(channel.clone());
    let secrets = map([("userID", "admin"), ("userKey", &*daemons.key("admin").unwrap())]);
    let mut request = create("a", 16);
    request.secrets = secrets.clone();
    let mut other = create("b", 16);
    other.secrets = secrets.clone();
    let there = create_volume(channel.clone(), other).await.unwrap().volume_id;

    daemons.pause(Daemon::Osd(0)).unwrap();
    let first = tokio::spawn(create_volume(channel.clone(), request.clone()));
    let delete = DeleteVolumeRequest { volume_id: there.clone(), secrets: secrets.clone() };
    let deletion = tokio::spawn({
        let mut controller = controller.clone();
        async move { controller.delete_volume(delete).await }
    });
    // The first two requests have arrived.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let expand = ControllerExpandVolumeRequest {
        volume_id: there.clone(),
        capacity_range: Some(CapacityRange { required_bytes: 32 << 20, limit_bytes: 0 }),
        secrets,
        volume_capability: None,
    };
    let (second, expansion) = tokio::join!(
        create_volume(channel.clone(), request.clone()),
        controller.controller_expand_volume(expand),
    );
    for (status, told) in [
        (second.unwrap_err(), "CreateVolume for volume 'a' is under way"),
        (expansion.unwrap_err(), &*format!("DeleteVolume for volume '{there}' is under way")),
    ] {
        assert_eq!(status.code(), Code::Aborted, "{status}");
        assert!(status.message().starts_with(told) && status.message().contains("ask again"), "{status}");
    }
    assert!(!first.is_finished() && !deletion.is_finished());

    // When the OSD answers again, the first requests succeed, and so does the repeated one.
    daemons.resume(Daemon::Osd(0)).unwrap();
    let volume = first.await.unwrap().unwrap();
    deletion.await.unwrap().unwrap();
    assert_eq!(create_volume(channel, request).await.unwrap(), volume);
    let images = admin.ioctx("rbd").unwrap().list().unwrap();
    assert_eq!(images.iter().map(|image| &*image.name).collect::<Vec<_>>(), ["csi-vol-a"]);
}

/// The requests for volumes of a cluster that does not answer do not hold up those for others.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_another_cluster_are_staged_meanwhile() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let home = tempfile::tempdir().unwrap();
    let (config, socket) = (home.path().join("config.json"), home.path().join("csi.sock"));
    let clusters = [("held-up", admin.clone()), (CLUSTER, super::driver::admin().clone())];
    let clusters = clusters.map(
        |(name, cluster)| json!({"clusterID": name, "monitors": [cluster.config().get("mon_host").unwrap()]}),
    );
    std::fs::write(&config, json!(clusters).to_string()).unwrap();
    let (services, (_stop, stopped)) = (services(&config), watch::channel(false));
    tokio::spawn({
        let socket = socket.clone();
        async move { server::serve(services, &socket, stopped).await.unwrap() }
    });
    let channel = connect(socket).await;
    let stage = |id: String, secrets: HashMap<String, String>| {
        let request = NodeStageVolumeRequest {
            volume_id: id,
            staging_target_path: "/nowhere".into(),
            volume_capability: Some(mount()),
            secrets,
            ..NodeStageVolumeRequest::default()
        };
        let mut node = NodeClient::new(channel.clone());
        async move { node.node_stage_volume(request).await }
    };
    let secrets = map([("userID", "admin"), ("userKey", &*daemons.key("admin").unwrap())]);
    // Connects, because a paused OSD does not prevent that.
    let missing = stage("1:held-up:1::abc".into(), secrets.clone()).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    daemons.pause(Daemon::Osd(0)).unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|number| tokio::spawn(stage(format!("1:held-up:1::a{number}"), secrets.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = stage(format!("1:{CLUSTER}:1::abc"), super::driver::secrets());
    let other = tokio::time::timeout(Duration::from_secs(15), other).await;
    daemons.resume(Daemon::Osd(0)).unwrap();
    assert_eq!(other.expect("it waited").unwrap_err().code(), Code::NotFound);
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap_err().code(), Code::NotFound);
    }
}
