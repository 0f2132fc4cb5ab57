//! `cargo xtask ci`: all that must hold before a change lands, each step timed.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
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
    PossibleValuesParser::new(BUILDS.into_iter().chain(LANES).flatten().map(|step| step.name))
}

struct Step {
    name: &'static str,
    /// The command, or why this machine cannot run it. No step skips itself.
    make: fn() -> Result<Command>,
}

/// The steps that need the processors, quick ones first. Two run at the same time, because a build
/// often waits for one compiler. Those of the second list build in directories of their own.
const BUILDS: [&[Step]; 2] = [
    &[
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
        Step { name: "benches", make: || Ok(ourselves(&["bench", "--smoke"])) },
    ],
    &[
        Step { name: "msrv", make: msrv::plan },
        Step { name: "deny", make: deny::plan },
        Step { name: "package", make: || Ok(ourselves(&["package"])) },
        Step { name: "loom", make: || Ok(ourselves(&["sanitizers", "--loom"])) },
        Step {
            name: "sanitizers",
            make: || Ok(ourselves(&["sanitizers", "--quick", "--race-seconds", "30"])),
        },
        Step { name: "fuzz", make: || Ok(ourselves(&["fuzz", "--seconds", "6"])) },
    ],
];

/// The steps that mostly wait for daemons, after the builds. Both lanes run at the same time, so
/// that the processors have work. Each lane has one cluster at a time. The first lane tests the
/// installed release of Ceph, and the second lane mostly the other releases. Both lanes take about
/// the same time.
const LANES: [&[Step]; 2] = [
    &[
        Step { name: "test", make: || Ok(ourselves(&["test"])) },
        Step { name: "campaign", make: || Ok(cargo(["test", "--quiet", "--test", "faults"])) },
        Step { name: "masks", make: || Ok(ourselves(&["test", "--mask", "all"])) },
    ],
    &[Step { name: "matrix", make: || Ok(fewer_histories(ourselves(MATRIX))) }],
];

/// The steps whose tests are shown in columns, one for each release.
const COLUMNS: [&str; 2] = ["test", "matrix"];

/// The disk space was checked at the start, and earlier steps have used some of it since.
const MATRIX: &[&str] = &["matrix", "--space-checked", "--jobs", "1", "18.2", "20.2", "mixed"];

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

/// The first lane runs random histories of images at length. A third of them shows for another
/// release that they run there.
fn fewer_histories(mut matrix: Command) -> Command {
    matrix.env("RBD_MODEL_OPS", "80");
    matrix
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

/// What the tests of all steps said.
struct Said {
    tally: Tally,
    columns: Columns,
}

/// A step that has ended: its name, its outcome, and how long it took.
type Done = (&'static str, Outcome, Duration);

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.steps.is_empty() || args.steps.iter().any(|step| step == "matrix") {
        disk::ensure_free()?;
    }
    setup::ensure(Purpose::value_variants(), args.consent)?;
    let started = Instant::now();
    let said = Mutex::new(Said { tally: Tally::default(), columns: Columns::new(&installed_release()?) });
    let all = |steps: &'static [Step]| -> Vec<Done> {
        let wanted = steps.iter().filter(|step| args.steps.is_empty() || named(&args.steps, step));
        wanted
            .map(|step| {
                let begun = Instant::now();
                let outcome = if named(&args.without, step) { Outcome::LeftOut } else { take(step, &said) };
                (step.name, outcome, begun.elapsed())
            })
            .collect()
    };
    let all = &all;
    let mut done = Vec::new();
    for lanes in [BUILDS, LANES] {
        thread::scope(|scope| {
            for lane in lanes.map(|lane| scope.spawn(move || all(lane))) {
                done.extend(lane.join().map_err(|_| anyhow!("a thread panicked"))?);
            }
            anyhow::Ok(())
        })?;
    }
    let Said { tally, columns } = said.into_inner().unwrap_or_else(PoisonError::into_inner);
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

fn take(step: &Step, seen: &Mutex<Said>) -> Outcome {
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
        let mut seen = lock(seen);
        seen.tally.take(line);
        if COLUMNS.contains(&step.name) {
            seen.columns.take(line);
        }
        said.push(line.to_owned());
    });
    match status {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed { why: status.to_string(), said },
        Err(error) => Outcome::Failed { why: format!("{error:#}"), said },
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn summary(done: &[Done], all: Duration) {
    println!();
    for (name, outcome, time) in done {
        let (colour, word) = match outcome {
            Outcome::Passed => (ui::GREEN, "ok".to_owned()),
            Outcome::LeftOut => (ui::YELLOW, "left out by --without".to_owned()),
            Outcome::Failed { why, .. } => (ui::RED, format!("FAILED: {why}")),
        };
        anstream::println!("  {name:<15} {:>12}  {colour}{word}{colour:#}", ui::time(*time));
    }
    println!("  {:<15} {:>12}", "in all", ui::time(all));
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
