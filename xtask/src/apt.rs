//! Packages of a Debian release, unpacked into a directory.
//!
//! apt uses separate lists, sources and cache, and installs nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cmd;

pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A release's packages.
pub(crate) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Fetches the lists of a release. `kind` is `deb`, or `deb-src` for sources. `status` has
    /// dpkg's records of the packages that count as installed.
    pub(crate) fn open(home: &Path, suite: &str, kind: &str, status: &str) -> Result<Apt> {
        for dir in ["lists/partial", "cache/archives/partial", "root"] {
            fs::create_dir_all(home.join(dir)).with_context(|| format!("cannot make {}", home.display()))?;
        }
        let source = format!("{kind} [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(home.join("sources.list"), source)?;
        fs::write(home.join("status"), status)?;
        let apt = Apt { home: home.to_owned() };
        apt.run(&["update"], home)?;
        Ok(apt)
    }

    /// Runs a task of apt-get in a directory.
    pub(crate) fn run(&self, task: &[&str], directory: &Path) -> Result<()> {
        let home = self.home.display();
        let mut apt = cmd::command("apt-get", ["-qq", "--yes"]);
        for option in [
            format!("Dir::Etc::SourceList={home}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Status={home}/status"),
            format!("Dir::State::Lists={home}/lists"),
            format!("Dir::Cache={home}/cache"),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            // The lock protects the system's packages, which are not touched.
            "Debug::NoLocking=true".to_owned(),
        ] {
            apt.arg("-o").arg(option);
        }
        cmd::read(apt.args(task).current_dir(directory)).map(drop)
    }
}

/// Unpacks all packages that lie in a directory.
pub(crate) fn unpack(packages: &Path, into: &Path) -> Result<()> {
    for package in fs::read_dir(packages).with_context(|| format!("cannot list {}", packages.display()))? {
        let package = package?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            cmd::read(cmd::command("dpkg-deb", ["--extract"]).arg(&package).arg(into))?;
        }
    }
    Ok(())
}

/// Returns the mirror of Debian that this system uses.
pub(crate) fn mirror() -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let targets = cmd::read(&mut cmd::command("apt-get", ["indextargets", "--format", format]))?;
    let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
    mirror.map(str::to_owned).context("apt knows no mirror of Debian; run `apt-get update`")
}
