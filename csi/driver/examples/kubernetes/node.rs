//! A virtual machine that is a node of Kubernetes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rbd_testvm::{Command, TestVm};

use crate::Programs;
use crate::image::Image;
use crate::kubectl::Kubectl;

/// Containers have no registry; the names are those of the manifests.
const BUSYBOX: &str = "docker.io/library/busybox:1.36";
const DRIVER: &str = "docker.io/library/rbd-csi:0.2.0";

/// No command takes so long, unless the machine is busy with other things.
const SOON: Duration = Duration::from_secs(300);

/// containerd, without a part that needs loopback, which leads to the host here. Its pods are kept
/// alive by busybox.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/busybox:1.36"
stream_server_address = "10.0.2.15"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#;

/// A network for the pods of a node, without a way out.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "type": "ptp",
"ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "dataDir": "/run/cni"}}"#;

/// Images as archives.
pub struct Images {
    busybox: PathBuf,
    driver: PathBuf,
}

impl Images {
    pub fn make(programs: &Programs, home: &Path) -> Result<Images> {
        let images = Images { busybox: home.join("busybox.tar"), driver: home.join("rbd-csi.tar") };
        let applets = ["sh", "cat", "echo", "sleep", "sync"].map(|name| format!("/usr/bin/{name}"));
        let links: Vec<_> = applets.iter().map(|place| (&**place, "busybox")).collect();
        Image {
            name: BUSYBOX,
            programs: &[(&find("busybox")?, "/usr/bin/busybox")],
            links: &links,
            entrypoint: &["/usr/bin/sleep", "infinity"],
        }
        .write(&images.busybox, home)?;

        let stripped = home.join("rbd-csi");
        let mut strip = std::process::Command::new("strip");
        strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(&programs.driver);
        let status = strip.status().context("cannot start strip")?;
        anyhow::ensure!(status.success(), "cannot strip {}", programs.driver.display());
        // What csi/Containerfile installs.
        let mut inside = vec![(stripped, "/usr/bin/rbd-csi".to_owned())];
        for (name, folder) in [
            ("blkid", "/usr/sbin"),
            ("mke2fs", "/usr/sbin"),
            ("e2fsck", "/usr/sbin"),
            ("resize2fs", "/usr/sbin"),
            ("mkfs.xfs", "/usr/sbin"),
            ("xfs_growfs", "/usr/sbin"),
            ("kmod", "/usr/bin"),
        ] {
            inside.push((find(name)?, format!("{folder}/{name}")));
        }
        let inside: Vec<_> = inside.iter().map(|(host, place)| (&**host, &**place)).collect();
        Image {
            name: DRIVER,
            programs: &inside,
            links: &[("/usr/sbin/mkfs.ext4", "mke2fs"), ("/usr/sbin/modprobe", "../bin/kmod")],
            entrypoint: &["/usr/bin/rbd-csi"],
        }
        .write(&images.driver, home)?;
        Ok(images)
    }
}

/// The path of a program of the host.
fn find(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let mut paths = places.iter().map(|place| Path::new(place).join(name));
    paths.find(|path| path.is_file()).with_context(|| format!("this host has no {name}"))
}

pub struct Node {
    pub name: &'static str,
    vm: TestVm,
}

impl Node {
    /// Boots a machine, and starts the kubelet in it.
    pub fn boot(
        name: &'static str,
        programs: &Programs,
        images: &Images,
        kubelet: &Kubectl,
        conf: &Path,
    ) -> Result<Node> {
        let mut builder = TestVm::builder()
            .memory_mib(3072)
            .cpus(2)
            .cluster(conf)
            .module("overlay")
            .module("veth")
            .text("/node.sh", include_str!("node.sh"))
            .text("/etc/containerd/config.toml", CONTAINERD)
            .text("/etc/cni/net.d/pods.conf", NETWORK)
            .text("/etc/kubernetes/kubeconfig", kubelet.configuration())
            .file(&images.busybox, "/images/busybox.tar")
            .file(&images.driver, "/images/rbd-csi.tar");
        for program in ["kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc"] {
            builder = builder.program_as(programs.path(program), Path::new("/usr/local/bin").join(program));
        }
        // The kubelet measures logs with it, and busybox's lacks an option.
        builder = builder.program("du");
        for plugin in ["host-local", "loopback", "ptp"] {
            builder = builder.program_as(programs.path(plugin), Path::new("/opt/cni/bin").join(plugin));
        }
        let node = Node { name, vm: builder.boot()? };
        node.sh(&format!("sh /node.sh {name}"))?;
        Ok(node)
    }

    /// Runs a line in the shell, which must succeed.
    pub fn sh(&self, line: &str) -> Result<String> {
        let said = self.vm.check(Command::shell(line), SOON).with_context(|| self.name)?;
        Ok(said.trim_end().to_owned())
    }

    /// The number of images that the kernel has mapped.
    pub fn mapped(&self) -> Result<usize> {
        Ok(self.sh("ls /sys/bus/rbd/devices | wc -l")?.trim().parse()?)
    }

    /// What a container has printed: the file that `kubectl logs` reads.
    pub fn log(&self, pod: &str, container: &str) -> Result<String> {
        // Each line begins with the time, the stream, and a mark of whole lines.
        self.sh(&format!("cut -d ' ' -f 4- /var/log/pods/{pod}_*/{container}/*.log"))
    }
}
