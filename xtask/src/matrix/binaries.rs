//! The test programs that are built once and run in the root of each release.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cmd;

/// A test program.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    /// What is said when it starts: `rbd-suite (/…/target/debug/deps/it-0123456789abcdef)`.
    pub(crate) title: String,
    pub(crate) path: PathBuf,
    pub(crate) args: &'static [&'static str],
}

impl Binary {
    /// Returns whether these are the integration tests.
    pub(crate) fn is_integration(&self) -> bool {
        self.title.starts_with("rbd-suite ") && self.title.contains("/it-")
    }
}

/// Package, name of the test target (of the library for its unit tests), and arguments. These tests
/// do not run in roots: those of virtual machines, which run on the host; those of what is done at
/// build time; those of xtask, the CSI driver and the documentation; `bounds`; and the campaign.
const WANTED: &[(&str, &str, &[&str])] = &[
    ("rbd", "rbd", &[]),
    ("rbd-suite", "it", &["--skip", "krbd::"]),
    ("rbd-suite", "exit", &[]),
    ("rbd-suite", "allocations", &[]),
    ("rbd-testcluster", "embedded", &[]),
];

/// Builds the tests and examples, as `cargo xtask test` builds them, and returns the programs to
/// run in roots. A filter selects integration tests only.
pub(crate) fn build(filter: &[String]) -> Result<Vec<Binary>> {
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        // Before anything is built.
        check_visible(&cmd::root().join(target))?;
    }
    let mut build = cmd::cargo(["test", "--no-run"]);
    if filter.is_empty() {
        build.arg("--workspace");
    } else {
        build.args(["--package", "rbd-suite", "--test", "it", "--examples"]);
    }
    build.arg("--message-format=json-render-diagnostics").stderr(std::process::Stdio::inherit());
    let said = cmd::read(&mut build)?;
    let artifacts: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    WANTED
        .iter()
        .filter(|(_, target, _)| filter.is_empty() || *target == "it")
        .map(|&(package, target, args)| {
            let artifact = artifacts.iter().find(|artifact| is(artifact, package, target));
            let path = artifact.and_then(|artifact| artifact["executable"].as_str());
            let path = path.with_context(|| format!("cargo built no test {target} of {package}"))?;
            check_visible(Path::new(path))?;
            Ok(Binary { title: format!("{package} ({path})"), path: path.into(), args })
        })
        .collect()
}

fn check_visible(path: &Path) -> Result<()> {
    if !path.starts_with(cmd::root()) {
        let path = path.display();
        bail!(
            "{path} lies outside of the workspace, which is all that the roots see; unset CARGO_TARGET_DIR"
        );
    }
    Ok(())
}

/// Whether this is the artifact of a test. Its package's id ends in `/DIRECTORY#NAME@VERSION`, or
/// without the name if the directory has it.
fn is(artifact: &Value, package: &str, target: &str) -> bool {
    let id = artifact["package_id"].as_str().unwrap_or_default();
    let owner = match id.rsplit_once('#') {
        Some((_, rest)) if rest.contains('@') => rest.split('@').next(),
        Some((path, _)) => path.rsplit('/').next(),
        None => None,
    };
    artifact["profile"]["test"] == true && artifact["target"]["name"] == target && owner == Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_known_by_its_package() {
        let artifact = |id: &str| {
            serde_json::json!({
                "package_id": id, "profile": { "test": true }, "target": { "name": "it" }
            })
        };
        assert!(is(&artifact("path+file:///a/main#rbd-suite@0.2.0"), "rbd-suite", "it"));
        assert!(is(&artifact("path+file:///a/rbd#0.2.0"), "rbd", "it"));
        assert!(!is(&artifact("path+file:///a/main#rbd-suite@0.2.0"), "rbd", "it"));
    }
}
