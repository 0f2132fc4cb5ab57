//! The steps of docs/kubernetes.md.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rbd::{Cluster, IoCtx};
use rbd_testcluster::TestCluster;
use serde_json::Value;

use crate::Programs;
use crate::control_plane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::manifests::{self, Filling};
use crate::node::{Images, Node};
use crate::provisioner::Provisioner;
use crate::rights;
use crate::steps::{Steps, ensure, seen, until};

/// No step takes so long, unless the machine is busy with other things.
const SOON: Duration = Duration::from_secs(240);
/// The same for kubectl.
const TIMEOUT: &str = "--timeout=240s";

const NODES: [&str; 2] = ["node-1", "node-2"];

pub fn play(programs: &Programs, home: &Path) -> Result<()> {
    let mut steps = Steps::new();
    let (cluster, user) = steps.run("Ceph: a cluster, the pool and the user of the guide", || {
        let cluster = TestCluster::builder().pools(["kubernetes"]).start()?;
        let caps = [
            ("mon", "profile rbd"),
            ("osd", "profile rbd pool=kubernetes"),
            ("mgr", "profile rbd pool=kubernetes"),
        ];
        let user = cluster.user("kubernetes", &caps)?;
        Ok((cluster, user))
    })?;
    let mut plane = steps.run("Kubernetes: etcd, API server, controllers and scheduler", || {
        ControlPlane::start(programs, home, &NODES)
    })?;
    let addresses = cluster.monitor_addresses();
    let monitors = format!("[v2:{},v1:{}]", addresses.v2, addresses.v1);
    let filling = Filling { cluster: cluster.fsid(), monitors: &monitors, key: &user.key };
    steps.run("kubectl apply --dry-run=server: each manifest", || dry_run(&plane.kubectl))?;
    let images =
        steps.run("container images of busybox and of this driver", || Images::make(programs, home))?;
    let nodes = steps.run("nodes: two virtual machines, each with containerd and a kubelet", || {
        let boot = |(name, kubelet)| Node::boot(name, programs, &images, kubelet, cluster.conf());
        thread::scope(|scope| {
            let nodes = NODES.into_iter().zip(&plane.kubelets);
            let boots: Vec<_> = nodes.map(|node| scope.spawn(move || boot(node))).collect();
            let join = |boot: thread::ScopedJoinHandle<'_, Result<Node>>| boot.join();
            let joined = boots.into_iter().map(join);
            joined
                .map(|boot| boot.unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
                .collect::<Result<Vec<_>>>()
        })
    })?;
    let mut provisioner = steps.run("this driver's controller side, on the host", || {
        let clusters = serde_json::json!([{"clusterID": filling.cluster, "monitors": [filling.monitors]}]);
        Provisioner::start(programs, home, &clusters.to_string())
    })?;
    let ceph = Cluster::builder().ignore_environment(true).conf_file(cluster.conf()).connect()?;
    let pool = ceph.ioctx("kubernetes")?;
    let outcome = volumes(&mut steps, &plane.kubectl, &nodes, &mut provisioner, &filling, &pool);
    if let Err(error) = outcome {
        evidence(&plane.kubectl, &nodes);
        plane.check().and_then(|()| Ok(cluster.check()?))?;
        return Err(error);
    }
    steps.run("the end: the machines, Kubernetes and Ceph stop", || {
        drop((nodes, provisioner, pool, ceph));
        drop(plane);
        Ok(cluster.stop()?)
    })?;
    println!("verified: pod 2 read on another node what pod 1 had written ({})", steps.summary());
    Ok(())
}

/// Asks the API server to check every manifest.
fn dry_run(kubectl: &Kubectl) -> Result<()> {
    seen(kubectl.read(&["version", "--short"])?);
    // The objects of a namespace are checked only if it is there.
    kubectl.read(&["create", "namespace", "rbd-csi"])?;
    for path in manifests::all()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("--filename={}", path.display());
        match kubectl.read(&["apply", "--dry-run=server", &file]) {
            Ok(said) => seen(said.lines().map(|line| format!("{name}: {line}\n")).collect::<String>()),
            Err(error) if format!("{error:#}").contains("no matches for kind \"VolumeSnapshotClass\"") => {
                seen(format!("{name}: NOT CHECKED, this cluster lacks the snapshot CRDs"));
            }
            Err(error) => return Err(error.context(name)),
        }
    }
    Ok(())
}

