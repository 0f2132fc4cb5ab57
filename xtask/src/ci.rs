//! `cargo xtask ci`: all that must hold before a change lands, each step timed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum as _;
use clap::builder::PossibleValuesParser;

use crate::matrix::Columns;
use crate::setup::{self, Consent, Purpose};
use crate::tally::Tally;
use crate::{cmd, deny, disk, msrv, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Only these steps; all when none is named
    #[arg(value_parser = names())]
    steps: Vec<String>,
    /// All steps but this one, which the summary names; can be repeated
    #[arg(long, value_name = "STEP", value_parser = names(), conflicts_with = "steps")]
    without: Vec<String>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

struct Step {
    name: &'static str,
    /// The command, or why this machine cannot run it. No step skips itself.
    make: fn() -> Result<Command>,
}

/// Quick ones first; the tests last, so that their result is the last thing said. The tests run
/// with the release of Ceph that is installed, and in the matrix with the others.
const STEPS: &[Step] = &[
    Step { name: "fmt", make: || Ok(cargo(["fmt", "--all", "--check"])) },
    Step { name: "tidy", make: || Ok(ourselves(&["tidy"])) },
    Step { name: "coverage", make: || Ok(ourselves(&["coverage"])) },
    Step {
        name: "clippy",
        make: || Ok(cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])),
    },
    Step { name: "features", make: || Ok(ourselves(&["features"])) },
    Step { name: "api", make: || Ok(ourselves(&["api", "--check"])) },
    // As the demo builds them.
    Step { name: "lean", make: || Ok(cargo(["check", "--no-default-features", "--examples"])) },
    Step { name: "doc", make: || Ok(doc(&[], &["--workspace"])) },
    // As docs.rs builds: without any Ceph library.
    Step { name: "docs.rs", make: || Ok(doc(&[("DOCS_RS", "1")], &["-p", "librbd-sys", "-p", "rbd"])) },
    Step { name: "bindgen", make: || Ok(ourselves(&["bindgen", "--check"])) },
    // The safe crate on bindings that were generated from the headers at hand.
    Step {
        name: "bindgen-feature",
        make: || Ok(cargo(["check", "-p", "rbd", "--features", "librbd-sys/bindgen"])),
    },
    Step { name: "msrv", make: msrv::plan },
    Step { name: "deny", make: deny::plan },
    Step { name: "package", make: || Ok(ourselves(&["package"])) },
    Step { name: "loom", make: || Ok(ourselves(&["sanitizers", "--loom"])) },
    Step { name: "sanitizers", make: || Ok(ourselves(&["sanitizers", "--quick", "--race-seconds", "30"])) },
    Step { name: "fuzz", make: || Ok(ourselves(&["fuzz", "--seconds", "6"])) },
    Step { name: "benches", make: || Ok(ourselves(&["bench", "--smoke"])) },
    Step { name: "campaign", make: || Ok(ourselves(&["campaign"])) },
    Step { name: "masks", make: || Ok(ourselves(&["test", "--mask", "all"])) },
    Step { name: "test", make: || Ok(ourselves(&["test"])) },
];

/// The release that the step `test` runs with: `16.2`.
fn installed_release() -> Result<String> {
    let said = cmd::read(&mut cmd::command("ceph", ["--version"]))?;
    let number = said.split(' ').nth(2).unwrap_or_default();
    Ok(number.rsplit_once('.').map_or(number, |(release, _)| release).to_owned())
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    cmd::cargo(args)
}

fn doc(env: &[(&str, &str)], packages: &[&str]) -> Command {
    let mut command = cmd::cargo(["doc", "--no-deps"]);
    command.args(packages).env("RUSTDOCFLAGS", "--deny warnings").envs(env.iter().copied());
    command
}

/// It has no terminal, so it does not ask again what has been agreed to at the start.
fn ourselves(task: &[&str]) -> Command {
    cmd::xtask(task)
}

/// How a step ended.
enum Outcome {
    Passed,
    /// The user has excluded it.
    LeftOut,
    Failed {
        why: String,
        said: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.steps.is_empty() {
        disk::ensure_free()?;
    }
    setup::ensure(Purpose::value_variants(), args.consent)?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut columns = Columns::new(&installed_release()?);
    let mut done = Vec::new();
    for step in STEPS.iter().filter(|step| args.steps.is_empty() || named(&args.steps, step)) {
        let begun = Instant::now();
        let outcome =
            if named(&args.without, step) { Outcome::LeftOut } else { take(step, &mut tally, &mut columns) };
        done.push((step.name, outcome, begun.elapsed()));
    }
    summary(&done, started.elapsed());
    let failed: Vec<_> =
        done.iter().filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed { .. })).collect();
    if let Some((name, Outcome::Failed { why, said }, _)) = failed.first() {
        anstream::println!("\n{r}first failure:{r:#} {name}: {why}", r = ui::RED);
        for line in heart(said) {
            anstream::println!("{line}");
        }
    }
    if !columns.is_empty() {
        print!("\n{columns}");
    }
    if tally.runs > 0 {
        println!("\n{tally}");
    }
    if !failed.is_empty() {
        bail!("{} of {} steps failed", failed.len(), done.len());
    }
    Ok(())
}

fn named(names: &[String], step: &Step) -> bool {
    names.iter().any(|name| name == step.name)
}

/// What a failed step said, without what it said while all was well.
fn heart(said: &[String]) -> &[String] {
    const BAD: [&str; 3] = ["error", "FAILED", "panicked"];
    let first = said.iter().position(|line| BAD.iter().any(|word| line.contains(word))).unwrap_or(0);
    &said[first.max(said.len().saturating_sub(300))..]
}

fn take(step: &Step, tally: &mut Tally, columns: &mut Columns) -> Outcome {
    let mut command = match (step.make)() {
        Ok(command) => command,
        Err(error) => return Outcome::Failed { why: format!("{error:#}"), said: Vec::new() },
    };
    if ui::coloured() {
        command.env("CARGO_TERM_COLOR", "always").env("CLICOLOR_FORCE", "1");
    }
    println!();
    ui::step(&format!("{}: {}", step.name, cmd::line(&command)));
    let mut said = Vec::new();
    let status = cmd::tee(&mut command, |line| {
        tally.take(line);
        // Its tests are shown in columns, one for each release.
        if step.name == "test" {
            columns.take(line);
        }
        said.push(line.to_owned());
    });
    match status {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed { why: status.to_string(), said },
        Err(error) => Outcome::Failed { why: format!("{error:#}"), said },
    }
}

fn summary(done: &[(&str, Outcome, Duration)], all: Duration) {
    println!();
    for (name, outcome, time) in done {
        let (colour, word) = match outcome {
            Outcome::Passed => (ui::GREEN, "ok".to_owned()),
            Outcome::LeftOut => (ui::YELLOW, "left out by --without".to_owned()),
            Outcome::Failed { why, .. } => (ui::RED, format!("FAILED: {why}")),
        };
        anstream::println!("  {name:<10} {:>12}  {colour}{word}{colour:#}", ui::time(*time));
    }
    println!("  {:<10} {:>12}", "in all", ui::time(all));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_from_where_it_went_wrong() {
        let said = ["   Compiling rbd", "error: broken", "  --> here"].map(str::to_owned);
        assert_eq!(heart(&said), &said[1..]);
        let quiet = ["Diff in main.rs:", "-a", "+b"].map(str::to_owned);
        assert_eq!(heart(&quiet), &quiet);
        let long = vec!["error".to_owned(); 1000];
        assert_eq!(heart(&long).len(), 300);
    }
}
