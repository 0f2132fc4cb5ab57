//! `cargo xtask sanitizers`: runs the unsafe code under AddressSanitizer and its leak detector, and
//! the completion slot under loom.
//!
//! A sanitizer that does not work is silent, too. So it must first catch canaries: a read of freed
//! memory, a leak, a leaked image. No leak of this crate is suppressed.
//!
//! The stable compiler contains the sanitizer's runtime, and accepts the unstable flag if
//! `RUSTC_BOOTSTRAP` is set.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Consent, Purpose};
use crate::tally::Tally;
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Only the loom models, which need no cluster
    #[arg(long)]
    loom: bool,
    /// Only the canaries, the unit tests, and the integration tests that use handles in most ways
    #[arg(long, conflicts_with = "loom")]
    quick: bool,
    /// Seconds for the test in which threads call each pair of getters of an image concurrently
    #[arg(long, default_value_t = 60)]
    race_seconds: u32,
    /// Seconds for the campaign of faults
    #[arg(long, default_value_t = 120)]
    campaign_seconds: u32,
    /// Only these modules of the integration tests
    #[arg(conflicts_with_all = ["loom", "quick"])]
    modules: Vec<String>,
}

/// The sanitizer needs unstable flags of the compiler, and an explicit target even for this
/// machine.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// The modules of `tests/it` that do not run under the sanitizer: virtual machines; a limit of
/// memory, which the sanitizer exceeds; and one without tests.
const LEFT_OUT: &[&str] = &["krbd", "long_ranges", "support"];

/// Leaks of Ceph, glibc and OpenSSL, named by a function in their stack: a connection that is
/// closed while it connects, memory of the resolver, and the message of a command to one monitor.
/// OpenSSL hides pointers from the detector. The quick form does without.
const LEAKS_OF_OTHERS: &str = "leak:AsyncMessenger::connect_to\nleak:__res_context_send\n\
    leak:MonClient::_send_command\nleak:MCommand::encode_payload\nleak:libcrypto.so\n";

/// The module that sends commands to one monitor. Only the exact unwinder finds the functions that
/// name their leak.
const COMMANDS: &str = "rados";

/// The fast unwinder skips functions without a frame pointer. It serves where their names do not
/// matter.
const EXACT_UNWINDER: &str = "fast_unwind_on_malloc=0";

/// The modules of `--quick`.
const QUICK: &[&str] = &[
    "aio::submit",
    "ownership::",
    "queue::foreign",
    "shrinking::a_queue",
    "sound::arguments::an_image",
    "sound::callbacks",
    "sound::fork",
    "sound::getters",
];

const LIB: &[&str] = &["--package", "rbd", "--lib"];
const IT: &[&str] = &["--test", "it"];
const LEAK: &str = "Direct leak of ";

/// The tests of a panic whose payload panics when it is dropped. That payload is leaked on purpose.
const FORGET_ON_PURPOSE: [&str; 2] = ["a_panic_whose_own_drop_panics", "that_panics_when_dropped"];
/// The test that limits the memory of examples, which the sanitizer exceeds.
const LIMITS_MEMORY: &str = "survey::scale";
/// The canary of the integration tests: it leaks an image on purpose, which shows that leaks
/// through librbd are found.
const FORGETFUL: &str = "ownership::a_forgotten_image_leaks_and_nothing_else";

/// A canary: its test, and the expected report, with its heading and functions in its stack.
struct Canary {
    tests: &'static [&'static str],
    name: &'static str,
    heading: &'static str,
    stack: &'static [&'static str],
}