fn volumes(
    steps: &mut Steps,
    kubectl: &Kubectl,
    nodes: &[Node],
    provisioner: &mut Provisioner,
    filling: &Filling,
    pool: &IoCtx,
) -> Result<()> {
    steps.run("kubectl wait: both nodes are Ready", || {
        // A kubelet registers its node.
        until(SOON, || kubectl.read(&[&["get", "node"], &NODES[..]].concat()))?;
        kubectl.read(&["wait", "--for=condition=Ready", "node", "--all", TIMEOUT])?;
        seen(kubectl.read(&["get", "nodes"])?);
        Ok(())
    })?;
    steps.run("kubectl apply: driver, clusters, and the driver's DaemonSet", || {
        for name in ["1-driver.yaml", "2-config.yaml", "4-node.yaml"] {
            seen(kubectl.apply(&filling.read(name)?)?);
        }
        kubectl.read(&["-n", "rbd-csi", "rollout", "status", "daemonset/rbd-csi-node", TIMEOUT])?;
        seen(kubectl.read(&["-n", "rbd-csi", "get", "pods", "-o", "wide"])?);
        until(SOON, || NODES.iter().try_for_each(|node| registered(kubectl, node)))
    })?;
    let controller = steps.run("rights: those of the driver's two service accounts", || {
        rights::check(kubectl)?;
        until(SOON, || kubectl.service_account("rbd-csi-controller"))
    })?;
    steps.run("kubectl apply: Secret, class and claim", || {
        for name in ["1-secret.yaml", "2-class.yaml", "4-claim.yaml"] {
            seen(kubectl.apply(&filling.read(&format!("example/{name}"))?)?);
        }
        Ok(())
    })?;
    let handle = steps.run("the claim is Bound: the driver creates an image", || {
        let handle = provisioner.provision(&controller, "hello")?;
        until(SOON, || phase(kubectl, "pvc", "hello", "Bound"))?;
        seen(kubectl.read(&["get", "pvc,pv"])?);
        let images = pool.list()?;
        ensure(images.len() == 1, || format!("there is one claim, and these images: {images:?}"))?;
        Ok(handle)
    })?;
    let first = steps.run("pod 1 writes `hello ceph`", || {
        let first = pod(kubectl, nodes, filling, "example/5-pod-1.yaml", "hello-1")?;
        let path = "/var/lib/kubelet/pods/*/volumes/kubernetes.io~csi/*/mount/file";
        let file = format!("chroot /proc/$(pidof kubelet)/root sh -c 'cat {path}'");
        until(SOON, || content(&first.sh(&file)?))?;
        seen(first.sh("grep ^/dev/rbd /proc/$(pidof kubelet)/mounts")?);
        Ok(first)
    })?;
    steps.run("pod 1 is deleted, and its node unmaps the image", || {
        kubectl.read(&["delete", "pod", "hello-1", "--grace-period=1", TIMEOUT])?;
        until(SOON, || unmapped(first))
    })?;
    steps.run("pod 2 on the other node reads `hello ceph`", || {
        // Where the scheduler would put it again.
        seen(kubectl.read(&["cordon", first.name])?);
        let second = pod(kubectl, nodes, filling, "example/6-pod-2.yaml", "hello-2")?;
        ensure(second.name != first.name, || format!("pod 2 is on {} too", first.name))?;
        let log = until(SOON, || {
            let log = second.log("default_hello-2", "read")?;
            content(&log).map(|()| log)
        })?;
        seen(format!("{}, the log of hello-2: {log}", second.name));
        Ok(())
    })?;
    steps.run("pod 2 and the claim are deleted, and the driver deletes the image", || {
        kubectl.read(&["delete", "pod", "hello-2", "--grace-period=1", TIMEOUT])?;
        until(SOON, || nodes.iter().try_for_each(unmapped))?;
        kubectl.read(&["delete", "pvc", "hello", TIMEOUT])?;
        provisioner.delete(&controller, &handle)?;
        let images = pool.list()?;
        ensure(images.is_empty(), || format!("there are images still: {images:?}"))
    })
}

/// Applies a pod's manifest, waits until it runs, and returns its node.
fn pod<'a>(
    kubectl: &Kubectl,
    nodes: &'a [Node],
    filling: &Filling,
    manifest: &str,
    name: &str,
) -> Result<&'a Node> {
    kubectl.apply(&filling.read(manifest)?)?;
    kubectl.read(&["wait", "--for=condition=Ready", &format!("pod/{name}"), TIMEOUT])?;
    seen(kubectl.read(&["get", "pod", name, "-o", "wide"])?);
    let node = kubectl.json(&["get", "pod", name])?;
    let node = node.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    nodes.iter().find(|known| known.name == node).with_context(|| format!("{name} is on no node: {node}"))
}

fn registered(kubectl: &Kubectl, node: &str) -> Result<()> {
    let csi = kubectl.json(&["get", "csinode", node])?;
    let mut drivers = csi.pointer("/spec/drivers").and_then(Value::as_array).into_iter().flatten();
    ensure(drivers.any(|driver| driver["name"] == rbd_csi::DEFAULT_NAME), || {
        format!("the kubelet of {node} does not know the driver")
    })
}

fn phase(kubectl: &Kubectl, kind: &str, name: &str, wanted: &str) -> Result<()> {
    let object = kubectl.json(&["get", kind, name])?;
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    ensure(phase == wanted, || format!("{kind} {name} is {phase}"))
}

fn content(text: &str) -> Result<()> {
    if text != "hello ceph" {
        bail!("the file has '{text}'");
    }
    Ok(())
}

fn unmapped(node: &Node) -> Result<()> {
    let mapped = node.mapped()?;
    ensure(mapped == 0, || format!("{} has {mapped} mapped images", node.name))
}

/// Shows what there is to see after a failure.
fn evidence(kubectl: &Kubectl, nodes: &[Node]) {
    let show = |title: &str, said: Result<String>| {
        println!("--- {title}");
        let text = said.unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<_> = text.lines().collect();
        seen(lines[lines.len().saturating_sub(15)..].join("\n"));
    };
    show("pods", kubectl.read(&["get", "pods", "--all-namespaces", "-o", "wide"]));
    let events =
        ["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"];
    show("warnings", kubectl.read(&events));
    for node in nodes {
        let driver = "cat /var/log/pods/rbd-csi_*/rbd-csi/*.log | cut -d ' ' -f 4- | tail -n 15";
        show(&format!("{}: the driver", node.name), node.sh(driver));
        show(
            &format!("{}: the kubelet", node.name),
            node.sh("grep '^[EF]' /var/log/kubelet.log | tail -n 8"),
        );
    }
}
