//! A Rust compiler from a Debian release, for a machine without rustup or without access to its
//! server.
//!
//! The packages are unpacked, not installed, together with the C library that they need.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt::{self, Apt};
use crate::{cache, cmd, ui};

const SUITE: &str = "trixie";

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
        || !Path::new(apt::KEYRING).exists()
    {
        Some("this is no Debian")
    } else {
        None
    }
}

/// Returns the compiler's path. The first call fetches it into the user's cache.
pub(crate) fn rustc() -> Result<PathBuf> {
    let home = cache::directory("rbd-tools")?.join(format!("rust-{SUITE}"));
    let rustc = home.join("rustc");
    if !rustc.is_file() {
        ui::step(&format!("fetching the Rust compiler of Debian {SUITE} into {} (100 MB)", home.display()));
        // The start script is written last, so the compiler is complete or missing.
        let _ = fs::remove_dir_all(&home);
        fetch(&home)?;
        fs::write(&rustc, START)?;
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
    }
    Ok(rustc)
}

fn fetch(home: &Path) -> Result<()> {
    let apt = Apt::open(home, SUITE, "deb", &HERE.map(installed).concat())?;
    apt.run(&["install", "--no-install-recommends", "--download-only", "rustc"], home)?;
    apt::unpack(&home.join("cache/archives"), &home.join("root"))?;
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
