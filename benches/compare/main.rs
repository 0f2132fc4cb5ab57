//! `cargo bench --bench compare`: this library against C librbd, fio, python3-rbd and `rbd bench`,
//! paired.
//!
//! Engines take turns for many rounds, so that temporary disturbances of the machine affect all of
//! them. Each turn is a new process with a new connection, and all open the same image. So random
//! properties of a process, a connection (such as the OSD's thread that serves it) or an image
//! (such as the placement of its objects) do not belong to one engine. A figure is the median over
//! the rounds; a ratio is the median of the rounds' ratios. Allocations are counted afterwards.
//!
//! An embedded cluster has one half of the processors, and the clients have the other. Otherwise
//! most of the noise comes from the scheduler.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod counters;
mod engine;
mod goals;
mod halves;
mod plot;
mod program;
mod report;
mod statistics;
mod worker;

#[path = "../loops/mod.rs"]
mod loops;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use engine::Engine;
use halves::Halves;
use loops::work::{Kind, Work};
use report::{Row, Sample};
use worker::Way;

const SIZE: u64 = 64 << 20;

/// The properties that all operations of a comparison share.
#[derive(clap::Args, Debug, Clone)]
pub struct Job {
    #[arg(long, value_enum, default_value_t = Kind::Read, global = true)]
    kind: Kind,
    /// Consecutive blocks, instead of random ones
    #[arg(long, global = true)]
    sequential: bool,
    /// Bytes of an operation
    #[arg(long, default_value_t = 4096, global = true)]
    block: usize,
    /// Operations in flight
    #[arg(long, default_value_t = 32, global = true)]
    depth: usize,
}

impl Job {
    fn order(&self) -> &'static str {
        if self.sequential { "sequential" } else { "random" }
    }

    fn work(&self, count: usize) -> Work {
        Work::new(self.kind, !self.sequential, SIZE, self.block, self.depth, count)
    }
}

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    job: Job,
    /// Rounds that count; another one comes first to warm up
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Operations per round and engine
    #[arg(long, default_value_t = 10_000)]
    operations: usize,
    /// Only the loops of this library and those in C: no fio, python3 and rbd
    #[arg(long)]
    own: bool,
    /// Let the clients and an embedded cluster share all processors
    #[arg(long)]
    shared: bool,
    /// The directory of the table and the plots [default: only standard output]
    #[arg(long)]
    report: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The tasks of this program as its own child, so that the parent stays small and each engine is
/// measured alone.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// Creates an image and fills it
    Prepare { conf: PathBuf, image: String },
    /// Removes the image
    Remove { conf: PathBuf, image: String },
    /// Runs `count` operations, and prints the result
    Work { conf: PathBuf, image: String, way: Way, count: usize },
}

fn main() {
    let args = Args::parse();
    match &args.role {
        None => compare(&args),
        Some(Role::Prepare { conf, image }) => worker::prepare(conf, image),
        Some(Role::Remove { conf, image }) => worker::remove(conf, image),
        Some(Role::Work { conf, image, way, count }) => worker::work(conf, image, *way, &args.job, *count),
    }
}

fn compare(args: &Args) {
    let (conf, place) = cluster(args.shared);
    let image = format!("bench-{}", std::process::id());
    let cluster = engine::child("prepare", &conf, &image);
    let names = engine::names(&args.job, args.own);
    let start = |name| Engine::new(name, &args.job, &conf, &image);
    let samples = rounds(args, &mut names.iter().copied().map(start).collect::<Vec<_>>());
    let counts =
        names.iter().map(|name| counters::per_operation(start(name), args.job.depth, args.operations));
    let rows: Vec<Row> = names
        .iter()
        .zip(samples)
        .zip(counts.collect::<Vec<_>>())
        .map(|((name, samples), counts)| Row { name, samples, counts })
        .collect();
    engine::child("remove", &conf, &image);

    let Job { kind, block, depth, .. } = args.job;
    let title = format!(
        "{} {}, {block} bytes, depth {depth}{}: {} rounds of {} operations",
        args.job.order(),
        kind.name(),
        if args.shared { ", processors shared" } else { "" },
        args.rounds,
        args.operations
    );
    let mut text = format!("## {title}\n\n{};\n{place}.\n\n{}", cluster.trim(), report::table(&rows));
    // At depth 1 all engines wait for the network most of the time.
    if kind == Kind::Read && block == 4096 && depth > 1 && !args.job.sequential {
        text += &goals::table(&rows, args.own);
    }
    println!("{text}");
    if let Some(folder) = &args.report {
        let own = if args.own { "-own" } else { "" };
        let shared = if args.shared { "-shared" } else { "" };
        let stem = format!("{}-{}-{block}-{depth}{own}{shared}", args.job.order(), kind.name());
        report::write(folder, &stem, &text, &title, &rows);
    }
}

/// Returns the cluster's configuration file, and a description of the division of processors.
fn cluster(shared: bool) -> (PathBuf, &'static str) {
    if let Some(conf) = std::env::var_os("CEPH_CONF") {
        return (PathBuf::from(conf), "the clients run on all processors of this machine");
    }
    let embedded = || rbd_testcluster::shared().conf().to_owned();
    match Halves::find() {
        Some(halves) if !shared => {
            halves.first();
            let conf = embedded();
            halves.second();
            (conf, "the cluster runs on one half of the processors and the clients on the other")
        }
        _ => (embedded(), "the cluster and the clients share all processors"),
    }
}

/// The samples of each engine.
fn rounds(args: &Args, engines: &mut [Engine]) -> Vec<Vec<Sample>> {
    let mut samples = vec![Vec::new(); engines.len()];
    let dice = RandomState::new();
    for round in 0..=args.rounds {
        // In another order each round, so that no engine always follows the same one.
        let mut order: Vec<usize> = (0..engines.len()).collect();
        order.sort_by_key(|which| dice.hash_one((round, which)));
        for which in order {
            let sample = engines[which].run(args.operations);
            if round > 0 {
                samples[which].push(sample);
            }
        }
    }
    samples
}
