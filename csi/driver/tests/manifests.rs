//! The manifests in `csi/deploy` name what the driver reads: each argument, parameter and key is
//! given to the driver's own code. Kubernetes' own objects must refer to each other.

#![allow(clippy::pedantic)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::Parser;
use rbd_csi::args::Args;
use rbd_csi::class::Class;
use rbd_csi::clusters::Secrets;
use rbd_csi::config::Config;
use serde::Deserialize;
use serde_json::Value;

/// What the containers of Kubernetes read in a class, without the prefix.
const OF_KUBERNETES: [&str; 4] = ["provisioner", "controller-expand", "node-stage", "snapshotter"];

type Manifests = BTreeMap<String, Vec<Value>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// All objects, by the names of their files.
fn manifests() -> Manifests {
    let mut all = Manifests::new();
    for folder in [folder(), folder().join("example")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                assert!(path.is_dir(), "{} is no manifest", path.display());
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            all.insert(name, objects(&std::fs::read_to_string(path).unwrap()).unwrap());
        }
    }
    all
}

fn objects(text: &str) -> Result<Vec<Value>, String> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).map_err(|error| error.to_string()))
        .collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn strings(value: &Value, pointer: &str) -> HashMap<String, String> {
    value.pointer(pointer).map(|map| serde_json::from_value(map.clone()).unwrap()).unwrap_or_default()
}

