//! What breaks below the driver: the code and the text are clear, and the same request converges
//! once the fault is gone. What needs a kernel is in the test `vm`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rbd_csi::class::Class;
use rbd_csi::clusters::{Clusters, Secrets};
use rbd_csi::config::Config;
use rbd_csi::controller::{Controller, CreateVolume, Options, Source, Volume};
use rbd_csi::ids::VolumeId;
use rbd_csi::node::{self, Access, Node, Stage};
use rbd_csi::size::Sizes;
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::json;
use tonic::{Code, Status};

use super::driver::{CLUSTER, MOST, class, map};

const CONNECT: Duration = Duration::from_secs(3);
const CALL: Duration = Duration::from_secs(4);
/// A daemon that comes back needs a while.
const RECOVERY: Duration = Duration::from_secs(90);

struct Site {
    daemons: TestCluster,
    controller: Controller,
    node: Node,
    user: String,
    key: String,
}

impl Site {
    fn start() -> Site {
        let daemons = TestCluster::builder().start().unwrap();
        let user = daemons.user("csi", &[("mon", "profile rbd"), ("osd", "profile rbd")]).unwrap();
        let (controller, node) = sides(&daemons);
        Site { daemons, controller, node, user: user.id, key: user.key }
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(map([("userID", &*self.user), ("userKey", &*self.key)]))
    }

    fn create(&self, name: &str) -> Result<Volume, Status> {
        self.make(name, None)
    }

    fn clone(&self, name: &str, source: &VolumeId) -> Result<Volume, Status> {
        self.make(name, Some(Source::Volume(source.clone())))
    }

    fn make(&self, name: &str, source: Option<Source>) -> Result<Volume, Status> {
        self.controller.create(&CreateVolume {
            name: name.into(),
            sizes: Sizes::new(None).unwrap(),
            class: Class::new(class()),
            source,
            secrets: self.secrets(),
        })
    }

    fn delete(&self, id: &VolumeId) -> Result<(), Status> {
        self.controller.delete(id, &self.secrets())
    }

    fn stage(&self, id: &VolumeId, secrets: Secrets) -> Result<(), Status> {
        self.node.stage(&Stage {
            id: id.clone(),
            staging: "/nowhere".into(),
            access: Access {
                block: false,
                read_only: false,
                alone: true,
                file_system: None,
                mount_options: Vec::new(),
            },
            class: Class::new(class()),
            secrets,
        })
    }

    fn quota(&self, objects: u64) {
        let command = json!({
            "prefix": "osd pool set-quota", "pool": "rbd", "field": "max_objects",
            "val": objects.to_string(),
        });
        self.daemons.mon_command(&command, &[]).unwrap();
    }
}

fn sides(daemons: &TestCluster) -> (Controller, Node) {
    let admin = rbd::Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    let monitors = admin.config().get("mon_host").unwrap();
    let config = Config::parse(&json!([{"clusterID": CLUSTER, "monitors": [monitors]}]).to_string()).unwrap();
    let clusters = Arc::new(Clusters::new(config).timeouts(CONNECT, CALL));
    let options = node::Options { id: "node-1".into(), wait_for_users: Duration::ZERO, map_timeout: CALL };
    let controller =
        Controller::new(Arc::clone(&clusters), Options { flatten_depth: 4, most_snapshots: MOST });
    (controller, Node::new(clusters, options))
}

