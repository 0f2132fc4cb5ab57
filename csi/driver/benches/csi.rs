//! `cargo bench -p rbd-csi`: the driver's program beside the `rbd` command and beside librbd alone,
//! and the other goals of the driver. `-- --smoke` only checks that it runs.
//!
//! In each round, all of them do the same work one after the other, so that a load of the machine
//! affects all. A ratio is the median of the rounds' ratios. *librbd alone* is one process with one
//! connection that only creates and removes images: the driver cannot be faster.

#![allow(missing_docs, clippy::pedantic)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::identity_client::IdentityClient;
use rbd_csi::proto::csi::*;
use rbd_testcluster::TestCluster;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

const DRIVER: &str = env!("CARGO_BIN_EXE_rbd-csi");
/// How much is measured.
struct Scale {
    rounds: usize,
    /// Volumes that are created and deleted in a round.
    pairs: usize,
    listed: usize,
    calls: usize,
}

const FULL: Scale = Scale { rounds: 7, pairs: 32, listed: 500, calls: 10_000 };
const SMOKE: Scale = Scale { rounds: 1, pairs: 4, listed: 20, calls: 100 };

/// Requests at the same time: one, and as many as a busy provisioner has.
const AT_ONCE: [usize; 2] = [1, 16];

/// The driver's process; it ends with this value.
struct Driver(Child, Channel);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Driver {
    async fn start(config: &Path, socket: &Path, side: &[&str]) -> Driver {
        let mut command = Command::new(DRIVER);
        command.args(side).arg("--clusters").arg(config).arg("--endpoint").arg(socket);
        let child = command.args(["--log", "error"]).stdin(Stdio::null()).spawn().unwrap();
        while UnixStream::connect(socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        Driver(child, endpoint.connect_with_connector(connector).await.unwrap())
    }

    /// The memory of the process, in kB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn request(name: &str) -> CreateVolumeRequest {
    use volume_capability::access_mode::Mode;
    use volume_capability::{AccessMode, AccessType, MountVolume};
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: 1 << 30, limit_bytes: 0 }),
        volume_capabilities: vec![VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }],
        parameters: [("clusterID", "bench"), ("pool", "rbd")].map(|(a, b)| (a.into(), b.into())).into(),
        ..CreateVolumeRequest::default()
    }
}

async fn create(controller: &ControllerClient<Channel>, name: &str) -> String {
    let made = controller.clone().create_volume(request(name)).await.unwrap();
    made.into_inner().volume.unwrap().volume_id
}

async fn delete(controller: &ControllerClient<Channel>, volume_id: String) {
    let request = DeleteVolumeRequest { volume_id, ..DeleteVolumeRequest::default() };
    controller.clone().delete_volume(request).await.unwrap();
}

fn rbd(conf: &Path, words: &[&str]) {
    let output = Command::new("rbd").arg("--conf").arg(conf).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Calls with each number below `count`, on so many threads. Returns the seconds per call.
fn on_threads(threads: usize, count: usize, call: impl Fn(usize) + Sync) -> f64 {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    call(number);
                }
            });
        }
    });
    begun.elapsed().as_secs_f64() / count as f64
}

