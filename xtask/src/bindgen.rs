//! `cargo xtask bindgen`: runs a separate program, so that other tasks do not have to compile
//! bindgen.

use anyhow::Result;

use crate::{cmd, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if the checked-in bindings differ from the headers
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    consent: setup::Consent,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[setup::Purpose::Bindgen], args.consent)?;
    let check = args.check.then_some("--check");
    cmd::run(&mut cmd::cargo(["run", "--quiet", "-p", "librbd-sys-generate", "--"].into_iter().chain(check)))
}
