//! What the container `provisioner` of the controller's pod does, with the rights of its service
//! account: calls the driver for a claim, and writes a PersistentVolume.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hyper_util::rt::TokioIo;
use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::volume_capability::access_mode::Mode;
use rbd_csi::proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use rbd_csi::proto::csi::*;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Programs;
use crate::control_plane::Daemon;
use crate::kubectl::Kubectl;
use crate::steps::until;

const GIB: i64 = 1 << 30;
/// The names that Kubernetes reads in a class, and the driver does not.
const PREFIX: &str = "csi.storage.k8s.io/";

/// The controller side of the driver on the host, and its caller.
pub struct Provisioner {
    daemon: Daemon,
    runtime: Runtime,
    client: ControllerClient<Channel>,
}

impl Provisioner {
    /// Starts the driver's controller side.
    pub fn start(programs: &Programs, home: &Path, clusters: &str) -> Result<Provisioner> {
        let (file, socket) = (home.join("config.json"), home.join("csi.sock"));
        std::fs::write(&file, clusters)?;
        let args = [
            "--controller".to_owned(),
            format!("--endpoint=unix://{}", socket.display()),
            format!("--clusters={}", file.display()),
        ];
        let mut daemon = Daemon::start(&programs.driver, &args, home)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = until(Duration::from_secs(60), || {
            daemon.check()?;
            Ok(runtime.block_on(connect(socket.clone()))?)
        })?;
        Ok(Provisioner { daemon, runtime, client: ControllerClient::new(channel) })
    }

    /// Creates the volume of a claim, and its PersistentVolume. Returns the volume's handle.
    pub fn provision(&mut self, kubectl: &Kubectl, claim: &str) -> Result<String> {
        let claim = kubectl.json(&["get", "pvc", claim])?;
        let class = kubectl.json(&["get", "storageclass", text(&claim, "/spec/storageClassName")?])?;
        let all: HashMap<String, String> = serde_json::from_value(class["parameters"].clone())?;
        let secret = |role: &str| -> Result<Value> {
            let part = |end: &str| all.get(&format!("{PREFIX}{role}-secret-{end}")).context("no secret");
            Ok(json!({"name": part("name")?, "namespace": part("namespace")?}))
        };
        let file_system = all.get("csi.storage.k8s.io/fstype").context("the class has no fstype")?;
        let name = format!("pvc-{}", text(&claim, "/metadata/uid")?);
        let size = text(&claim, "/spec/resources/requests/storage")?;
        let size = size.strip_suffix("Gi").context("the claim's size is not in Gi")?.parse::<i64>()? * GIB;
        let request = CreateVolumeRequest {
            name: name.clone(),
            capacity_range: Some(CapacityRange { required_bytes: size, limit_bytes: 0 }),
            volume_capabilities: vec![VolumeCapability {
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
                access_type: Some(AccessType::Mount(MountVolume {
                    fs_type: file_system.clone(),
                    ..MountVolume::default()
                })),
            }],
            parameters: all.iter().filter(|(name, _)| !name.starts_with(PREFIX)).map(owned).collect(),
            secrets: secrets(kubectl, &secret("provisioner")?)?,
            ..CreateVolumeRequest::default()
        };
        let answer = self.runtime.block_on(self.client.create_volume(request));
        let answer = self.told("CreateVolume", answer)?;
        let volume = answer.volume.context("the driver answered without a volume")?;
        let persistent = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {"pv.kubernetes.io/provisioned-by": rbd_csi::DEFAULT_NAME},
            },
            "spec": {
                "storageClassName": claim.pointer("/spec/storageClassName"),
                "accessModes": claim.pointer("/spec/accessModes"),
                "capacity": {"storage": format!("{}Gi", volume.capacity_bytes / GIB)},
                "persistentVolumeReclaimPolicy": class["reclaimPolicy"],
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": claim.pointer("/metadata/namespace"),
                    "name": claim.pointer("/metadata/name"),
                    "uid": claim.pointer("/metadata/uid"),
                },
                "csi": {
                    "driver": rbd_csi::DEFAULT_NAME,
                    "volumeHandle": volume.volume_id,
                    "fsType": file_system,
                    "volumeAttributes": volume.volume_context,
                    "nodeStageSecretRef": secret("node-stage")?,
                    "controllerExpandSecretRef": secret("controller-expand")?,
                },
            },
        });
        kubectl.apply(&persistent.to_string())?;
        Ok(volume.volume_id)
    }

    /// Deletes the volume of a claim that is gone, and its PersistentVolume.
    pub fn delete(&mut self, kubectl: &Kubectl, handle: &str) -> Result<()> {
        let name = until(Duration::from_secs(60), || {
            let all = kubectl.json(&["get", "pv"])?;
            let items = all["items"].as_array().context("no list")?;
            let mine =
                items.iter().find(|volume| volume.pointer("/spec/csi/volumeHandle") == Some(&handle.into()));
            let mine = mine.context("the PersistentVolume is gone")?;
            let phase = text(mine, "/status/phase")?;
            // Without a provisioner, the controllers of Kubernetes only mark it.
            anyhow::ensure!(matches!(phase, "Released" | "Failed"), "the PersistentVolume is {phase}");
            Ok(text(mine, "/metadata/name")?.to_owned())
        })?;
        let secret = json!({"name": "rbd-csi-secret", "namespace": "rbd-csi"});
        let request = DeleteVolumeRequest { volume_id: handle.into(), secrets: secrets(kubectl, &secret)? };
        let answer = self.runtime.block_on(self.client.delete_volume(request));
        self.told("DeleteVolume", answer)?;
        kubectl.read(&["delete", "pv", &name, "--timeout=60s"]).map(drop)
    }

    fn told<T>(&mut self, call: &str, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T> {
        self.daemon.check()?;
        let error = |status: tonic::Status| anyhow!("{call}: {:?}: {}", status.code(), status.message());
        answer.map(tonic::Response::into_inner).map_err(error)
    }
}

async fn connect(socket: std::path::PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in {value}"))
}

/// The content of a Secret.
fn secrets(kubectl: &Kubectl, reference: &Value) -> Result<HashMap<String, String>> {
    let (name, namespace) = (text(reference, "/name")?, text(reference, "/namespace")?);
    let mut secrets = HashMap::new();
    for key in ["userID", "userKey"] {
        let template = format!("--output=go-template={{{{.data.{key}|base64decode}}}}");
        let value = kubectl.read(&["--namespace", namespace, "get", "secret", name, &template])?;
        if value.is_empty() {
            bail!("the Secret {name} has no {key}");
        }
        secrets.insert(key.to_owned(), value);
    }
    Ok(secrets)
}
