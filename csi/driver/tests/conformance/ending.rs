//! The driver's program ends soon after a signal, also while a request waits for a cluster that
//! does not answer.

use std::time::Duration;

use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;

use super::child::Program;
use super::driver::{CLUSTER, connect, create, map};

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_soon_whatever_it_waits_for() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let monitors = admin.config().get("mon_host").unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.json");
    std::fs::write(&config, json!([{"clusterID": CLUSTER, "monitors": [monitors]}]).to_string()).unwrap();
    let secrets = map([("userID", "admin"), ("userKey", &*daemons.key("admin").unwrap())]);
    let request = |name: &str| {
        let mut request = create(name, 16);
        request.secrets = secrets.clone();
        request
    };

    // A request that is answered in the grace time is answered; an idle driver ends at once.
    let socket = home.path().join("idle.sock");
    let mut program = Program::controller(&config, &socket, &["--grace", "600"]);
    let channel = connect(socket.clone()).await;
    ControllerClient::new(channel.clone()).create_volume(request("answered")).await.unwrap();
    program.terminate();
    program.ends("idle");
    assert!(!socket.exists());

    daemons.pause(Daemon::Mon).unwrap();
    for (grace, signals) in [("1", 1), ("600", 2)] {
        let what = format!("grace {grace}, {signals} signals");
        let socket = home.path().join(format!("{grace}.sock"));
        let mut program = Program::controller(&config, &socket, &["--grace", grace]);
        let channel = connect(socket.clone()).await;
        let waiting = tokio::spawn({
            let request = request("waiting");
            async move { ControllerClient::new(channel).create_volume(request).await }
        });
        // The request has arrived, and waits for the monitor.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished(), "{what}");
        program.terminate();
        if signals == 2 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(program.is_there(), "{what}: the grace time is not over");
            program.terminate();
        }
        program.ends(&what);
        assert!(waiting.await.unwrap().is_err(), "{what}");
        assert!(!socket.exists(), "{what}");
    }
    daemons.resume(Daemon::Mon).unwrap();
}
