//! `cargo xtask fuzz`: runs the fuzz targets of rbd's parsers, each for a while.
//!
//! The stable compiler can instrument for libFuzzer, but without sanitizers. The parsers are safe
//! code, so panics are the faults to find. So neither cargo-fuzz nor nightly is needed; with both,
//! `cargo fuzz` runs the same targets.

use std::path::Path;

use anyhow::Result;

use crate::scratch::Scratch;
use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only these targets [default: all]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    targets: Vec<String>,
}

const TARGETS: [&str; 11] = [
    "uevent", "monmap", "options", "texts", "sysfs", "token", "source", "monitors", "keyring", "conf",
    "answer",
];

/// The flags with which libFuzzer sees the path of an input.
const INSTRUMENTED: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Fuzz], args.consent)?;
    let target = cmd::root().join("target/fuzz");
    ui::step("building the fuzz targets");
    // With an explicit target, build scripts are not instrumented.
    let mut build =
        cmd::cargo(["build", "--quiet", "--manifest-path", "rbd/fuzz/Cargo.toml", "--target", TRIPLE]);
    cmd::run(build.arg("--target-dir").arg(&target).env("RUSTFLAGS", INSTRUMENTED))?;
    // libFuzzer ends the process without drops, so files of a target's statics stay behind.
    let home = Scratch::new("rbd-fuzz")?;
    let chosen =
        TARGETS.iter().filter(|name| args.targets.is_empty() || args.targets.iter().any(|t| t == *name));
    let chosen: Vec<_> = chosen.collect();
    // One target uses one processor.
    for some in chosen.chunks(std::thread::available_parallelism()?.get()) {
        let names = some.iter().map(|name| **name).collect::<Vec<_>>().join(", ");
        ui::step(&format!("fuzzing {names} for {} s", args.seconds));
        std::thread::scope(|scope| {
            let runs: Vec<_> =
                some.iter().map(|name| scope.spawn(|| fuzz(name, &target, args.seconds, &home))).collect();
            runs.into_iter().try_for_each(|run| run.join().expect("it does not panic"))
        })?;
        println!("no crash");
    }
    Ok(())
}

fn fuzz(name: &str, target: &Path, seconds: u32, home: &Scratch) -> Result<()> {
    let program = target.join(TRIPLE).join("debug").join(name);
    let crashes = format!("-artifact_prefix={}/", target.display());
    let time = format!("-max_total_time={seconds}");
    // Its many lines matter only if it fails. Then `read` shows them.
    let mut fuzz =
        cmd::command(&program.display().to_string(), [time, crashes, "-print_final_stats=1".into()]);
    cmd::read(fuzz.env("TMPDIR", home.path()))?;
    Ok(())
}
