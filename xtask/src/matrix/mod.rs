//! `cargo xtask matrix`: the tests, built once, run with the daemons and libraries of every release.

mod binaries;
mod columns;
mod root;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use self::binaries::Binary;
pub(crate) use self::columns::{Columns, MARK};
use self::root::{Release, Root};
use crate::scratch::Scratch;
use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// The releases; all when none is named
    #[arg(value_enum)]
    releases: Vec<Release>,
    /// Make the roots anew, with the newest packages of their suites
    #[arg(long)]
    fresh: bool,
    /// Arguments for the integration tests, which then are all that runs: `cargo xtask matrix 20.2 -- groups::`
    #[arg(last = true)]
    filter: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Matrix], args.consent)?;
    let releases = if args.releases.is_empty() { &Release::ALL[..] } else { &args.releases };
    let started = Instant::now();
    let (roots, binaries) = thread::scope(|scope| {
        let roots = scope.spawn(|| {
            releases.iter().map(|&release| Root::open(release, args.fresh)).collect::<Result<Vec<_>>>()
        });
        let binaries = binaries::build();
        (roots.join().unwrap_or_else(|_| Err(anyhow!("making the roots panicked"))), binaries)
    });
    let (roots, mut binaries) = (roots?, binaries?);
    if !args.filter.is_empty() {
        binaries.retain(|binary| binary.is_integration());
    }
    let counts = Mutex::new(Columns::new(""));
    let failures: Vec<String> = thread::scope(|scope| {
        let columns: Vec<_> = roots
            .iter()
            .map(|root| {
                let (binaries, counts) = (&binaries, &counts);
                scope.spawn(move || Column { root, counts }.run(binaries, &args.filter))
            })
            .collect();
        let join = |column: thread::ScopedJoinHandle<'_, _>| {
            column.join().unwrap_or_else(|_| Err(anyhow!("panicked")))
        };
        columns
            .into_iter()
            .map(join)
            .zip(&roots)
            .filter_map(|(outcome, root)| {
                outcome.err().map(|error| format!("{}: {error:#}", root.release.number()))
            })
            .collect()
    });
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{counts}\n{} releases in {}", roots.len(), ui::time(started.elapsed()));
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// The tests in one root.
struct Column<'a> {
    root: &'a Root,
    counts: &'a Mutex<Columns>,
}

impl Column<'_> {
    /// Runs all, even when some fail.
    fn run(&self, binaries: &[Binary], filter: &[String]) -> Result<()> {
        let scratch = Scratch::new(&format!("rbd-matrix-{}", self.root.release.number()))?;
        let mut failed = Vec::new();
        for binary in binaries {
            self.say(&format!("Running {}", binary.title));
            let mut command = self.root.command(&scratch);
            command.arg(&binary.path).args(binary.args).args(filter);
            let status = cmd::lines(&mut command, |line| self.say(line))?;
            if !status.success() {
                failed.push(format!("{}: {status}", binary.title));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(anyhow!("{}", failed.join("; "))) }
    }

    /// Shows a line with the release before it.
    fn say(&self, line: &str) {
        let line = format!("{}{MARK}{line}", self.root.release.number());
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
        println!("{line}");
    }
}
