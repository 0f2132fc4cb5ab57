//! `cargo xtask test`: runs every test of the workspace on one real cluster, and checks that
//! nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::scratch::{MARK, Scratch};
use crate::setup::{self, Consent, Purpose};
use crate::tally::Tally;
use crate::{cmd, ui};

/// How long daemons may take to end after the run.
const GRACE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Run the tests whose images can have other features than Ceph's five defaults, with these
    #[arg(long, value_enum)]
    mask: Option<Mask>,
    /// Passed on to `cargo test`, for example `-p rbd` or `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo_test: Vec<String>,
}

/// The features that `tests/it/masks.rs` gives images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mask {
    /// The three below, one after the other
    All,
    /// Only layering
    Layering,
    /// Also journaling and striping
    Everything,
    /// The data in an erasure-coded pool
    DataPool,
}

impl Mask {
    /// Returns the values of `RBD_TEST_FEATURES`, one for each run.
    fn names(self) -> &'static [&'static str] {
        match self {
            Mask::All => &["layering", "everything", DATA_POOL],
            Mask::Layering => &["layering"],
            Mask::Everything => &["everything"],
            Mask::DataPool => &[DATA_POOL],
        }
    }
}

const DATA_POOL: &str = "data-pool";

/// The modules of the integration tests whose images `tests/it/masks.rs` makes.
const MASKED: &[&str] =
    &["snapshots::", "clones::", "copy::", "diff::", "metadata::", "migration::", "masks::"];

pub(crate) fn run(args: &Args) -> Result<()> {
    use Purpose::{Build, Cluster, Differential, Mirror, Vm};
    setup::ensure(&[Build, Cluster, Differential, Mirror, Vm], args.consent)?;
    match args.mask {
        None => run_once(&args.cargo_test, None),
        Some(mask) => {
            let mut cargo_test = args.cargo_test.clone();
            if cargo_test.is_empty() {
                cargo_test = ["--package", "rbd-suite", "--test", "it", "--"].map(str::to_owned).to_vec();
                cargo_test.extend(MASKED.iter().map(|&module| module.to_owned()));
            }
            mask.names().iter().try_for_each(|name| {
                ui::step(&format!("images with the features: {name}"));
                run_once(&cargo_test, Some(name))
            })
        }
    }
}

fn run_once(cargo_test: &[String], mask: Option<&str>) -> Result<()> {
    let scope: &[&str] = if cargo_test.is_empty() { &["--workspace", "--no-fail-fast"] } else { &[] };
    ui::step("building the tests");
    cmd::run(cmd::cargo(["test", "--no-run"]).args(scope).args(before_double_dash(cargo_test)))?;

    ui::step("running the tests on one cluster");
    let started = Instant::now();
    let home = Scratch::new("rbd-test")?;
    // Every process of the run has this mark, which distinguishes a process that outlives the run
    // from others.
    let mark = home.path().display().to_string();
    let mut tests = cmd::cargo(["run", "--quiet", "--package", "rbd-testcluster", "--", "run"]);
    if mask == Some(DATA_POOL) {
        // Two data chunks and one coding chunk, on stores that can overwrite them.
        tests.args(["--osds", "3", "--objectstore", "bluestore"]);
    }
    if let Some(mask) = mask {
        tests.env("RBD_TEST_FEATURES", mask);
    }
    tests.args(["--", "cargo", "test"]).args(scope).args(cargo_test);
    tests.env("TMPDIR", home.path()).env(MARK, &mark);
    let mut tally = Tally::default();
    let status = cmd::tee(&mut tests, |line| tally.take(line))?;

    let left = leftovers(&mark, home.path())?;
    println!(
        "\n{} test binaries in {}, {} tests ignored",
        tally.runs,
        ui::time(started.elapsed()),
        tally.ignored
    );
    println!("{tally}");
    if !left.is_empty() {
        bail!("the tests left behind:\n  {}", left.join("\n  "));
    }
    if !status.success() || tally.failed > 0 {
        bail!("`{}` failed: {status}", cmd::line(&tests));
    }
    if tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Returns the arguments that `cargo test --no-run` understands.
fn before_double_dash(args: &[String]) -> &[String] {
    args.split(|arg| arg == "--").next().unwrap_or_default()
}

/// Returns the processes of the run that still live, and the files in its temporary directory.
fn leftovers(mark: &str, home: &Path) -> Result<Vec<String>> {
    let deadline = Instant::now() + GRACE;
    let mut processes = marked(mark)?;
    while !processes.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        processes = marked(mark)?;
    }
    let mut left: Vec<_> =
        processes.into_iter().map(|(pid, command)| format!("process {pid}: {command}")).collect();
    for entry in fs::read_dir(home).with_context(|| format!("cannot list {}", home.display()))? {
        left.push(format!("file {}", entry?.path().display()));
    }
    Ok(left)
}

/// Returns the living processes whose environment has the mark, by process id. A process that has
/// ended, or that belongs to another user, cannot be read and is not ours.
fn marked(mark: &str) -> Result<BTreeMap<u32, String>> {
    let wanted = format!("{MARK}={mark}");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.insert(pid, String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_outlives_the_run_is_found() {
        let home = tempfile::tempdir().unwrap();
        let mark = home.path().display().to_string();
        let mut sleeper = cmd::command("sleep", ["60"]).env(MARK, &mark).spawn().unwrap();
        // Until exec, a child has its parent's environment.
        let deadline = Instant::now() + GRACE;
        while marked(&mark).unwrap().get(&sleeper.id()).is_none_or(|command| command != "sleep 60") {
            assert!(Instant::now() < deadline, "the process was not found");
            std::thread::sleep(Duration::from_millis(10));
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!(leftovers(&mark, home.path()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_outlives_the_run_is_found() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("cluster")).unwrap();
        let left = leftovers("nobody", home.path()).unwrap();
        assert_eq!(left, [format!("file {}", home.path().join("cluster").display())]);
    }

    #[test]
    fn arguments_of_the_tests_are_not_cargos() {
        let args = ["-p", "rbd", "--", "--nocapture"].map(str::to_owned);
        assert_eq!(before_double_dash(&args), ["-p", "rbd"]);
        assert_eq!(before_double_dash(&[]), [] as [String; 0]);
    }
}
