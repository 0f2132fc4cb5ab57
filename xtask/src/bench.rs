//! `cargo xtask bench`: the paired comparison with C, fio, python3-rbd and `rbd bench`, with a
//! report. `--smoke` only checks that all benches run.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// The directory of the report: README.md and the plots
    #[arg(long, default_value = "target/bench-report")]
    report: PathBuf,
    /// Rounds of each comparison [default: 101, 31 and 15 for the first ones, 11 for the others]
    #[arg(long)]
    rounds: Option<u32>,
    /// Only check that all benches run: each once for a moment, unoptimised, without a report
    #[arg(long, conflicts_with_all = ["report", "rounds"])]
    smoke: bool,
    /// Use the cluster that CEPH_CONF names instead of an embedded one
    #[arg(long)]
    real: bool,
}

struct Run {
    kind: &'static str,
    sequential: bool,
    /// Bytes per operation.
    block: u32,
    /// Operations in flight.
    depth: u32,
    /// Operations per round.
    operations: u32,
    rounds: u32,
    /// Without programs of others. Then rounds can be short, so that all engines run under similar
    /// conditions.
    own: bool,
    /// Clients and cluster share all processors.
    shared: bool,
}

const fn random(kind: &'static str, block: u32, depth: u32, operations: u32) -> Run {
    Run { kind, sequential: false, block, depth, operations, rounds: 11, own: false, shared: false }
}

const fn sequential(kind: &'static str, block: u32, depth: u32, operations: u32) -> Run {
    Run { kind, sequential: true, block, depth, operations, rounds: 11, own: false, shared: false }
}

const RUNS: &[Run] = &[
    // The comparisons with a goal.
    Run { rounds: 101, own: true, ..random("read", 4096, 32, 4_000) },
    Run { rounds: 31, ..random("read", 4096, 32, 20_000) },
    Run { rounds: 15, shared: true, ..random("read", 4096, 32, 20_000) },
    random("read", 4096, 1, 2_000),
    random("read", 4096, 128, 20_000),
    random("write", 4096, 32, 10_000),
    random("mixed", 4096, 32, 10_000),
    sequential("read", 4 << 20, 4, 100),
    sequential("write", 4 << 20, 4, 100),
];

/// The explanation of the tables.
const READING: &str = "\
Written by `cargo xtask bench`. `docs/testing.md` describes the method and the results under
*Speed*. An engine is a loop with a fixed number of operations in flight: in C on librbd with
callbacks and with its queue, the same two with this library, and three programs. Ratios are to the
C loop of the same kind, round by round: the median, and in brackets the quartiles. A goal is
*reached* or *missed* if the 95 % interval of the median is on one side of it. All settings are
defaults, except *OSD timeout*: with a timeout of 120 s for operations of the OSDs. *C, queue,
again* is *C, queue* a second time, which shows the noise. *Processors shared*: the clients and the
cluster share all processors; otherwise each has one half.
";

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Cluster, Purpose::Differential, Purpose::Bench], args.consent)?;
    if args.smoke {
        return smoke(args.real);
    }
    let folder = cmd::root().join(&args.report);
    cmd::run(&mut bench(&["--no-run", "--bench", "compare"], args.real))?;
    calm_down()?;
    let mut text = format!("# Speed\n\n{READING}\n{}\n", machine()?);
    for Run { kind, sequential, block, depth, operations, rounds, own, shared } in RUNS {
        let order = if *sequential { "sequential" } else { "random" };
        ui::step(&format!("{order} {kind}, {block} bytes, depth {depth}"));
        let mut bench = bench(&["--bench", "compare", "--", "--kind", kind], args.real);
        bench.args(sequential.then_some("--sequential")).args(own.then_some("--own"));
        bench.args(shared.then_some("--shared"));
        bench.args(["--block", &block.to_string(), "--depth", &depth.to_string()]);
        bench.args([
            "--operations",
            &operations.to_string(),
            "--rounds",
            &args.rounds.unwrap_or(*rounds).to_string(),
        ]);
        bench.arg("--report").arg(&folder);
        cmd::run(&mut bench)?;
        let own = if *own { "-own" } else { "" };
        let shared = if *shared { "-shared" } else { "" };
        let part = folder.join(format!("{order}-{kind}-{block}-{depth}{own}{shared}.md"));
        writeln!(text, "{}", read(&part)?)?;
        fs::remove_file(&part)?;
    }
    ui::step("surveys and exports beside the rbd command");
    let part = folder.join("survey.md");
    cmd::run(bench(&["--bench", "survey", "--"], args.real).arg("--report").arg(&part))?;
    writeln!(text, "## Thousands of images, beside the `rbd` command\n\n{}", read(&part)?)?;
    fs::remove_file(&part)?;
    fs::write(folder.join("README.md"), text.trim_end().to_owned() + "\n")?;
    println!("the report lies in {}", args.report.display());
    Ok(())
}

