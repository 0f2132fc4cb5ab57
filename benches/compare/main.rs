//! `cargo bench --bench compare`: this library against C librbd, fio, python3-rbd and `rbd bench`, paired.
//!
//! Every engine is a process of its own with an image of its own, and all do the like, in turns, for many rounds: what disturbs
//! the machine for a while disturbs all of them. The loops do the very same operations; programs draw their own, and are
//! started anew for every round, so that their first operations connect. A figure is the median over the rounds; a ratio is
//! the median of the rounds' ratios. Allocations are counted afterwards, in a round of their own.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod counters;
mod engine;
mod goals;
mod plot;
mod program;
mod report;
mod worker;

#[path = "../loops/mod.rs"]
mod loops;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use engine::Engine;
use loops::work::{Kind, Work};
use report::{Row, Sample};
use worker::Way;

const SIZE: u64 = 64 << 20;

/// What all operations of a comparison have in common.
#[derive(clap::Args, Debug, Clone)]
pub struct Job {
    #[arg(long, value_enum, default_value_t = Kind::Read, global = true)]
    kind: Kind,
    /// One block behind the other, instead of at random
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
    /// Rounds that count; one more comes first to warm up
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Operations a round and engine
    #[arg(long, default_value_t = 10_000)]
    operations: usize,
    /// Only the loops of this library and those in C: no fio, python3 and rbd
    #[arg(long)]
    own: bool,
    /// Where the table and the plots go; only standard output without
    #[arg(long)]
    report: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program does as a child of itself, so that the parent stays small and each engine is measured alone.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// Makes images and fills them
    Prepare { conf: PathBuf, images: Vec<String> },
    /// Removes them
    Remove { conf: PathBuf, images: Vec<String> },
    /// Runs as many operations as each line of standard input says, and tells what it took
    Work { conf: PathBuf, image: String, way: Way },
}

fn main() {
    let args = Args::parse();
    match &args.role {
        None => compare(&args),
        Some(Role::Prepare { conf, images }) => worker::prepare(conf, images),
        Some(Role::Remove { conf, images }) => worker::remove(conf, images),
        Some(Role::Work { conf, image, way }) => worker::work(conf, image, *way, &args.job),
    }
}

fn compare(args: &Args) {
    let conf = match std::env::var_os("CEPH_CONF") {
        Some(conf) => PathBuf::from(conf),
        None => rbd_testcluster::shared().conf().to_owned(),
    };
    let names = engine::names(&args.job, args.own);
    let images: Vec<String> = names.iter().map(|name| image_of(name)).collect();
    engine::child("prepare", &conf, &images);
    let samples = rounds(args, &conf, &names);
    let counts = names.iter().map(|name| {
        let counters = counters::Counters::new();
        let mut engine = Engine::start(name, &args.job, &conf, &image_of(name), Some(&counters));
        counters.per_operation(&mut engine, args.job.depth, args.operations)
    });
    let rows: Vec<Row> = names
        .iter()
        .zip(samples)
        .zip(counts.collect::<Vec<_>>())
        .map(|((name, samples), counts)| Row { name, samples, counts })
        .collect();
    engine::child("remove", &conf, &images);

    let Job { kind, block, depth, .. } = args.job;
    let title = format!(
        "{} {}, {block} bytes, depth {depth}: {} rounds of {} operations",
        args.job.order(),
        kind.name(),
        args.rounds,
        args.operations
    );
    let mut text = report::table(&title, &rows);
    if kind == Kind::Read && block == 4096 && depth == 32 && !args.job.sequential {
        text += &goals::table(&rows, args.own);
    }
    println!("{text}");
    if let Some(folder) = &args.report {
        let own = if args.own { "-own" } else { "" };
        let stem = format!("{}-{}-{block}-{depth}{own}", args.job.order(), kind.name());
        report::write(folder, &stem, &text, &title, &rows);
    }
}

/// The samples of each engine.
fn rounds(args: &Args, conf: &Path, names: &[&str]) -> Vec<Vec<Sample>> {
    let mut engines: Vec<Engine> =
        names.iter().map(|name| Engine::start(name, &args.job, conf, &image_of(name), None)).collect();
    let mut samples = vec![Vec::new(); engines.len()];
    let dice = RandomState::new();
    for round in 0..=args.rounds {
        // In an order of its own, so that nobody always has the same neighbour before it, or itself.
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

fn image_of(engine: &str) -> String {
    format!("bench-{}-{}", std::process::id(), engine.replace([',', ' '], ""))
}
