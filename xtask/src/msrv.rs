//! The oldest supported Rust: an installed toolchain of rustup, otherwise Debian's compiler of this
//! version.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cmd, debian};

/// Returns the step `cargo check` with the compiler of the workspace's `rust-version`.
pub(crate) fn plan() -> Result<Command> {
    let version = rust_version()?;
    let installed = cmd::read(&mut cmd::command("rustup", ["toolchain", "list"])).unwrap_or_default();
    let mut check = if let Some(toolchain) = toolchain(&installed, &version) {
        cmd::command("rustup", ["run", &toolchain, "cargo"])
    } else if let Some(why) = debian::unfit() {
        bail!(
            "no Rust {version} is installed, and {why} to take it from. Install it (`rustup toolchain \
             install {version}`), or leave the step out (`cargo xtask ci --without msrv`)"
        );
    } else {
        let rustc = debian::rustc()?;
        let found = cmd::read(Command::new(&rustc).arg("--version"))?;
        if !is_of(found.trim_start_matches("rustc "), &version) {
            bail!("the oldest supported Rust is {version}, but Debian's is {}", found.trim());
        }
        let mut cargo = cmd::cargo::<&str>([]);
        cargo.env("RUSTC", rustc);
        cargo
    };
    // A separate target directory. A shared one would be rebuilt at each change of the toolchain.
    // These use crates that need a newer Rust (rustdoc's JSON, tonic). Users of the library do not
    // compile them.
    check.args(["check", "--workspace", "--exclude", "rbd-interface", "--exclude", "rbd-csi"]);
    check.args(["--all-targets", "--target-dir", "target/msrv"]);
    // The cargo that runs xtask sets these for its own toolchain.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        if !check.get_envs().any(|(name, _)| name == variable) {
            check.env_remove(variable);
        }
    }
    Ok(check)
}

/// Returns the `rust-version` of Cargo.toml, as cargo reads it.
fn rust_version() -> Result<String> {
    let metadata = cmd::metadata(cmd::root(), &["--no-deps"])?;
    metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "rbd"))
        .and_then(|package| package["rust_version"].as_str())
        .map(str::to_owned)
        .context("the package rbd states no rust-version")
}

/// Returns the installed toolchain of this version, with any of its names: `1.85-…`, `1.85.0-…`,
/// `1.85.1-…`.
fn toolchain(installed: &str, version: &str) -> Option<String> {
    installed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| is_of(name, version))
        .map(str::to_owned)
}

/// Returns whether a name begins with this version, and not with a longer number.
fn is_of(name: &str, version: &str) -> bool {
    name.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_no_mere_prefix() {
        let installed = "stable-x86_64-unknown-linux-gnu (active, default)\n1.8-x\n1.850-x\n1.85.1-x86_64\n";
        assert_eq!(toolchain(installed, "1.85").as_deref(), Some("1.85.1-x86_64"));
        assert_eq!(toolchain("1.95.0-x86_64-unknown-linux-gnu", "1.85"), None);
    }
}