fn ensure(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Whether an object of this kind and name is there.
fn has(all: &Manifests, kind: &str, namespace: &str, name: &str) -> Result<(), String> {
    let found = all.values().flatten().any(|object| {
        text(object, "/kind") == kind
            && text(object, "/metadata/name") == name
            && text(object, "/metadata/namespace") == namespace
    });
    ensure(found, format!("no {kind} '{name}' in namespace '{namespace}'"))
}

/// The arguments of the driver's container, read by the driver.
fn args(container: &Value) -> Result<Args, String> {
    let words = list(container, "/args").map(|word| word.as_str().expect("a string"));
    Args::try_parse_from(["rbd-csi"].into_iter().chain(words)).map_err(|error| error.to_string())
}

fn config(all: &Manifests) -> Result<Config, String> {
    let map = all.values().flatten().find(|object| text(object, "/kind") == "ConfigMap").unwrap();
    Config::parse(text(map, "/data/config.json")).map_err(|error| format!("{error:#}"))
}

/// A pod of the driver: its arguments are ones that it has, and each path is there.
fn pod(all: &Manifests, object: &Value) -> Result<(), String> {
    let namespace = text(object, "/metadata/namespace");
    let spec = object.pointer("/spec/template/spec").ok_or("no pod")?;
    has(all, "ServiceAccount", namespace, text(spec, "/serviceAccountName"))?;
    ensure(
        object.pointer("/spec/selector/matchLabels") == object.pointer("/spec/template/metadata/labels"),
        "the selector does not select the pod",
    )?;
    let driver = list(spec, "/containers").find(|container| text(container, "/name") == "rbd-csi");
    let driver = driver.ok_or("no container of the driver")?;
    let args = args(driver)?;
    let mount = |container: &Value, path: &Path| {
        let mounts = list(container, "/volumeMounts").cloned().collect::<Vec<_>>();
        let mount = mounts.into_iter().find(|mount| path.starts_with(text(mount, "/mountPath")));
        let mount = mount.ok_or(format!("{} is on no volume", path.display()))?;
        let volume = list(spec, "/volumes").find(|volume| volume["name"] == mount["name"]).cloned();
        Ok::<_, String>((mount.clone(), volume.ok_or(format!("no volume {}", mount["name"]))?))
    };
    let socket = rbd_csi::server::socket_path(&args.endpoint).map_err(|error| error.to_string())?;
    let (_, config) = mount(driver, &args.clusters)?;
    ensure(args.clusters.ends_with("config.json"), "the file of clusters has another name")?;
    has(all, "ConfigMap", namespace, text(&config, "/configMap/name"))?;
    let port: u64 = args.metrics.as_deref().and_then(|at| at.rsplit_once(':')).unwrap().1.parse().unwrap();
    let ports: Vec<_> = list(driver, "/ports").map(|port| &port["containerPort"]).collect();
    ensure(ports == [&Value::from(port)], format!("the port is {port}, not {ports:?}"))?;
    ensure(args.controller != args.node, "one side of the driver in each pod")?;
    if args.controller {
        for sidecar in list(spec, "/containers").filter(|container| *container != driver) {
            let address = format!("--csi-address={}", socket.display());
            ensure(
                list(sidecar, "/args").any(|word| *word == address.as_str()),
                format!("{} has another socket", sidecar["name"]),
            )?;
            mount(sidecar, &socket)?;
        }
        return Ok(());
    }
    let (kubelet, host) = mount(driver, &socket)?;
    ensure(kubelet["mountPropagation"] == "Bidirectional", "no pod sees a mount")?;
    ensure(
        text(&host, "/hostPath/path") == text(&kubelet, "/mountPath") || args.kubelet_endpoint.is_some(),
        "the kubelet sees another path of the socket",
    )?;
    let registration = args.registration.ok_or("the kubelet does not find the driver")?;
    let (_, host) = mount(driver, &registration)?;
    ensure(text(&host, "/hostPath/path") == "/var/lib/kubelet/plugins_registry", "no folder of plugins")?;
    for path in ["/dev", "/sys", "/lib/modules"] {
        let (_, host) = mount(driver, Path::new(path))?;
        ensure(text(&host, "/hostPath/path") == path, format!("{path} is not that of the host"))?;
    }
    ensure(spec["hostNetwork"] == true, "mappings end with the pod's network")?;
    ensure(driver.pointer("/securityContext/privileged") == Some(&true.into()), "it may not mount")
}

/// A class of volumes or snapshots: its parameters are ones that the driver or Kubernetes reads.
fn class(all: &Manifests, object: &Value, driver: &str) -> Result<(), String> {
    let name = text(object, if driver == "storage" { "/provisioner" } else { "/driver" });
    ensure(name == rbd_csi::DEFAULT_NAME, format!("the provisioner is '{name}'"))?;
    has(all, "CSIDriver", "", name)?;
    let parameters = strings(object, "/parameters");
    for (key, value) in &parameters {
        let Some(key) = key.strip_prefix("csi.storage.k8s.io/") else { continue };
        let part = |end| key.strip_suffix(end).filter(|part| OF_KUBERNETES.contains(part));
        if let Some(part) = part("-secret-name") {
            let key = format!("csi.storage.k8s.io/{part}-secret-namespace");
            has(all, "Secret", parameters.get(&key).ok_or(format!("{key} is missing"))?, value)?;
        } else {
            ensure(
                key == "fstype" || part("-secret-namespace").is_some(),
                format!("Kubernetes does not read '{key}'"),
            )?;
        }
    }
    let class = Class::new(parameters);
    let status = |status: tonic::Status| status.message().to_owned();
    class.check().map_err(status)?;
    ensure(class.unread().is_empty(), format!("the driver does not read {:?}", class.unread()))?;
    ensure(config(all)?.get(class.cluster().map_err(status)?).is_some(), "the clusterID is in no file")?;
    if driver == "storage" {
        class.pool().map_err(status)?;
        // The provisioner takes it out of the parameters, and sends it with the use of the volume.
        let system = text(object, "/parameters/csi.storage.k8s.io~1fstype");
        system.parse::<rbd_volume::FileSystem>().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn check(all: &Manifests) -> Result<(), String> {
    for (file, object) in all.iter().flat_map(|(file, all)| all.iter().map(move |object| (file, object))) {
        let result = match text(object, "/kind") {
            "CSIDriver" => ensure(object.pointer("/spec/attachRequired") == Some(&false.into()), "attaches"),
            "ConfigMap" => config(all).map(drop),
            "Deployment" | "DaemonSet" => pod(all, object),
            "StorageClass" => class(all, object, "storage"),
            "VolumeSnapshotClass" => class(all, object, "snapshot"),
            "Secret" => ensure(
                matches!(Secrets::new(strings(object, "/stringData")).whole(), Ok(Some(_))),
                "the driver finds no user and key in it",
            ),
            "RoleBinding" | "ClusterRoleBinding" => list(object, "/subjects")
                .try_for_each(|subject| {
                    has(all, text(subject, "/kind"), text(subject, "/namespace"), text(subject, "/name"))
                })
                .and_then(|()| {
                    let (kind, name) = (text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
                    has(all, kind, text(object, "/metadata/namespace"), name)
                }),
            "PersistentVolumeClaim" => has(all, "StorageClass", "", text(object, "/spec/storageClassName")),
            "Pod" => {
                let claim = text(object, "/spec/volumes/0/persistentVolumeClaim/claimName");
                has(all, "PersistentVolumeClaim", "", claim)
            }
            "Namespace" | "ServiceAccount" | "ClusterRole" | "Role" => Ok(()),
            kind => Err(format!("kind '{kind}' is not known to this test")),
        };
        result.map_err(|error| format!("{file}: {}: {error}", object["kind"]))?;
    }
    Ok(())
}

#[test]
fn the_driver_accepts_all_that_the_manifests_name() {
    let all = manifests();
    assert_eq!(all.len(), 10, "{:?}", all.keys());
    check(&all).unwrap();
}

/// The test above must be able to fail.
#[test]
fn a_slip_in_a_name_is_found() {
    for (file, right, wrong, told) in [
        ("3-controller.yaml", "--controller", "--controler", "unexpected argument '--controler'"),
        ("3-controller.yaml", "--clusters=", "--cluster=", "unexpected argument '--cluster'"),
        ("3-controller.yaml", "--csi-address=/csi/csi.sock", "--csi-address=/csi.sock", "another socket"),
        ("4-node.yaml", "--registration=/registration/", "--registration=/reg/", "is on no volume"),
        ("4-node.yaml", "- --node-id=$(NODE_ID)", "", "--node-id"),
        ("4-node.yaml", "mountPath: /var/lib/kubelet\n", "mountPath: /var/lib\n", "another path"),
        ("2-config.yaml", "\"monitors\"", "\"mons\"", "is no list of clusters"),
        ("1-driver.yaml", "attachRequired: false", "attachRequired: true", "attaches"),
        ("1-driver.yaml", "name: rbd.csi.ceph.com", "name: rbd.ceph.com", "no CSIDriver"),
        ("1-secret.yaml", "userKey", "key", "no user and key"),
        ("2-class.yaml", "provisioner: rbd.", "provisioner: ", "the provisioner is"),
        ("2-class.yaml", "imageFeatures", "imageFeature", "does not read [\"imageFeature\"]"),
        ("2-class.yaml", "object-map", "object-maps", "object-maps"),
        ("2-class.yaml", "pool:", "pools:", "does not read [\"pools\"]"),
        ("2-class.yaml", "fstype: ext4", "fstype: ext3", "'ext3' is no file system"),
        ("2-class.yaml", "node-stage-secret-name:", "node-secret-name:", "does not read 'node-secret-name'"),
        ("3-snapshot-class.yaml", "clusterID: b9", "clusterID: b8", "in no file"),
        ("4-claim.yaml", "storageClassName: rbd", "storageClassName: ceph", "no StorageClass"),
    ] {
        let example = folder().join("example").join(file);
        let path = if example.exists() { example } else { folder().join(file) };
        let before = std::fs::read_to_string(path).unwrap();
        let after = before.replacen(right, wrong, 1);
        assert_ne!(before, after, "{file} has no '{right}'");
        let mut all = manifests();
        all.insert(file.to_owned(), objects(&after).unwrap());
        let Err(error) = check(&all) else { panic!("{file}: '{wrong}' is not found") };
        assert!(error.contains(told), "{file}, {wrong}: {error}");
    }
}
