//! `cargo xtask bench`: the paired comparison with C, fio, python3-rbd and `rbd bench`, with a report.

use std::path::PathBuf;

use anyhow::Result;

use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// The folder for tables and plots
    #[arg(long, default_value = "target/bench-report")]
    report: PathBuf,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Use the cluster that CEPH_CONF names instead of an embedded one
    #[arg(long)]
    real: bool,
}

/// What is compared: kind, bytes of a block, operations in flight, operations a round.
const RUNS: &[(&str, u32, u32, u32)] = &[
    ("read", 4096, 32, 10_000),
    ("read", 4096, 1, 2_000),
    ("read", 4096, 128, 10_000),
    ("write", 4096, 32, 10_000),
    ("mixed", 4096, 32, 10_000),
    ("read", 4 << 20, 4, 100),
    ("write", 4 << 20, 4, 100),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Cluster, Purpose::Differential, Purpose::Bench], args.consent)?;
    for (kind, block, depth, operations) in RUNS {
        ui::step(&format!("{kind}, {block} bytes, depth {depth}"));
        let mut bench = cmd::cargo(["bench", "--quiet", "--bench", "compare", "--", "--kind", kind]);
        bench.args(["--block", &block.to_string(), "--depth", &depth.to_string()]);
        bench.args(["--operations", &operations.to_string(), "--rounds", &args.rounds.to_string()]);
        bench.arg("--report").arg(cmd::root().join(&args.report));
        if !args.real {
            bench.env_remove("CEPH_CONF");
        }
        cmd::run(&mut bench)?;
    }
    println!("the report lies in {}", args.report.display());
    Ok(())
}
