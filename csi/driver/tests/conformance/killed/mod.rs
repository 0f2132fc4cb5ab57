//! The controller is killed (`kill -9`) at any time of each call that changes something, and
//! started again. The same request converges: there is one object for it, it is whole, and nothing
//! is left when it is deleted.

mod call;
mod check;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbd::IoCtx;
use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::{ValidateVolumeCapabilitiesRequest, VolumeGroupSnapshot};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use super::child::Program;
use super::driver::{Driver, connect, create, from_snapshot, from_volume, mount, secrets};
use call::{Call, Made};

/// The driver is killed at each of these tenths of the time that the call takes.
const TENTHS: [u32; 4] = [1, 3, 6, 8];
/// The requests during which the driver is not killed.
const WHOLE: [&str; 2] = ["whole", "second"];
/// What the sources of the volumes hold at their beginning.
const CONTENT: &[u8] = b"content of the source";

/// A kind of request, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Blank,
    DataPool,
    FromSnapshot,
    FromVolume,
    FromGroupSnapshot,
    Delete,
    DeleteCloned,
    Expand,
    Snapshot,
    DeleteSnapshot,
    Group,
    DeleteGroup,
}

const KINDS: [Kind; 12] = [
    Kind::Blank,
    Kind::DataPool,
    Kind::FromSnapshot,
    Kind::FromVolume,
    Kind::FromGroupSnapshot,
    Kind::Delete,
    Kind::DeleteCloned,
    Kind::Expand,
    Kind::Snapshot,
    Kind::DeleteSnapshot,
    Kind::Group,
    Kind::DeleteGroup,
];

struct Site {
    driver: Driver,
    data: IoCtx,
}

impl Site {
    async fn start() -> Site {
        let driver = Driver::start().await;
        let data = format!("csi-killed-{}", std::process::id());
        rbd_testcluster::shared().create_pool(&data).unwrap();
        let data = driver.pool.cluster().ioctx(&data).unwrap();
        let data = data.with_namespace(driver.pool.namespace()).unwrap();
        Site { driver, data }
    }

    /// A volume with content.
    async fn source(&self, name: &str) -> String {
        let id = self.driver.volume(name).await.volume_id;
        let image = self.driver.pool.open(&format!("csi-vol-{name}")).run().unwrap();
        image.write_all_at(CONTENT, 0).unwrap();
        image.close().unwrap();
        id
    }

    async fn group(&self, name: &str) -> Call {
        let volumes = vec![self.source(&format!("{name}-1")).await, self.source(&format!("{name}-2")).await];
        Call::Group { volumes, name: name.to_owned() }
    }

    async fn group_snapshot(&self, name: &str) -> VolumeGroupSnapshot {
        let channel = connect(self.driver.socket()).await;
        match self.group(name).await.send(channel).await.unwrap() {
            Made::Group(taken) => taken,
            made => panic!("{made:?}"),
        }
    }

    /// Makes what the request needs. Each request has sources of its own: a client that was killed
    /// keeps the lock of an image.
    async fn prepare(&self, kind: Kind, name: &str) -> Call {
        let (driver, source) = (&self.driver, format!("{name}-source"));
        let mut request = create(name, 32);
        match kind {
            Kind::Blank => {}
            Kind::DataPool => {
                request.parameters.insert("dataPool".into(), self.data.pool().into());
            }
            Kind::FromSnapshot => {
                let volume = self.source(&source).await;
                let taken = driver.snapshot(&source, &volume).await.unwrap();
                request.volume_content_source = from_snapshot(&taken.snapshot_id);
            }
            Kind::FromVolume => {
                request.volume_content_source = from_volume(&self.source(&source).await);
            }
            Kind::FromGroupSnapshot => {
                let taken = self.group_snapshot(&source).await;
                request.volume_content_source = from_snapshot(&taken.snapshots[0].snapshot_id);
            }
            Kind::Delete => return Call::Delete(self.source(name).await),
            Kind::DeleteCloned => {
                let volume = self.source(name).await;
                let mut clone = create(&format!("{name}-clone"), 16);
                clone.volume_content_source = from_volume(&volume);
                driver.create(clone).await.unwrap();
                return Call::Delete(volume);
            }
            Kind::Expand => return Call::Expand(self.source(name).await),
            Kind::Snapshot => {
                return Call::Snapshot { volume: self.source(&source).await, name: name.to_owned() };
            }
            Kind::DeleteSnapshot => {
                let volume = self.source(&source).await;
                let taken = driver.snapshot(name, &volume).await.unwrap();
                return Call::DeleteSnapshot(taken.snapshot_id);
            }
            Kind::Group => return self.group(name).await,
            Kind::DeleteGroup => return Call::DeleteGroup(self.group_snapshot(name).await),
        }
        Call::Create(Box::new(request))
    }
}

