//! `cargo xtask campaign`: clients under faults, and an oracle that knows what was acknowledged.
//! See `tests/faults/`.

use anyhow::{Result, bail};

use crate::scratch::Scratch;
use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Continue also until this many operations are done
    #[arg(long, default_value_t = 0)]
    operations: u64,
    /// Continue also until this many faults have happened
    #[arg(long, default_value_t = 0)]
    faults: u64,
    /// Seconds; with operations or faults, the longest time
    #[arg(long, default_value_t = 100)]
    seconds: u64,
    /// Begin with this seed, and without the seeds that failed once
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Cluster], args.consent)?;
    ui::step("clients under faults");
    let home = Scratch::new("rbd-campaign")?;
    let mut campaign = cmd::cargo(["test", "--quiet", "--package", "rbd-suite", "--test", "faults"]);
    campaign.env("TMPDIR", home.path());
    for (name, value) in [("OPS", args.operations), ("FAULTS", args.faults), ("SECONDS", args.seconds)] {
        campaign.env(format!("RBD_FAULTS_{name}"), value.to_string());
    }
    if let Some(seed) = args.seed {
        campaign.env("RBD_FAULTS_SEED", seed.to_string());
    }
    if !campaign.status()?.success() {
        bail!("the campaign found faults");
    }
    Ok(())
}
