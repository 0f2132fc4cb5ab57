//! The roots of the releases: runtime packages of a Debian suite in a directory of the user's
//! cache.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::scratch::{MARK, Scratch};
use crate::{apt, cache, cmd, ui};

/// What the tests start: daemons, the official tools and the bindings that they are compared with.
/// No compiler, no headers.
const PACKAGES: &str =
    "ceph-common,ceph-mgr,ceph-mon,ceph-osd,librados2,librbd1,python3-rados,python3-rbd,rbd-mirror";

/// How long making a root may take, for `timeout`. 150 MB are fetched; a fast network takes half a
/// minute.
const MAKING: &str = "30m";

/// A release of Ceph and the Debian suite that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Release {
    /// Pacific, in Debian 12
    #[value(name = "16.2")]
    Pacific,
    /// Reef, in Debian 13
    #[value(name = "18.2")]
    Reef,
    /// Tentacle, in Debian testing
    #[value(name = "20.2")]
    Tentacle,
}

impl Release {
    pub(crate) const ALL: [Release; 3] = [Release::Pacific, Release::Reef, Release::Tentacle];

    pub(crate) fn number(self) -> &'static str {
        match self {
            Release::Pacific => "16.2",
            Release::Reef => "18.2",
            Release::Tentacle => "20.2",
        }
    }

    pub(crate) fn suite(self) -> &'static str {
        match self {
            Release::Pacific => "bookworm",
            Release::Reef => "trixie",
            Release::Tentacle => "forky",
        }
    }
}

/// A try of what `enter.sh` needs: to mount a layer over another.
const MOUNTS: &str = "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work all; \
    mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none all";

/// Fails if this process may not mount file systems in its own namespaces, as the roots need.
pub(crate) fn ensure_mountable() -> Result<()> {
    if fs::metadata("/proc/self").context("/proc is not mounted")?.uid() != 0 {
        bail!(
            "only root may enter the roots of the releases: run this as root, or CI with `--without matrix`"
        );
    }
    let mounts = ["--mount", "--pid", "--fork", "sh", "-e", "-c", MOUNTS];
    cmd::read(&mut cmd::command("unshare", mounts)).map(drop).context(
        "this process may not mount file systems, which the roots of the releases need: allow it (a \
         container needs the capability SYS_ADMIN), or run CI with `--without matrix`",
    )
}

/// The root of a release.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) release: Release,
    directory: PathBuf,
}

impl Root {
    /// Takes the root from the cache, or makes it. `fresh` makes it again.
    pub(crate) fn open(release: Release, fresh: bool) -> Result<Root> {
        let root = Root { release, directory: cache::directory("rbd-matrix")?.join(release.suite()) };
        if fresh || !root.directory.exists() {
            root.make()?;
        }
        let said = cmd::read(Command::new("chroot").arg(&root.directory).args(["ceph", "--version"]))?;
        if !said.contains(&format!(" {}.", release.number())) {
            bail!(
                "suite {} no longer has Ceph {}: its root says `{}`. Choose the suite that has it in {}",
                release.suite(),
                release.number(),
                said.trim(),
                file!()
            );
        }
        let version = said.split(' ').nth(2).unwrap_or_default();
        ui::step(&format!("{}: Ceph {version} of Debian {}", release.number(), release.suite()));
        Ok(root)
    }

    /// Makes the root under another name, and renames it when it is complete.
    fn make(&self) -> Result<()> {
        let suite = self.release.suite();
        ui::step(&format!("making the root of Debian {suite} in {}", self.directory.display()));
        let parent = self.directory.parent().context("the cache has no parent")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let new = parent.join(format!("{suite}.{}", std::process::id()));
        // After its time limit, or if this process is interrupted, its namespaces end, and all its
        // processes and mounts with them.
        let mut make = cmd::command("timeout", ["--foreground", "--kill-after=5", MAKING]);
        make.args(["unshare", "--mount-proc", "--pid", "--fork", "--kill-child", "mmdebstrap"]);
        make.arg("--variant=essential");
        // The Release file of testing is often older than its validity.
        for option in
            ["Check-Valid-Until \"false\"", "Retries \"3\"", "http::Timeout \"60\"", "https::Timeout \"60\""]
        {
            make.arg(format!("--aptopt=Acquire::{option}"));
        }
        make.args(["doc", "man", "locale"].map(|data| format!("--dpkgopt=path-exclude=/usr/share/{data}/*")));
        let mirror = apt::mirror()?;
        make.arg(format!("--include={PACKAGES}")).arg(suite).arg(&new).arg(&mirror);
        if let Err(error) = cmd::read(&mut make) {
            let _ = fs::remove_dir_all(&new);
            let number = self.release.number();
            return Err(error).with_context(|| {
                format!(
                    "Ceph {number} cannot be tested: the root of Debian {suite} could not be made from \
                     {mirror}, which may take {MAKING}. If the network is slow, run this again, or CI with \
                     `--without matrix`"
                )
            });
        }
        let _ = fs::remove_dir_all(&self.directory);
        fs::rename(&new, &self.directory)
            .with_context(|| format!("cannot move the root to {}", self.directory.display()))
    }

    /// A command that runs inside, with no environment but its own. It may write to the scratch
    /// directory, and read the workspace. It is killed after 45 minutes: no program takes so long.
    pub(crate) fn command(&self, scratch: &Scratch) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "2700", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", include_str!("enter.sh"), "enter"]);
        command.arg(&self.directory).arg(scratch.path()).arg(cmd::root());
        command.env_clear().env(MARK, scratch.path()).env("TMPDIR", scratch.path());
        command.envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("LC_ALL", "C.UTF-8")]);
        command.envs(
            ["RUST_BACKTRACE", "RBD_MODEL_OPS", "RBD_MODEL_SEED"]
                .into_iter()
                .filter_map(|name| Some((name, env::var_os(name)?))),
        );
        command
    }
}