const CANARIES: &[Canary] = &[
    Canary {
        tests: LIB,
        name: "raw::canary::canary_reads_freed_memory",
        heading: "AddressSanitizer: heap-use-after-free",
        stack: &["raw::canary::canary_reads_freed_memory"],
    },
    Canary {
        tests: LIB,
        name: "raw::canary::canary_leaks",
        heading: LEAK,
        stack: &["raw::canary::canary_leaks"],
    },
    // Memory that librbd allocated when this test opened the image. A thread of the pool opened it,
    // so the test is not in the stack.
    Canary { tests: IT, name: FORGETFUL, heading: LEAK, stack: &["rbd_open"] },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.loom {
        setup::ensure(&[Purpose::Build], args.consent)?;
        return models();
    }
    setup::ensure(&[Purpose::Build, Purpose::Cluster, Purpose::Sanitizers], args.consent)?;
    if !args.quick && args.modules.is_empty() {
        models()?;
    }
    ui::step("AddressSanitizer catches the canaries");
    for canary in CANARIES {
        let mut command = sanitized(&[canary.tests, &["--", "--exact", canary.name]].concat());
        command.env("ASAN_OPTIONS", EXACT_UNWINDER);
        let output = command.output().with_context(|| format!("cannot start `{}`", cmd::line(&command)))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let Canary { name, heading, stack, .. } = canary;
        if output.status.success() || !reports(&said, heading, stack) {
            bail!("the sanitizer did not report `{heading}` of {} for {name}:\n{said}", stack.join(" in "));
        }
        println!("{name}: caught");
    }

    let [one, other] = FORGET_ON_PURPOSE;
    if args.modules.is_empty() {
        ui::step("the unsafe code of rbd under AddressSanitizer");
        run_some(&mut sanitized(&[LIB, &["--", "--skip", "canary", "--skip", one]].concat()))?;
    }
    ui::step("the integration tests on a real cluster under AddressSanitizer");
    let tests = |names: &[&str]| {
        let skipped = ["--", "--skip", FORGETFUL, "--skip", other, "--skip", LIMITS_MEMORY];
        let mut tests = sanitized(&[IT, &skipped, names].concat());
        tests.env("RBD_RACE_SECONDS", args.race_seconds.to_string());
        tests
    };
    if args.quick {
        return run_some(&mut tests(QUICK));
    }
    // The tests of the examples run the programs that were built with the sanitizer.
    cmd::run(sanitized_by("build").arg("--examples"))?;
    let list = cmd::root().join("target/sanitizers/leaks.supp");
    fs::write(&list, LEAKS_OF_OTHERS)?;
    let leaks = format!("suppressions={}:print_suppressions=0", list.display());
    let main = fs::read_to_string(cmd::root().join("tests/it/main.rs"))?;
    let modules = match args.modules.as_slice() {
        [] => modules(&main),
        some => some.iter().map(String::as_str).collect(),
    };
    // One failure does not hide the others.
    let mut failed = Vec::new();
    for module in modules {
        ui::step(&format!("{module} under AddressSanitizer"));
        let mut tests = tests(&[&format!("{module}::")]);
        if module == COMMANDS {
            tests.env("ASAN_OPTIONS", EXACT_UNWINDER);
        }
        if let Err(error) = run_some(tests.env("LSAN_OPTIONS", &leaks)) {
            ui::step(&format!("{module}: {error}"));
            failed.push(module);
        }
    }
    if args.modules.is_empty() {
        ui::step("clients under faults, under AddressSanitizer");
        let mut campaign = sanitized(&["--package", "rbd-suite", "--test", "faults"]);
        campaign.env("LSAN_OPTIONS", &leaks).env("RBD_FAULTS_SECONDS", args.campaign_seconds.to_string());
        // The campaign checks that clients do not grow, and the sanitizer keeps freed memory.
        campaign.env("ASAN_OPTIONS", "quarantine_size_mb=4:thread_local_quarantine_size_kb=64");
        if let Err(error) = cmd::run(&mut campaign) {
            ui::step(&error.to_string());
            failed.push("faults");
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed under AddressSanitizer: {}", failed.join(", ")) }
}

/// Returns the modules of the integration tests that run under the sanitizer.
fn modules(main: &str) -> Vec<&str> {
    let names = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    names.filter(|name| !LEFT_OUT.contains(name)).collect()
}

/// Runs the models of the completion slot.
fn models() -> Result<()> {
    ui::step("every order of a completion and its future (loom)");
    let mut loom = cmd::cargo(["test", "--package", "rbd", "--lib", "--", "in_every_order", "at_once"]);
    loom.env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", "target/loom")
        .env("LOOM_MAX_PREEMPTIONS", "3");
    run_some(&mut loom)
}

/// Returns whether one report has this heading and all these functions in its stack. Blank lines
/// separate reports.
fn reports(said: &str, heading: &str, stack: &[&str]) -> bool {
    said.split("\n\n").filter(|report| report.contains(heading)).any(|report| {
        let frames: Vec<_> = report.lines().filter(|line| line.trim_start().starts_with('#')).collect();
        stack.iter().all(|function| frames.iter().any(|frame| frame.contains(function)))
    })
}

fn sanitized(args: &[&str]) -> Command {
    let mut command = sanitized_by("test");
    command.args(args);
    command
}

fn sanitized_by(subcommand: &str) -> Command {
    let mut command = cmd::cargo([subcommand, "--target", TARGET]);
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address --cfg sanitizer_canary")
        .env("CARGO_TARGET_DIR", "target/sanitizers")
        .env("RUST_BACKTRACE", "0");
    command
}

/// Runs tests, at least one.
fn run_some(command: &mut Command) -> Result<()> {
    let mut tally = Tally::default();
    let status = cmd::tee(command, |line| tally.take(line))?;
    if !status.success() || tally.passed == 0 {
        bail!("`{}` failed: {status}, {tally}", cmd::line(command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_modules_run_except_those_that_cannot() {
        let main = "//! Tests.\nmod aio;\nmod krbd;\n#[path = \"a.rs\"]\nmod other;\n";
        assert_eq!(modules(main), ["aio", "other"]);
    }

    #[test]
    fn a_report_counts_only_with_all_functions_in_one_stack() {
        let said = "Direct leak of 64 byte(s)\n    #0 0x1 in malloc\n    #1 0x2 in rbd_open (librbd.so.1)\n\n\
                    Direct leak of 12 byte(s)\n    #0 0x1 in malloc\n    #1 0x2 in it::forgets it.rs:1\n\n\
                    caused by: it::forgets rbd_open\n";
        assert!(reports(said, LEAK, &["rbd_open"]) && reports(said, LEAK, &["it::forgets"]));
        assert!(!reports(said, LEAK, &["rbd_open", "it::forgets"]));
        assert!(!reports(said, "heap-use-after-free", &["rbd_open"]));
    }
}
