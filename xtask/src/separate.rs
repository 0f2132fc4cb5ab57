//! Tasks that are programs of their own (`bindgen`, `api`, `coverage`), so that the other tasks do
//! not have to compile the crates that these need. Also `features`, which runs clippy.

use anyhow::Result;

use crate::{cmd, setup};

#[derive(clap::Args)]
pub(crate) struct Bindgen {
    /// Write nothing; fail if the checked-in bindings differ from the headers
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    consent: setup::Consent,
}

#[derive(clap::Args)]
pub(crate) struct Api {
    /// Compare rbd/api.txt with the sources instead of writing it
    #[arg(long)]
    check: bool,
}

#[derive(clap::Args)]
pub(crate) struct Coverage {
    /// Write docs/coverage.md; otherwise it is compared
    #[arg(long)]
    write: bool,
}

pub(crate) fn bindgen(args: &Bindgen) -> Result<()> {
    setup::ensure(&[setup::Purpose::Bindgen], args.consent)?;
    run("librbd-sys-generate", args.check.then_some("--check").as_slice())
}

pub(crate) fn api(args: &Api) -> Result<()> {
    run("rbd-interface", &[&["api"], args.check.then_some("--check").as_slice()].concat())
}

pub(crate) fn coverage(args: &Coverage) -> Result<()> {
    run("rbd-interface", &[&["coverage"], args.write.then_some("--write").as_slice()].concat())
}

fn run(package: &str, args: &[&str]) -> Result<()> {
    cmd::run(cmd::cargo(["run", "--quiet", "--package", package, "--"]).args(args))
}

/// The features that a program may turn on. `bench-internals` is not part of the interface.
const FEATURES: [&str; 6] = ["", "krbd", "mirror", "rados", "tokio", "tracing"];

pub(crate) fn features() -> Result<()> {
    FEATURES.iter().try_for_each(|feature| {
        let mut clippy = cmd::cargo(["clippy", "--quiet", "--package", "rbd", "--no-default-features"]);
        clippy.args(["--features", feature, "--", "--deny", "warnings"]);
        println!("{}", cmd::line(&clippy));
        cmd::run(&mut clippy)
    })
}
