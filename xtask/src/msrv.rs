//! The oldest supported Rust, checked where such a toolchain is installed.

use anyhow::{Context, Result};

use crate::ci::Plan;
use crate::cmd;

/// `cargo check` with the toolchain of the workspace's `rust-version`.
pub(crate) fn plan() -> Result<Plan> {
    let version = rust_version()?;
    let installed = cmd::read(&mut cmd::command("rustup", ["toolchain", "list"])).unwrap_or_default();
    let Some(toolchain) = toolchain(&installed, &version) else {
        return Ok(Plan::Skip(format!(
            "no Rust {version} is installed (rustup toolchain install {version})"
        )));
    };
    // A target directory of its own: sharing it would rebuild everything at each change of the toolchain.
    let mut check = cmd::command(
        "rustup",
        ["run", &toolchain, "cargo", "check", "--workspace", "--all-targets", "--target-dir", "target/msrv"],
    );
    // Set by the cargo that runs us, for its own toolchain.
    check.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTDOC").env_remove("RUSTUP_TOOLCHAIN");
    Ok(Plan::Run(check))
}

/// What Cargo.toml states, as cargo reads it.
fn rust_version() -> Result<String> {
    let metadata = cmd::read(&mut cmd::cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "rbd"))
        .and_then(|package| package["rust_version"].as_str())
        .map(str::to_owned)
        .context("the package rbd states no rust-version")
}

/// The installed toolchain of this version, in any of its names: `1.85-…`, `1.85.0-…`, `1.85.1-…`.
fn toolchain(installed: &str, version: &str) -> Option<String> {
    installed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| {
            name.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
        })
        .map(str::to_owned)
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