/// Makes the same request until it succeeds, as the callers of a driver do.
fn converge<T>(what: &str, request: impl Fn() -> Result<T, Status>) -> T {
    let end = Instant::now() + RECOVERY;
    loop {
        match request() {
            Ok(value) => return value,
            Err(status) => assert!(Instant::now() < end, "{what}: {status}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The rows whose error was wrong. They are collected, so that one run shows all of them.
#[derive(Default)]
struct Table(Mutex<Vec<String>>);

impl Table {
    fn row<T>(&self, what: &str, result: Result<T, Status>, code: Code, told: &str) {
        let found = match result {
            Err(status) if status.code() == code && status.message().contains(told) => return,
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
            Ok(_) => "success".to_owned(),
        };
        self.0.lock().unwrap().push(format!("{what}: {found}; not {code:?} with {told}"));
    }

    fn works<T>(&self, what: &str, result: Result<T, Status>) {
        if let Err(status) = result {
            self.0.lock().unwrap().push(format!("{what}: {status}"));
        }
    }
}

#[test]
fn each_fault_is_told_and_the_same_request_converges() {
    let (site, table) = (Site::start(), Table::default());
    let there = site.create("there").unwrap().id;

    // A wrong secret.
    let other = site.daemons.key("admin").unwrap();
    let wrong = |key: &str| Secrets::new(map([("userID", "csi"), ("userKey", key)]));
    table.row("another key", site.stage(&there, wrong(&other)), Code::Unauthenticated, "client.csi");
    table.row("no key", site.stage(&there, wrong("no key")), Code::InvalidArgument, "key");
    let nobody = Secrets::new(map([("userID", "nobody"), ("userKey", &*site.key)]));
    table.row("no user", site.stage(&there, nobody), Code::Unauthenticated, "client.nobody");
    table.row("no secrets", site.stage(&there, Secrets::default()), Code::InvalidArgument, "'userKey'");

    // An image that is deleted underneath.
    let gone = site.create("gone").unwrap().id;
    site.delete(&gone).unwrap();
    table.row("deleted image", site.stage(&gone, site.secrets()), Code::NotFound, &gone.image);
    site.delete(&gone).unwrap();

    // A full pool. What frees space still works.
    let [first, second, parent] = ["first", "second", "parent"].map(|name| site.create(name).unwrap().id);
    let taken = site.controller.create_snapshot("s", &first, &Class::new(class()), &site.secrets()).unwrap();
    let clone = site.clone("clone", &parent).unwrap().id;
    site.quota(1);
    let end = Instant::now() + RECOVERY;
    while !site.daemons.mon_query("osd dump", json!({})).unwrap()["pools"]
        .as_array()
        .unwrap()
        .iter()
        // Not `nearfull`, which comes first.
        .any(|pool| pool["flags_names"].as_str().unwrap_or_default().split(',').any(|flag| flag == "full"))
    {
        assert!(Instant::now() < end, "the pool is not full");
        std::thread::sleep(Duration::from_millis(200));
    }
    table.row("full pool", site.create("full"), Code::ResourceExhausted, "'rbd'");
    table.works("full pool, snapshot", site.controller.delete_snapshot(&taken.id, &site.secrets()));
    for (what, id) in [("snapshotted", &first), ("blank", &second), ("cloned", &parent), ("clone", &clone)] {
        table.works(&format!("full pool, {what} volume"), site.delete(id));
    }
    site.quota(0);
    let full = converge("a pool with room", || site.create("full"));
    assert_eq!(converge("again", || site.create("full")), full);

    // An OSD that is down.
    site.daemons.stop_osd(0).unwrap();
    table.row("create, OSD down", site.create("osd"), Code::Unavailable, "csi-vol-osd'");
    table.row("stage, OSD down", site.stage(&there, site.secrets()), Code::Unavailable, &there.image);
    table.row("delete, OSD down", site.delete(&full.id), Code::Unavailable, &full.id.image);
    site.daemons.start_osd(0).unwrap();
    let volume = converge("an OSD that is back", || site.create("osd"));
    assert_eq!(site.create("osd").unwrap(), volume);
    converge("delete, OSD back", || site.delete(&full.id));

    // A monitor that does not answer: several new connections at the same time.
    let (controller, node) = sides(&site.daemons);
    site.daemons.pause(Daemon::Mon).unwrap();
    let site = Site { controller, node, ..site };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                table.row("monitor down", site.create("mon"), Code::Unavailable, CLUSTER);
            });
        }
    });
    // Those that waited for one connection fail with it, and do not try one after the other.
    let waited = begun.elapsed();
    site.daemons.resume(Daemon::Mon).unwrap();
    let volume = converge("a monitor that is back", || site.create("mon"));
    assert_eq!(site.create("mon").unwrap(), volume);
    let rows = table.0.into_inner().unwrap();
    assert!(rows.is_empty(), "{}", rows.join("\n"));
    assert!(waited < 4 * CONNECT, "{waited:?}");
}
