//! Mapping from kernels old and new, on clusters old and new: `cargo xtask matrix --kernels`.
//!
//! The machines run on the host with clients of its own release; the daemons are those of a root.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::binaries::Binary;
use super::root::Release;
use super::roots::Roots;
use super::served::Served;
use crate::scratch::Scratch;
use crate::{cmd, ui};

/// The newest of each that Debian has.
const KERNELS: [&str; 4] = [
    "linux-image-5.10.*-cloud-amd64@bullseye",
    "linux-image-6.1.0-*-cloud-amd64@bookworm",
    "linux-image-6.12.*-cloud-amd64@trixie",
    "linux-image-7.*-cloud-amd64@forky",
];

pub(crate) const RELEASES: [Release; 2] = [Release::Pacific, Release::Tentacle];

/// Arguments for the cluster, and the test of `tests/it/krbd/modes.rs`.
const RUNS: [(&[&str], &str); 4] = [
    (
        &["--osds", "2", "--replicas", "2"],
        "krbd::modes::every_mode_of_the_protocol_carries_data_or_is_refused_with_its_reason",
    ),
    (&["--osds", "2", "--replicas", "2"], "krbd::modes::a_replica_serves_reads_from_replicas"),
    (&["--no-msgr1"], "krbd::modes::without_the_first_protocol_an_image_is_mapped_by_the_second"),
    (&["--key-type", "aes256k"], "krbd::modes::a_key_of_a_newer_type_is_refused_with_its_reason"),
];

/// What the lines of a test begin with that belong into the table.
const MARK: &str = "kernels: ";

/// Runs all, and prints a table in Markdown.
pub(crate) fn run(roots: &Roots, binaries: &[Binary]) -> Result<()> {
    let it = binaries
        .iter()
        .find(|binary| binary.is_integration())
        .context("the integration tests are not built")?;
    let mut table: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut failed = Vec::new();
    for release in RELEASES {
        let root = roots.get(release)?;
        for (wanted, test) in RUNS {
            // Older clusters have no such keys.
            if wanted.contains(&"aes256k") && root.release != Release::Tentacle {
                continue;
            }
            let scratch = Scratch::new("rbd-kernels")?;
            let served = Served::start(root, &scratch, binaries, wanted)?;
            for kernel in KERNELS {
                let column = column(&number(kernel), root.release);
                ui::step(&format!("kernel {column}: {test}"));
                let started = Instant::now();
                let mut command = Command::new(&it.path);
                command.args([test, "--exact", "--nocapture"]).current_dir(cmd::root());
                command.env("RBD_TEST_CONF", served.conf()).env("RBD_TESTVM_KERNEL", kernel);
                let status = cmd::tee(&mut command, |line| {
                    if let Some((what, outcome)) =
                        line.strip_prefix(MARK).and_then(|rest| rest.split_once(": "))
                    {
                        table.entry(what.to_owned()).or_default().insert(column.clone(), outcome.to_owned());
                    }
                })?;
                println!("{column}: {status}, {}", ui::time(started.elapsed()));
                if !status.success() {
                    failed.push(format!("kernel {column}: {test}: {status}"));
                }
            }
        }
    }
    print(&table);
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn column(kernel: &str, cluster: Release) -> String {
    format!("{kernel} on {}", cluster.number())
}

/// `linux-image-6.1.0-*-cloud-amd64@bookworm` → `6.1`
fn number(package: &str) -> String {
    let version = package.trim_start_matches("linux-image-");
    version
        .split(['.', '-'])
        .take(2)
        .map(|part| if part == "*" { "x" } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

fn print(table: &BTreeMap<String, BTreeMap<String, String>>) {
    let names: Vec<String> = KERNELS.iter().map(|kernel| number(kernel)).collect();
    let all = RELEASES.iter().flat_map(|release| names.iter().map(|name| column(name, *release)));
    let columns: Vec<String> = all.collect();
    println!("\n| kernel, cluster | {} |", columns.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (what, row) in table {
        let cells = columns.iter().map(|column| row.get(column).map_or("", String::as_str));
        println!("| `{what}` | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_tells_the_kernels_version() {
        let numbers = KERNELS.map(number);
        assert_eq!(numbers, ["5.10", "6.1", "6.12", "7.x"]);
    }
}
