//! `cargo xtask demo`: from a clean clone to a verified read-back on a real cluster.

use std::time::Instant;

use anyhow::Result;

use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
}

/// Without what only tests and benches need, which is the larger part.
const LEAN: &str = "--no-default-features";

pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    setup::ensure(&[Purpose::Build, Purpose::Cluster], args.consent)?;
    let installed = Instant::now();
    ui::step("building the library and the walkthrough");
    cmd::run(&mut cmd::cargo(["build", LEAN, "--example", "walkthrough"]))?;
    let built = Instant::now();
    ui::step("the walkthrough, on a Ceph cluster of its own");
    cmd::run(&mut cmd::cargo(["run", "--quiet", LEAN, "--example", "walkthrough", "--", "--embedded"]))?;
    println!(
        "\npackages {}, build {}, cluster and walkthrough {}: {} in all",
        ui::time(installed - started),
        ui::time(built - installed),
        ui::time(built.elapsed()),
        ui::time(started.elapsed()),
    );
    Ok(())
}
