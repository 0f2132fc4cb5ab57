//! `cargo xtask demo`: from a clean clone to verified data on a real cluster; with `--map`, also
//! through a real kernel.

use std::time::Instant;

use anyhow::Result;

use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Continue in a virtual machine: map an image through its kernel, and make a file system on it
    #[arg(long)]
    map: bool,
}

/// Without the dependencies of tests and benches, which are the larger part.
const LEAN: &str = "--no-default-features";

pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let kernel: &[Purpose] = if args.map { &[Purpose::Vm] } else { &[] };
    setup::ensure(&[&[Purpose::Build, Purpose::Cluster], kernel].concat(), args.consent)?;
    let installed = Instant::now();
    ui::step("building the library and the walkthrough");
    cmd::run(&mut cmd::cargo(["build", LEAN, "--example", "walkthrough"]))?;
    let built = Instant::now();
    ui::step("the walkthrough, on a Ceph cluster of its own");
    cmd::run(&mut cmd::cargo(["run", "--quiet", LEAN, "--example", "walkthrough", "--", "--embedded"]))?;
    let walked = Instant::now();
    if args.map {
        map()?;
    }
    println!(
        "\npackages {}, build {}, cluster and walkthrough {}: {} in all",
        ui::time(installed - started),
        ui::time(built - installed),
        ui::time(walked - built),
        ui::time(started.elapsed()),
    );
    if args.map {
        println!("of these {} for the kernel's part", ui::time(walked.elapsed()));
    } else {
        println!(
            "`cargo xtask demo --map` goes on: it maps an image through a real kernel, in a virtual machine"
        );
    }
    Ok(())
}

/// The programs of the kernel's part: examples of this repository.
const PROGRAMS: [&str; 5] = ["create", "feature", "map", "showmapped", "unmap"];

/// Runs the kernel's part in a virtual machine, with a separate cluster.
fn map() -> Result<()> {
    ui::step("building the programs for the virtual machine");
    let mut build = cmd::cargo(["build", LEAN]);
    for name in PROGRAMS {
        build.args(["--example", name]);
    }
    cmd::run(&mut build)?;
    cmd::run(&mut cmd::cargo(["build", "--quiet", "--package", "rbd-testvm", "--bin", "rbd-testvm"]))?;

    ui::step("the kernel's part, in a virtual machine beside a Ceph cluster of its own");
    let mut guest =
        cmd::cargo(["run", "--quiet", "--package", "rbd-testcluster", "--", "run", "--", "cargo"]);
    guest.args(["run", "--quiet", "--package", "rbd-testvm", "--bin", "rbd-testvm", "--"]);
    for name in PROGRAMS {
        guest.arg("--program").arg(cmd::root().join("target/debug/examples").join(name));
    }
    guest.args(["--program", "mkfs.ext4", "--", "sh", "-c", include_str!("demo-map.sh")]);
    cmd::run(&mut guest)
}