/// A program that is connected to the cluster.
async fn start(driver: &Driver, home: &Path) -> (Program, Channel) {
    let socket = home.join("csi.sock");
    let program = Program::controller(driver.config(), &socket, &["--log", "error"]);
    let channel = connect(socket).await;
    let request = ValidateVolumeCapabilitiesRequest {
        volume_id: "1:test-cluster:1::none".into(),
        volume_capabilities: vec![mount()],
        secrets: secrets(),
        ..Default::default()
    };
    let status =
        ControllerClient::new(channel.clone()).validate_volume_capabilities(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    (program, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_at_any_time_converges() {
    let begun = Instant::now();
    let site = Arc::new(Site::start().await);
    let home = tempfile::tempdir().unwrap();
    let names: Vec<(Kind, String)> = KINDS
        .into_iter()
        .flat_map(|kind| {
            let parts = TENTHS.iter().map(ToString::to_string).chain(WHOLE.map(str::to_owned));
            parts.map(move |part| (kind, format!("{kind:?}-{part}")))
        })
        .collect();
    let mut calls = HashMap::new();
    let mut prepared = JoinSet::new();
    for (kind, name) in names.clone() {
        let site = Arc::clone(&site);
        prepared.spawn(async move { (name.clone(), site.prepare(kind, &name).await) });
        if prepared.len() > 8 {
            calls.extend(prepared.join_next().await.unwrap());
        }
    }
    calls.extend(prepared.join_all().await);
    println!("{:?}: prepared", begun.elapsed());

    let (mut made, mut cuts) = (HashMap::new(), 0);
    for kind in KINDS {
        // The second one counts if the machine was busy for a moment.
        let mut took = Duration::MAX;
        for part in WHOLE {
            let name = format!("{kind:?}-{part}");
            let (_program, channel) = start(&site.driver, home.path()).await;
            let sent = Instant::now();
            made.insert(name.clone(), calls[&name].clone().send(channel).await.unwrap());
            took = took.min(sent.elapsed());
        }
        let mut cut = 0;
        for tenths in TENTHS {
            let (mut program, channel) = start(&site.driver, home.path()).await;
            let sent = tokio::spawn(calls[&format!("{kind:?}-{tenths}")].clone().send(channel));
            tokio::time::sleep(took * tenths / 10).await;
            program.kill();
            cut += usize::from(sent.await.unwrap().is_err());
        }
        println!(
            "{:?}: {kind:?}: {cut} of {} were cut, at tenths of {took:?}",
            begun.elapsed(),
            TENTHS.len()
        );
        cuts += cut;
    }
    assert!(cuts >= KINDS.len(), "{cuts} requests were cut");

    let (_program, channel) = start(&site.driver, home.path()).await;
    let again: Vec<(String, Call)> =
        names.iter().map(|(_, name)| (name.clone(), calls[name].clone())).collect();
    made.extend(check::all(&channel, again.clone()).await);
    // The request is repeated once more.
    let answers = check::all(&channel, again).await;
    for (name, answer) in &made {
        assert_eq!(&answers[name], answer, "{name}");
    }
    println!("{:?}: converged", begun.elapsed());
    tokio::task::spawn_blocking({
        let site = Arc::clone(&site);
        move || site.check(&names, &made)
    })
    .await
    .unwrap();
    check::clean(&site, &channel).await;
    println!("{:?}: deleted", begun.elapsed());
}
