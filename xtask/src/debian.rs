//! A Rust compiler from a Debian release, for a machine without rustup or without access to its
//! server.
//!
//! apt uses separate lists, sources and cache, and installs nothing: the packages are unpacked,
//! together with the C library that they need.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{cmd, ui};

const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The dependencies of rustc for linking. This machine's own are used.
const HERE: [&str; 3] = ["gcc", "libc-dev", "binutils"];

/// Starts the compiler with the dynamic linker and libraries of its release. In bash, because other
/// shells drop variables with a dash in their names, such as CARGO_BIN_EXE_rbd-testvm.
const START: &str = r#"#!/bin/bash
usr=$(dirname "$(realpath "$0")")/root/usr
exec "$usr/lib64/ld-linux-x86-64.so.2" --library-path "$usr/lib/x86_64-linux-gnu" "$usr/bin/rustc" "$@"
"#;

/// Returns why this machine cannot use it, or `None` if it can.
pub(crate) fn unfit() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        Some("this is no x86-64")
    } else if !["apt-get", "dpkg-deb"].iter().all(|program| cmd::exists(program))
        || !Path::new(KEYRING).exists()
    {
        Some("this is no Debian")
    } else {
        None
    }
}

/// Returns the compiler's path. The first call fetches it into `target/tools`.
pub(crate) fn rustc() -> Result<PathBuf> {
    let home = cmd::root().join("target/tools").join(format!("rust-{SUITE}"));
    let rustc = home.join("rustc");
    if !rustc.is_file() {
        ui::step(&format!("fetching the Rust compiler of Debian {SUITE} into target/tools (100 MB)"));
        // The start script is written last, so the compiler is complete or missing.
        let _ = fs::remove_dir_all(&home);
        fetch(&home)?;
        fs::write(&rustc, START)?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
    }
    Ok(rustc)
}

fn fetch(home: &Path) -> Result<()> {
    for dir in ["lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(home.join(dir)).with_context(|| format!("cannot make {}", home.display()))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {} {SUITE} main\n", mirror()?);
    fs::write(home.join("sources.list"), source)?;
    fs::write(home.join("status"), HERE.map(installed).concat())?;
    let apt = |task: &[&str]| {
        let home = home.display();
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
        cmd::read(apt.args(task))
    };
    apt(&["update"])?;
    apt(&["install", "--no-install-recommends", "--download-only", "rustc"])?;
    for package in fs::read_dir(home.join("cache/archives"))? {
        let package = package?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            cmd::read(cmd::command("dpkg-deb", ["--extract"]).arg(&package).arg(home.join("root")))?;
        }
    }
    for dir in ["lists", "cache"] {
        fs::remove_dir_all(home.join(dir))?;
    }
    Ok(())
}

/// Returns a package's record of dpkg.
fn installed(package: &str) -> String {
    format!(
        "Package: {package}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 99:1\n\
         Maintainer: nobody\nDescription: this machine's\n\n"
    )
}

/// Returns the mirror of Debian that this system uses.
pub(crate) fn mirror() -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let targets = cmd::read(&mut cmd::command("apt-get", ["indextargets", "--format", format]))?;
    let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
    mirror.map(str::to_owned).context("apt knows no mirror of Debian; run `apt-get update`")
}
