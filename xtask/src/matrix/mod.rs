//! `cargo xtask matrix`: the tests, built once, run with the daemons and libraries of every
//! release.

mod binaries;
mod columns;
mod kernels;
mod late;
mod mixed;
mod root;
mod roots;
mod served;

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use self::binaries::Binary;
pub(crate) use self::columns::Columns;
use self::late::Recorder;
use self::root::{Release, Root};
use self::roots::Roots;
use crate::scratch::Scratch;
use crate::setup::{self, Consent, Purpose};
use crate::tally::Tally;
use crate::{cmd, disk, hang, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// What to run; all when nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Make the roots anew, with the newest packages of their suites
    #[arg(long)]
    fresh: bool,
    /// Map images from kernels old and new on clusters old and new instead, and print the table of
    /// docs/releases.md; takes half an hour
    #[arg(long)]
    kernels: bool,
    /// How many parts run at the same time. Tests mostly wait, so that two share the processors
    /// well. With more, daemons that one part freezes would starve in the load of the others
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// The caller has checked the disk space, and may have used some of it since
    #[arg(long, hide = true)]
    space_checked: bool,
    /// Arguments for the integration tests, which then are all that runs: `cargo xtask matrix 20.2
    /// -- groups::`
    #[arg(last = true)]
    filter: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// All tests with Ceph 16.2 of Debian 12
    #[value(name = "16.2")]
    Pacific,
    /// All tests with Ceph 18.2 of Debian 13
    #[value(name = "18.2")]
    Reef,
    /// All tests with Ceph 20.2 of Debian testing
    #[value(name = "20.2")]
    Tentacle,
    /// Clients of the oldest release on a cluster of the newest, and the other way round
    Mixed,
}

impl Part {
    fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("no part is hidden");
        value.get_name().to_owned()
    }

    /// The roots that it needs.
    fn releases(self) -> &'static [Release] {
        match self {
            Part::Pacific => &[Release::Pacific],
            Part::Reef => &[Release::Reef],
            Part::Tentacle => &[Release::Tentacle],
            Part::Mixed => &mixed::RELEASES,
        }
    }
}

/// What passed in which column.
type Counts = Mutex<Columns>;

pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.space_checked {
        disk::ensure_free()?;
    }
    let vm: &[Purpose] = if args.kernels { &[Purpose::Vm, Purpose::Cluster] } else { &[] };
    setup::ensure(&[&[Purpose::Build, Purpose::Matrix], vm].concat(), args.consent)?;
    root::ensure_mountable()?;
    let parts = match &args.parts[..] {
        [] => <Part as clap::ValueEnum>::value_variants(),
        parts => parts,
    };
    let started = Instant::now();
    let needed: Vec<Release> = if args.kernels {
        kernels::RELEASES.to_vec()
    } else {
        parts.iter().flat_map(|part| part.releases()).copied().collect()
    };
    let roots = &Roots::new(args.fresh);
    let counts = Mutex::new(Columns::new(""));
    let (waiting, failures) = (Mutex::new(parts.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        // A part begins when its own roots are complete. It tells if they cannot be made.
        scope.spawn(|| needed.into_iter().all(|release| roots.get(release).is_ok()));
        let binaries = &binaries::build(&args.filter)?;
        if args.kernels {
            return kernels::run(roots, binaries);
        }
        let lane = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(part) = next else { return Ok(()) };
                let begun = Instant::now();
                if let Err(error) = part.run(roots, binaries, &args.filter, &counts) {
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
                }
                println!("{} took {}", part.name(), ui::time(begun.elapsed()));
            }
        };
        thread::scope(|scope| {
            let lanes: Vec<_> = (0..args.jobs).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().try_for_each(join)
        })
    })?;
    if args.kernels {
        return Ok(());
    }
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{counts}\nall in {}", ui::time(started.elapsed()));
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

impl Part {
    fn run(self, roots: &Roots, binaries: &[Binary], filter: &[String], counts: &Counts) -> Result<()> {
        match self.releases() {
            &[release] => column(roots.get(release)?, binaries, filter, counts),
            releases => {
                let (old, new) = (roots.get(releases[0])?, roots.get(releases[1])?);
                let all = [
                    mixed::run(old, new, binaries, counts),
                    mixed::run(new, old, binaries, counts),
                    mixed::run_with_newer_keys(old, new, binaries, counts),
                ];
                all.into_iter().collect()
            }
        }
    }
}

/// Runs the tests in one root. All run, even when some fail.
fn column(root: &Root, binaries: &[Binary], filter: &[String], counts: &Counts) -> Result<()> {
    let number = root.release.number();
    let scratch = Scratch::new(&format!("rbd-matrix-{number}"))?;
    // The newest has all functions.
    let recorder = (root.release == Release::Tentacle).then(|| Recorder::new(&scratch)).transpose()?;
    let (mut failed, mut tally) = (Vec::new(), Tally::default());
    for binary in binaries {
        say(counts, number, &format!("Running {}", binary.title));
        let mut command = root.command(&scratch);
        command.args(recorder.as_ref().map(Recorder::variable));
        command.arg(&binary.path).args(binary.args).args(filter);
        let mut hangs = String::new();
        let status = cmd::lines(&mut command, |line| {
            tally.take(line);
            say(counts, number, line);
            if line.starts_with(hang::MARK) {
                hangs = format!("{hangs}\n{line}");
            }
        })?;
        if !status.success() {
            failed.push(format!("{number}: {}: {status}{hangs}", binary.title));
        }
    }
    if failed.is_empty() && tally.passed == 0 {
        failed.push(format!("{number}: no integration test matches `{}`", filter.join(" ")));
    }
    if let Some(recorder) = recorder.filter(|_| filter.is_empty()) {
        match recorder.check() {
            Ok(all) => {
                say(
                    counts,
                    number,
                    &format!("all {all} functions that only newer releases have were called"),
                );
            }
            Err(error) => failed.push(format!("{number}: {error:#}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("{}", failed.join("\n"))) }
}

/// Shows a line with its column's name before it, and counts what it tells.
fn say(counts: &Counts, column: &str, line: &str) {
    let line = columns::marked(column, line);
    counts.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
    println!("{line}");
}