/// Awaits each number below `count`, so many at once. Returns the seconds per request.
async fn in_tasks<F: Future<Output = ()> + Send + 'static>(
    at_once: usize,
    count: usize,
    request: impl Fn(usize) -> F,
) -> f64 {
    let (mut tasks, begun) = (tokio::task::JoinSet::new(), Instant::now());
    for number in 0..count {
        if tasks.len() == at_once {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.spawn(request(number));
    }
    tasks.join_all().await;
    begun.elapsed().as_secs_f64() / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let scale = if std::env::args().any(|word| word == "--smoke") { &SMOKE } else { &FULL };
    let cluster = TestCluster::builder().mgr(false).start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let user = cluster.user("csi", &[("mon", "profile rbd"), ("osd", "profile rbd")]).unwrap();
    let key_file = home.path().join("key");
    std::fs::write(&key_file, user.key).unwrap();
    let conf = rbd::Cluster::builder().ignore_environment(true).conf_file(cluster.conf());
    let admin = conf.connect().unwrap();
    let monitors = admin.config().get("mon_host").unwrap();
    let pool = admin.ioctx("rbd").unwrap();
    let config = home.path().join("config.json");
    let clusters = serde_json::json!([{
        "clusterID": "bench", "monitors": [monitors], "user": "csi", "keyFile": key_file, "pools": ["rbd"],
    }]);
    std::fs::write(&config, clusters.to_string()).unwrap();

    let size = std::fs::metadata(DRIVER).unwrap().len();
    println!("size of the program: {:.1} MB (goal: below 20)", size as f64 / 1e6);

    let node = Driver::start(&config, &home.path().join("node.sock"), &["--node", "--node-id", "n"]).await;
    for _ in 0..100 {
        IdentityClient::new(node.1.clone()).probe(ProbeRequest {}).await.unwrap();
    }
    println!("memory of an idle node side: {:.1} MB (goal: below 40)", node.memory() as f64 / 1e3);
    drop(node);

    let driver = Driver::start(&config, &home.path().join("csi.sock"), &["--controller"]).await;
    let controller = ControllerClient::new(driver.1.clone());
    let warm = create(&controller, "warm").await;
    delete(&controller, warm).await;
    for at_once in AT_ONCE {
        let (mut command, mut alone, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..scale.rounds {
            let conf = cluster.conf().to_owned();
            let pool = pool.clone();
            let (a, b) = tokio::task::spawn_blocking(move || {
                let command = on_threads(at_once, scale.pairs, |number| {
                    let name = format!("r{round}-{number}");
                    rbd(&conf, &["create", "--size", "1G", &name]);
                    rbd(&conf, &["rm", "--no-progress", &name]);
                });
                let alone = on_threads(at_once, scale.pairs, |number| {
                    let name = format!("l{round}-{number}");
                    pool.create(&name, 1 << 30).run().unwrap();
                    pool.remove(&name).run().unwrap();
                });
                (command, alone)
            })
            .await
            .unwrap();
            command.push(a);
            alone.push(b);
            let driver = in_tasks(at_once, scale.pairs, |number| {
                let controller = controller.clone();
                async move {
                    let id = create(&controller, &format!("d{round}-{number}")).await;
                    delete(&controller, id).await;
                }
            });
            ours.push(driver.await);
        }
        let ratio = |others: &[f64]| median(others.iter().zip(&ours).map(|(a, b)| a / b).collect());
        println!(
            "create and delete a volume, {at_once} at once: rbd command {:.1} ms, librbd alone {:.1} ms, \
             driver {:.1} ms; the driver's rate is {:.1} times that of the command (goal: 10) and {:.2} \
             times that of librbd alone",
            median(command.clone()) * 1e3,
            median(alone.clone()) * 1e3,
            median(ours.clone()) * 1e3,
            ratio(&command),
            ratio(&alone)
        );
    }

    in_tasks(16, scale.listed, |number| {
        let controller = controller.clone();
        async move { drop(create(&controller, &format!("l{number}")).await) }
    })
    .await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let list = controller.clone().list_volumes(ListVolumesRequest::default()).await.unwrap();
        times.push(begun.elapsed().as_secs_f64());
        assert_eq!(list.into_inner().entries.len(), scale.listed);
    }
    println!("list {} volumes: {:.3} s (goal: 0.1)", scale.listed, median(times));

    let mut memory = Vec::new();
    let id = create(&controller, "l0").await;
    for call in 0..=scale.calls {
        if call % (scale.calls / 5) == 0 {
            memory.push(format!("{:.1}", driver.memory() as f64 / 1e3));
        }
        match call % 10 {
            // The same request again, a volume that comes and goes, and a look at one.
            0 => drop(create(&controller, "l0").await),
            1 => delete(&controller, create(&controller, "memory").await).await,
            _ => {
                let request = ControllerGetVolumeRequest { volume_id: id.clone() };
                controller.clone().controller_get_volume(request).await.unwrap();
            }
        }
    }
    println!(
        "memory of the controller over {} calls: {} MB (goal: unchanged)",
        scale.calls,
        memory.join(", ")
    );
}
