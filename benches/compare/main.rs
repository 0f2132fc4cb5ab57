//! `cargo bench --bench compare`: this library against C librbd, fio, python3-rbd and `rbd bench`, paired.
//!
//! All engines do the same work on one image, in turns, for several rounds: what disturbs the machine for a while disturbs
//! all of them. A figure is the median over the rounds; a ratio is the median of the rounds' ratios, with their quartiles.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod others;
mod report;

#[path = "../loops/mod.rs"]
mod loops;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use loops::work::{Kind, Work};
use loops::{ours, raw};
use rbd::{Cluster, Queue};

/// What one engine did in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Operations a second.
    pub iops: f64,
    /// Processor time an operation in microseconds, of all threads of the client.
    pub cpu: f64,
}

#[derive(Parser)]
struct Args {
    /// Rounds that count; one more comes first to warm up
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Operations a round and engine
    #[arg(long, default_value_t = 10_000)]
    operations: usize,
    #[arg(long, default_value_t = 32)]
    depth: usize,
    #[arg(long, default_value_t = 4096)]
    block: usize,
    #[arg(long, value_enum, default_value_t = Kind::Read)]
    kind: Kind,
    /// Only what runs in this process: no fio, python3 and rbd
    #[arg(long)]
    own: bool,
    /// Where the table and the plots go; only standard output without
    #[arg(long)]
    report: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

type Measure = Box<dyn FnMut(&Arc<Work>) -> Sample>;
type Engine = (&'static str, Measure);

/// Measures a loop that runs in this process.
fn here(mut run: impl FnMut(&Arc<Work>) + 'static) -> Measure {
    Box::new(move |work| {
        let (start, cpu) = (Instant::now(), raw::cpu_time());
        run(work);
        let count = work.offsets.len() as f64;
        let (elapsed, cpu) = (start.elapsed(), raw::cpu_time() - cpu);
        Sample { iops: count / elapsed.as_secs_f64(), cpu: cpu.as_secs_f64() * 1e6 / count }
    })
}

fn main() {
    let args = Args::parse();
    let conf = match std::env::var_os("CEPH_CONF") {
        Some(conf) => PathBuf::from(conf),
        None => rbd_testcluster::shared().conf().to_owned(),
    };
    let connect = || Cluster::builder().ignore_environment().conf_file(&conf).connect().unwrap();
    let pool = connect().ioctx("rbd").unwrap();
    let (size, name) = (64 << 20, format!("bench-{}", std::process::id()));
    pool.create(&name, size).run().unwrap();
    let image = pool.open(&name).run().unwrap();
    image.write_same(0, size, &[0x5A; 4096]).unwrap();
    let image = Arc::new(image);

    // Each has a connection of its own.
    let mut queue =
        Queue::new(connect().ioctx("rbd").unwrap().open(&name).run().unwrap(), args.depth).unwrap();
    let futures = Arc::new(connect().ioctx("rbd").unwrap().open(&name).run().unwrap());
    let mut callbacks = raw::Twin::open(&conf, "rbd", &name, false);
    let mut polling = raw::Twin::open(&conf, "rbd", &name, true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut engines: Vec<Engine> = vec![
        ("C, callbacks", here(move |work| callbacks.run(work))),
        ("C, queue", here(move |work| polling.run(work))),
        ("rbd, futures", here(move |work| ours::futures(&runtime, &futures, work))),
        ("rbd, queue", here(move |work| ours::queue(&mut queue, work))),
    ];
    if args.depth == 1 {
        let image = Arc::clone(&image);
        engines.push(("rbd, blocking", here(move |work| ours::blocking(&image, work))));
    }
    if !args.own {
        engines.extend(others::engines(&conf, &name, args.kind));
    }

    let work = Arc::new(Work::new(args.kind, true, size, args.block, args.depth, args.operations));
    let mut samples = vec![Vec::new(); engines.len()];
    for round in 0..=args.rounds {
        // Forwards and backwards, so that nobody always has the same neighbour before it.
        let order: Vec<usize> = match round % 2 {
            0 => (0..engines.len()).collect(),
            _ => (0..engines.len()).rev().collect(),
        };
        for which in order {
            let sample = engines[which].1(&work);
            if round > 0 {
                samples[which].push(sample);
            }
        }
    }
    let names: Vec<&str> = engines.iter().map(|(name, _)| *name).collect();
    let title = format!(
        "random {:?}, {} bytes, depth {}: {} rounds of {} operations",
        args.kind, args.block, args.depth, args.rounds, args.operations
    );
    let text = report::table(&title, &names, &samples);
    println!("{text}");
    if let Some(folder) = args.report {
        let stem = format!("{:?}-{}-{}", args.kind, args.block, args.depth).to_lowercase();
        report::write(&folder, &stem, &text, &title, &names, &samples);
    }
    drop(engines);
    Arc::into_inner(image).expect("the last").close().unwrap();
    pool.remove(&name).run().unwrap();
}
