//! `cargo bench --bench survey`: surveys, used space, exports and many open images beside the `rbd`
//! command, paired.
//!
//! In each round the `rbd` command and this library do the same work one after the other, each in a
//! new process, so that a load of the machine affects both. A ratio of times is the median of the
//! rounds' ratios. Processor time is that of the client process, and its ratio is that of the sums.
//! A survey that takes 64 MiB of memory or more fails.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod measure;
#[path = "../compare/statistics.rs"]
#[allow(dead_code)]
mod statistics;
mod work;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use measure::{Goal, HEAD, Pair, measure, seconds};
use rbd_testcluster::TestCluster;

#[derive(Parser)]
struct Args {
    /// Images to list
    #[arg(long, default_value_t = 1_000)]
    images: usize,
    /// Images of the second, larger list
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Images to measure; every second one has a snapshot
    #[arg(long, default_value_t = 1_000)]
    measured: usize,
    /// Size of the image with 1 % written, in GiB
    #[arg(long, default_value_t = 64)]
    gib: u64,
    /// Size of the full image, in MiB
    #[arg(long, default_value_t = 512)]
    mib: u64,
    /// Rounds of each comparison [default: 31 of the full image, 11 of short ones, 5 of long ones]
    #[arg(long)]
    rounds: Option<usize>,
    /// A file for the table; only standard output without
    #[arg(long)]
    report: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child process does.
#[derive(Subcommand, Clone)]
#[command(hide = true)]
enum Role {
    /// Creates the images
    Prepare { conf: PathBuf },
    /// Lists a pool like `rbd ls -l`
    Ls { conf: PathBuf, pool: String },
    /// Measures a pool like `rbd du`
    Du { conf: PathBuf, pool: String },
    /// Exports an image like `rbd export`
    Export { conf: PathBuf, pool: String, image: String, file: PathBuf },
    /// Opens all images of a pool
    Open {
        conf: PathBuf,
        pool: String,
        in_flight: usize,
        #[arg(action = clap::ArgAction::Set)]
        writing: bool,
    },
}

fn main() {
    let args = Args::parse();
    match args.role.clone() {
        None => compare(&args),
        Some(Role::Prepare { conf }) => work::prepare(
            &conf,
            &[(work::LISTED, args.images), (work::MANY, args.many)],
            args.measured,
            args.gib,
            args.mib,
        ),
        Some(Role::Ls { conf, pool }) => work::ls(&conf, &pool),
        Some(Role::Du { conf, pool }) => work::du(&conf, &pool),
        Some(Role::Export { conf, pool, image, file }) => work::export(&conf, &pool, &image, &file),
        Some(Role::Open { conf, pool, in_flight, writing }) => work::open(&conf, &pool, in_flight, writing),
    }
}

fn compare(args: &Args) {
    let pools = [work::LISTED, work::MANY, work::MEASURED, work::EXPORTED];
    let cluster = TestCluster::builder().pools(pools).start().expect("the cluster starts");
    let conf = cluster.conf();
    let Args { images, many, measured, gib, mib, .. } = args;
    let counts = [("images", *images), ("many", *many), ("measured", *measured)];
    let flags = counts.map(|(name, count)| format!("--{name}={count}"));
    let flags = flags.into_iter().chain([format!("--gib={gib}"), format!("--mib={mib}")]);
    measure(&mut own(&flags.collect::<Vec<_>>(), &["prepare"], conf));
    let folder = tempfile::tempdir().expect("there is room for files");
    let files = ["theirs", "ours"].map(|name| folder.path().join(name).display().to_string());

    let mut text = HEAD.to_owned();
    let mut compare = |what: &str, rounds: usize, goal: Goal, theirs: &[&str], ours: &[&str]| {
        let mut pairs = Vec::new();
        for _ in 0..=args.rounds.unwrap_or(rounds) {
            for file in &files {
                let _ = std::fs::remove_file(file);
            }
            let mut command = std::process::Command::new("rbd");
            command.arg("--conf").arg(conf).args(theirs);
            let memory = if theirs[0] == "export" { 2 * (mib << 20).max((gib << 30) / 100) } else { 0 };
            warm_up(folder.path(), memory);
            let theirs = measure(&mut command);
            warm_up(folder.path(), memory);
            pairs.push(Pair { theirs, ours: measure(&mut own(&[], ours, conf)) });
        }
        // The goals are for these sizes. The first round warms up.
        let goal = if (*images, *measured, *gib) == (1_000, 1_000, 64) { goal } else { Goal::default() };
        text += &Pair::row(what, &pairs[1..], goal);
        seconds(&pairs[1..])
    };
    let ls = |pool: &'static str| (["ls", "-l", pool, "--format", "json"], ["ls", pool]);
    let (theirs, ours) = ls(work::LISTED);
    let goal = Goal { time: Some(1.0 / 15.0), cpu: Some(1.0 / 30.0) };
    let few = compare(&format!("`ls -l`, {images} images"), 11, goal, &theirs, &ours);
    let (theirs, ours) = ls(work::MANY);
    let all = compare(&format!("`ls -l`, {many} images"), 2, Goal::default(), &theirs, &ours);
    compare(
        &format!("`du`, {measured} images, every second one with a snapshot"),
        11,
        Goal { time: Some(1.0 / 20.0), cpu: None },
        &["du", "-p", work::MEASURED, "--format", "json"],
        &["du", work::MEASURED],
    );
    for (image, what, rounds, most) in [
        ("sparse", format!("{gib} GiB with 1 % written"), 5, 0.1),
        ("full", format!("{mib} MiB, full"), 31, 1.0),
    ] {
        let spec = format!("{}/{image}", work::EXPORTED);
        compare(
            &format!("export of {what}"),
            rounds,
            Goal { time: Some(most), cpu: None },
            &["export", "--no-progress", &spec, &files[0]],
            &["export", work::EXPORTED, image, &files[1]],
        );
        assert!(same(Path::new(&files[0]), Path::new(&files[1])), "the exports of {image} differ");
    }
    text += &format!("\n{many} images take this crate {:.1} times as long as {images}.\n", all / few);
    for (in_flight, writing) in [("1", "false"), ("10", "false"), ("32", "false"), ("10", "true")] {
        let took = measure(&mut own(&[], &["open", work::LISTED, in_flight, writing], conf));
        let how = if writing == "true" { "for writing" } else { "read-only" };
        text += &format!(
            "\n- Open {images} images {how}, {in_flight} at the same time: {}, {:.2} s of processor time.",
            took.said, took.cpu
        );
    }
    println!("{text}");
    if let Some(report) = &args.report {
        std::fs::write(report, text + "\n").expect("the report can be written");
    }
}

/// Uses this many bytes of memory for a file, and frees them. A virtual machine returns free memory
/// to its host, and the next use takes ten times as long. Without this, an export measures the
/// host.
fn warm_up(folder: &Path, memory: u64) {
    let path = folder.join("memory");
    let mut file = std::fs::File::create(&path).expect("there is room for a file");
    let zeros = vec![0; 4 << 20];
    (0..memory >> 22).for_each(|_| file.write_all(&zeros).expect("there is room for a file"));
    std::fs::remove_file(&path).expect("the file can be removed");
}

/// This program as a child of itself. `words` are the role and its arguments without the
/// configuration.
fn own(flags: &[String], words: &[&str], conf: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(flags).arg(words[0]).arg(conf).args(&words[1..]);
    command
}

/// Compares two files without reading both into memory.
fn same(one: &Path, other: &Path) -> bool {
    std::process::Command::new("cmp").args([one, other]).status().expect("cmp is installed").success()
}
