//! `cargo bench --bench io`: reads and writes on a real cluster, with the loops of this library and
//! those of C, in one process.
//!
//! The cluster is an embedded one, or that of `CEPH_CONF`. A name is
//! `read-random/4KiB/depth-32/futures`; a regular expression after `--` selects. For comparable
//! figures use the bench `compare`, whose engines take turns. Here one engine runs after the other.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

// The bench `compare` uses the rest.
#[allow(dead_code)]
#[path = "../loops/mod.rs"]
mod loops;
mod rate;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{Criterion, SamplingMode, Throughput};
use loops::work::{Kind, Work};
use loops::{ours, raw};
use rate::Rates;
use rbd::{Cluster, Image, IoCtx, Queue};
use tokio::runtime::Runtime;

const SIZE: u64 = 64 << 20;
const DEEPEST: usize = 128;

const BOTH: &[Kind] = &[Kind::Read, Kind::Write];
const ALL: &[Kind] = &[Kind::Read, Kind::Write, Kind::Mixed];

/// A measurement: all `kinds` at all `depths`.
struct Run {
    kinds: &'static [Kind],
    random: bool,
    block: usize,
    label: &'static str,
    depths: &'static [usize],
}

const fn run(
    kinds: &'static [Kind],
    random: bool,
    (block, label): (usize, &'static str),
    depths: &'static [usize],
) -> Run {
    Run { kinds, random, block, label, depths }
}

const SMALL: (usize, &str) = (4 << 10, "4KiB");
const MEDIUM: (usize, &str) = (64 << 10, "64KiB");
const LARGE: (usize, &str) = (4 << 20, "4MiB");

/// Deep queues of large blocks would measure only memory. Random blocks of 4 MiB are whole objects,
/// as consecutive ones are.
const RUNS: &[Run] = &[
    run(ALL, false, SMALL, &[1, 32]),
    run(BOTH, false, MEDIUM, &[32]),
    run(BOTH, false, LARGE, &[1, 4]),
    run(ALL, true, SMALL, &[1, 32, DEEPEST]),
    run(ALL, true, MEDIUM, &[1, 32]),
];

/// A way to do some work.
type Engine = (&'static str, fn(&mut Rig, &Arc<Work>));

const ENGINES: &[Engine] = &[
    ("c-callbacks", |rig, work| rig.callbacks.run(work)),
    ("c-queue", |rig, work| rig.polling.run(work)),
    ("futures", |rig, work| ours::futures(&rig.runtime, &rig.futures, work, &mut rig.buffers)),
    ("queue", |rig, work| ours::queue(&mut rig.queue, work, &mut rig.buffers)),
];

const BLOCKING: &[Engine] = &[
    ("c-sync", |rig, work| rig.callbacks.run_blocking(work)),
    ("sync", |rig, work| ours::blocking(&rig.blocking, work)),
];

/// One image, opened for each engine on a separate connection.
struct Rig {
    queue: Queue,
    futures: Arc<Image>,
    blocking: Image,
    callbacks: raw::Twin,
    polling: raw::Twin,
    runtime: Runtime,
    buffers: ours::Buffers,
    pool: IoCtx,
    name: String,
}

impl Rig {
    fn new() -> Rig {
        let conf = match std::env::var_os("CEPH_CONF") {
            Some(conf) => PathBuf::from(conf),
            None => rbd_testcluster::shared().conf().to_owned(),
        };
        let connect = || {
            let cluster = Cluster::builder().ignore_environment(true).conf_file(&conf).connect().unwrap();
            cluster.ioctx("rbd").unwrap()
        };
        let (pool, name) = (connect(), format!("bench-io-{}", std::process::id()));
        pool.create(&name, SIZE).run().unwrap();
        let open = || connect().open(&name).run().unwrap();
        let blocking = open();
        // Reads of unwritten data would not reach a disk.
        blocking.write_same(0, SIZE, &[0x5A; 4096]).unwrap();
        Rig {
            queue: Queue::new(open(), DEEPEST).unwrap(),
            futures: Arc::new(open()),
            blocking,
            callbacks: raw::Twin::open(&conf, "rbd", &name, false, None),
            polling: raw::Twin::open(&conf, "rbd", &name, true, None),
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            buffers: ours::Buffers::default(),
            pool,
            name,
        }
    }

    /// Closes and removes the image.
    fn end(self) {
        let Rig { queue, futures, blocking, callbacks, polling, pool, name, .. } = self;
        drop((callbacks, polling));
        queue.close().unwrap();
        Arc::into_inner(futures).expect("the last").close().unwrap();
        blocking.close().unwrap();
        pool.remove(&name).run().unwrap();
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(Rates(WallTime))
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    // Nothing is started for names that are not selected.
    let rig = RefCell::new(None);
    for &Run { kinds, random, block, label, depths } in RUNS {
        for (&kind, &depth) in kinds.iter().flat_map(|kind| depths.iter().map(move |depth| (kind, depth))) {
            let access = kind.name();
            let order = if random { "random" } else { "sequential" };
            let mut group = criterion.benchmark_group(format!("{access}-{order}/{label}/depth-{depth}"));
            group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(block as u64));
            for (name, run) in ENGINES.iter().chain(if depth == 1 { BLOCKING } else { &[] }) {
                group.bench_function(*name, |bencher| {
                    let mut rig = rig.borrow_mut();
                    let rig = rig.get_or_insert_with(Rig::new);
                    // An iteration is one operation. Enough are run that filling and draining the
                    // queue is a small part.
                    bencher.iter_custom(|count| {
                        let ran = count.max(4 * depth as u64);
                        let work = Arc::new(Work::new(kind, random, SIZE, block, depth, ran as usize));
                        let start = Instant::now();
                        run(rig, &work);
                        start.elapsed().mul_f64(count as f64 / ran as f64)
                    });
                });
            }
            group.finish();
        }
    }
    criterion.final_summary();
    if let Some(rig) = rig.into_inner() {
        rig.end();
    }
}
