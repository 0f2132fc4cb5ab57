//! The programs of Kubernetes and of what it needs, in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::{cache, cmd, ui};

/// The release that has the source package of Kubernetes: newer ones have kubectl only.
const SUITE: &str = "bookworm";
/// The release that has the compiler which this Kubernetes needs.
const COMPILER_SUITE: &str = "bullseye";
const COMPILER: [&str; 2] = ["golang-1.15-go", "golang-1.15-src"];

/// Programs that are packages.
const PACKAGES: [&str; 5] =
    ["containerd", "containernetworking-plugins", "etcd-server", "kubernetes-client", "runc"];
const PACKAGED: [&str; 9] = [
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/bin/etcd",
    "usr/bin/kubectl",
    "usr/lib/cni/host-local",
    "usr/lib/cni/loopback",
    "usr/lib/cni/ptp",
    "usr/sbin/runc",
];

/// Programs that `build.sh` builds.
const BUILT: [&str; 4] = ["kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver"];

/// Returns the directory with all programs. Makes it unless the cache has it; `fresh` makes it
/// again. What an interrupted run has built is kept.
pub(crate) fn open(fresh: bool) -> Result<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the virtual machines are x86-64, and this machine is not");
    }
    let cache = cache::directory("rbd-kubernetes")?;
    if fresh && cache.exists() {
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))?;
    }
    let programs = cache.join("programs");
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    // An interrupted run leaves its work.
    let work = cache.join("work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    let mut packaged = PACKAGED.iter().map(|path| Path::new(path).file_name().unwrap_or_default());
    if !packaged.all(|name| programs.join(name).exists()) {
        ui::step(&format!("fetching {} of Debian {SUITE}", PACKAGES.join(", ")));
        fetch(&work, &programs)?;
    }
    if !BUILT.iter().all(|name| programs.join(name).exists()) {
        ui::step(&format!("building Kubernetes of Debian {SUITE} in {} (5 to 20 minutes)", cache.display()));
        build(&work, &programs)?;
    }
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    Ok(programs)
}

/// Unpacks packages of a release below `work`.
fn unpacked(work: &Path, suite: &str, packages: &[&str]) -> Result<PathBuf> {
    let home = work.join(suite);
    let apt = Apt::open(&home, suite, "deb", "")?;
    apt.run(&[&["download"], packages].concat(), &home)?;
    let root = home.join("root");
    apt::unpack(&home, &root)?;
    Ok(root)
}

fn fetch(work: &Path, programs: &Path) -> Result<()> {
    let root = unpacked(work, SUITE, &PACKAGES)?;
    for path in PACKAGED.map(|path| root.join(path)) {
        let to = programs.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).with_context(|| format!("cannot move {}", path.display()))?;
    }
    Ok(())
}

fn build(work: &Path, programs: &Path) -> Result<()> {
    let compiler = unpacked(work, COMPILER_SUITE, &COMPILER)?.join("usr/lib/go-1.15");
    let sources = work.join("sources");
    Apt::open(&sources, SUITE, "deb-src", "")?.run(&["source", "--download-only", "kubernetes"], &sources)?;
    let mut description = None;
    for entry in fs::read_dir(&sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "dsc") {
            description = Some(path);
        }
    }
    let description = description.context("apt-get source fetched no description")?;
    let tree = work.join("gopath/src/k8s.io/kubernetes");
    fs::create_dir_all(work.join("gopath/src/k8s.io"))?;
    let mut unpack = cmd::command("dpkg-source", ["--quiet", "--no-check", "--extract"]);
    cmd::read(unpack.arg(description).arg(&tree))?;
    let mut build = cmd::command("nice", ["sh", "-c", include_str!("build.sh"), "build"]);
    let status = cmd::tee(build.arg(work).arg(compiler).arg(programs), |_| ())?;
    if !status.success() {
        bail!("building Kubernetes failed: {status}");
    }
    Ok(())
}
