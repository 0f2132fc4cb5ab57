//! etcd, the API server, the controllers and the scheduler, on loopback.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Programs;
use crate::kubectl::Kubectl;
use crate::steps::until;

/// What reads and changes the volumes' side of Kubernetes, and not the networks of a cloud.
const CONTROLLERS: &str = "*,-nodeipam,-route,-cloud-node-lifecycle,-ttl";

/// A process on the host that ends with this one.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program. Its output goes to `home/NAME.log`.
    pub fn start(program: &Path, args: &[String], home: &Path) -> Result<Daemon> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = home.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        // The signal comes when the thread ends that starts it, which is the main thread.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).current_dir(home);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Daemon { name, child, log })
    }

    /// Fails if it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n");
        bail!("{} ended: {status}\n{last}", self.name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct ControlPlane {
    /// The client of a person who may do everything.
    pub kubectl: Kubectl,
    /// The clients of the kubelets, in the order of the nodes.
    pub kubelets: Vec<Kubectl>,
    /// The last one depends on those before it, and ends first.
    daemons: Vec<Daemon>,
}

impl ControlPlane {
    pub fn start(programs: &Programs, home: &Path, nodes: &[&str]) -> Result<ControlPlane> {
        let [etcd, peers, api] = ports()?;
        // Each has the rights of its group: a kubelet sees only what its own pods need.
        let mut known = String::new();
        let mut client = |user: &str, group: &str| {
            let token = token()?;
            known += &format!("{token},{user},{user},{group}\n");
            Kubectl::new(&programs.path("kubectl"), home, api, user, &token)
        };
        let kubectl = client("admin", "system:masters")?;
        let mut kubelet = |node: &&str| client(&format!("system:node:{node}"), "system:nodes");
        let kubelets = nodes.iter().map(&mut kubelet).collect::<Result<_>>()?;
        fs::write(home.join("tokens"), known)?;
        let mut plane = ControlPlane { kubectl, kubelets, daemons: Vec::new() };
        let mut start = |name: &str, args: &[String]| -> Result<()> {
            plane.daemons.push(Daemon::start(&programs.path(name), args, home)?);
            Ok(())
        };
        let (home_of, etcd, peers) =
            (home.display(), format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peers}"));
        // The API server makes it, before it reads it.
        let key = format!("{home_of}/certificates/apiserver.key");
        start(
            "etcd",
            &[
                format!("--data-dir={home_of}/etcd"),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                "--unsafe-no-fsync".into(),
            ],
        )?;
        start(
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd}"),
                format!("--secure-port={api}"),
                format!("--cert-dir={home_of}/certificates"),
                format!("--token-auth-file={home_of}/tokens"),
                format!("--service-account-signing-key-file={key}"),
                format!("--service-account-key-file={key}"),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                "--bind-address=127.0.0.1".into(),
                "--advertise-address=127.0.0.1".into(),
                "--endpoint-reconciler-type=none".into(),
                "--authorization-mode=Node,RBAC".into(),
                "--enable-admission-plugins=NodeRestriction".into(),
                "--allow-privileged".into(),
                "--service-cluster-ip-range=10.96.0.0/24".into(),
            ],
        )?;
        let kubeconfig = format!("--kubeconfig={}", plane.kubectl.kubeconfig().display());
        until(Duration::from_secs(120), || {
            plane.check()?;
            plane.kubectl.read(&["get", "--raw", "/readyz"])
        })?;
        for (name, more) in [
            (
                "kube-controller-manager",
                vec![
                    format!("--controllers={CONTROLLERS}"),
                    format!("--service-account-private-key-file={key}"),
                ],
            ),
            ("kube-scheduler", vec![]),
        ] {
            let all = ["--leader-elect=false", "--port=0", "--secure-port=0"].map(str::to_owned);
            let args = [&all[..], std::slice::from_ref(&kubeconfig), &more].concat();
            plane.daemons.push(Daemon::start(&programs.path(name), &args, home)?);
        }
        Ok(plane)
    }

    /// Fails if one of them has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemons.iter_mut().try_for_each(Daemon::check)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        while self.daemons.pop().is_some() {}
    }
}

/// Ports of loopback that are free now.
fn ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
