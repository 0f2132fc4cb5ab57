//! Requests for one object wait for each other. The error of a request that waited in vain names
//! the request that is under way.

use std::time::Duration;

use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, Volume,
};
use rbd_csi::server;
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::driver::{CLUSTER, connect, create, map, services};

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