fn bench(args: &[&str], real: bool) -> Command {
    // Without the events that the tests use.
    let mut bench = cmd::cargo(["bench", "--quiet", "--no-default-features", "--features", "full"]);
    bench.args(args);
    if !real {
        bench.env_remove("CEPH_CONF");
    }
    bench
}

fn smoke(real: bool) -> Result<()> {
    let dev = ["--profile", "dev", "--bench"];
    for (name, args) in [
        ("compare", &["--kind", "mixed", "--rounds", "1", "--operations", "200"][..]),
        ("io", &["--test"]),
        ("many", &["--test"]),
        ("overhead", &["--test"]),
        ("survey", &["--images=20", "--many=40", "--measured=20", "--gib=1", "--mib=16", "--rounds=1"]),
    ] {
        cmd::run(&mut bench(&[&dev[..], &[name, "--"], args].concat(), real))?;
    }
    // The driver's bench boots its own cluster, because it also measures the driver's memory.
    cmd::run(&mut cmd::cargo([
        "bench",
        "--quiet",
        "--package",
        "rbd-csi",
        "--profile",
        "dev",
        "--bench",
        "csi",
        "--",
        "--smoke",
    ]))
}

/// Waits some minutes at most until earlier work has ended, because figures of a busy machine mean
/// nothing.
fn calm_down() -> Result<()> {
    let busy = || -> Result<bool> {
        let load = read(Path::new("/proc/loadavg"))?;
        Ok(load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).is_some_and(|load| load > 0.3))
    };
    let end = Instant::now() + Duration::from_secs(300);
    while busy()? && Instant::now() < end {
        thread::sleep(Duration::from_secs(5));
    }
    Ok(())
}

/// Returns a description of machine and versions.
fn machine() -> Result<String> {
    let said = |program: &str| cmd::read(&mut cmd::command(program, ["--version"]));
    let line = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.trim_start_matches(key).trim_matches([' ', '\t', ':', '=', '"']).to_owned()
    };
    let [cpu, memory, system] =
        ["/proc/cpuinfo", "/proc/meminfo", "/etc/os-release"].map(|path| read(Path::new(path)));
    let mut text = String::from("| measured on | |\n|---|---|\n");
    for (what, value) in [
        ("processor model", line(&cpu?, "model name")),
        ("processors", std::thread::available_parallelism()?.to_string()),
        ("memory", line(&memory?, "MemTotal")),
        ("system", line(&system?, "PRETTY_NAME")),
        // Without the additions of the distribution.
        ("kernel", read(Path::new("/proc/sys/kernel/osrelease"))?.split('-').next().unwrap_or("").to_owned()),
        ("load before", read(Path::new("/proc/loadavg"))?),
        ("Ceph", said("rbd")?),
        ("fio", said("fio")?),
        ("Rust", said("rustc")?),
        ("commit", cmd::read(&mut cmd::command("git", ["describe", "--always", "--dirty"]))?),
    ] {
        writeln!(text, "| {what} | {} |", value.trim())?;
    }
    Ok(text)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
