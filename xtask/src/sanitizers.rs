//! `cargo xtask sanitizers`: the unsafe code under AddressSanitizer and its leak detector, and the completion slot under loom.
//!
//! A sanitizer that sees nothing is silent, too. So first a canary must be caught: freed memory that is read, memory that is
//! lost, an image that is forgotten. Nothing is suppressed.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Only the loom models, which need neither the nightly compiler nor a cluster
    #[arg(long)]
    loom: bool,
}

/// The sanitizer needs the compiler's unstable flags, and a target that is named even if it is this machine.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// All that goes through `unsafe` code or a callback and needs no second cluster, virtual machine or other program.
const MODULES: &[&str] = &[
    "aio::",
    "clones::",
    "cluster::",
    "copy::",
    "diff::",
    "encryption::",
    "groups::",
    "images::",
    "io::",
    "locks::",
    "metadata::",
    "migration::",
    "ownership::",
    "queue::",
    "snapshots::",
    "trash::",
    "watch::",
];

const LIB: &[&str] = &["--package", "rbd", "--lib"];
const IT: &[&str] = &["--test", "it"];
const LEAK: &str = "LeakSanitizer: detected memory leaks";

/// The unit test of a panic that panics again while it is dropped: that one is forgotten, by design.
const FORGETS_ON_PURPOSE: &str = "a_panic_whose_own_drop_panics";
/// Leaks an image on purpose: the canary among the integration tests, which shows that leaks through librbd are seen.
const FORGETFUL: &str = "ownership::a_forgotten_image_leaks_and_nothing_else";

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Cluster], args.consent)?;
    ui::step("every order of a completion and its future (loom)");
    let mut loom = cmd::cargo(["test", "--package", "rbd", "--lib", "--", "in_every_order", "at_once"]);
    loom.env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", "target/loom")
        .env("LOOM_MAX_PREEMPTIONS", "3");
    run_some(&mut loom)?;
    if args.loom {
        return Ok(());
    }

    ui::step("AddressSanitizer catches the canaries");
    for (tests, canary, verdict) in [
        (LIB, "canary_reads_freed_memory", "AddressSanitizer: heap-use-after-free"),
        (LIB, "canary_leaks", LEAK),
        (IT, FORGETFUL, LEAK),
    ] {
        let mut command = sanitized(&[tests, &["--", canary]].concat());
        let output = command.output().with_context(|| format!("cannot start `{}`", cmd::line(&command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains(verdict) {
            bail!("the sanitizer did not say `{verdict}` about {canary}:\n{said}");
        }
        println!("{canary}: {verdict}");
    }

    ui::step("the unsafe code of rbd under AddressSanitizer");
    run_some(&mut sanitized(&[LIB, &["--", "--skip", "canary", "--skip", FORGETS_ON_PURPOSE]].concat()))?;
    ui::step("the integration tests on a real cluster under AddressSanitizer");
    run_some(&mut sanitized(&[IT, &["--", "--skip", FORGETFUL], MODULES].concat()))
}

fn sanitized(args: &[&str]) -> Command {
    let mut command = cmd::command("cargo", ["+nightly", "test", "--target", TARGET]);
    command.args(args);
    command
        .env("RUSTFLAGS", "-Zsanitizer=address --cfg sanitizer_canary")
        .env("CARGO_TARGET_DIR", "target/sanitizers")
        // Set by the cargo that runs us; they would call the wrong compiler.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUST_BACKTRACE", "0");
    command
}

/// Runs tests, of which there must be some.
fn run_some(command: &mut Command) -> Result<()> {
    let mut passed = 0;
    let status = cmd::tee(command, |line| {
        let count = line.strip_prefix("test result: ok. ").and_then(|rest| rest.split(' ').next());
        passed += count.and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    })?;
    if !status.success() || passed == 0 {
        bail!("`{}` failed: {status}, {passed} tests passed", cmd::line(command));
    }
    Ok(())
}
