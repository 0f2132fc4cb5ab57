//! A campaign: clients in separate processes, faults of daemons, clients, images and pools, and an
//! oracle that knows the acknowledged writes. See `docs/testing.md`.
//!
//! There is no test harness: the clients are this program, too.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod client;
mod faults;
mod journal;
mod oracle;
mod process;
mod random;
mod round;
mod weather;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use oracle::Wrong;
use round::{Outcome, Round};

/// Seeds of rounds that failed once.
const SEEDS: &str = include_str!("seeds.txt");

const WRONG: [Wrong; 6] =
    [Wrong::Lost, Wrong::Unchecked, Wrong::Hang, Wrong::Error, Wrong::Died, Wrong::Grown];

/// How long the clients of a round work.
const ROUND: Duration = Duration::from_secs(45);

/// The goals of a run.
struct Wanted {
    operations: u64,
    faults: u64,
    /// The time limit of a run without goals.
    time: Duration,
    first_seed: Option<u64>,
}

impl Wanted {
    /// Reads `RBD_FAULTS_OPS`, `RBD_FAULTS_FAULTS`, `RBD_FAULTS_SECONDS` and `RBD_FAULTS_SEED`.
    /// Default: two minutes.
    fn from_environment() -> Wanted {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        Wanted {
            operations: number("RBD_FAULTS_OPS").unwrap_or(0),
            faults: number("RBD_FAULTS_FAULTS").unwrap_or(0),
            time: Duration::from_secs(number("RBD_FAULTS_SECONDS").unwrap_or(100)),
            first_seed: number("RBD_FAULTS_SEED"),
        }
    }

    fn is_reached(&self, sum: &Outcome, begun: Instant) -> bool {
        let faults: u64 = sum.faults.values().sum();
        let long = self.operations > 0;
        let enough = sum.operations >= self.operations && faults >= self.faults;
        if long {
            enough || begun.elapsed() > self.time
        } else {
            begun.elapsed() + ROUND > self.time + ROUND / 2
        }
    }
}

fn main() -> ExitCode {
    if let Ok(spec) = std::env::var(process::SPEC) {
        return client::run(&client::Spec::parse(&spec));
    }
    // `cargo test -- --list` and filters for tests with other names.
    if std::env::args().skip(1).any(|arg| !arg.starts_with('-') && !"campaign".contains(&*arg)) {
        return ExitCode::SUCCESS;
    }
    oracle::self_test();
    let (wanted, begun) = (Wanted::from_environment(), Instant::now());
    let mut seeds: Vec<u64> =
        SEEDS.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    let mut seed = wanted.first_seed.unwrap_or_else(|| std::process::id().into());
    if wanted.first_seed.is_some() {
        seeds.clear();
    }
    seeds.reverse();
    let mut sum = Outcome::default();
    loop {
        let now = seeds.pop().unwrap_or_else(|| {
            seed += 1;
            seed - 1
        });
        let outcome = one(now, if wanted.operations > 0 { ROUND + ROUND / 3 } else { ROUND });
        // Prints the first ones of each kind, which say as much as all.
        for wrong in WRONG {
            for (_, what) in outcome.wrong.iter().filter(|(other, _)| *other == wrong).take(3) {
                println!("  WRONG ({wrong:?}, seed {now}): {what}");
            }
        }
        add(&mut sum, outcome);
        if seeds.is_empty() && wanted.is_reached(&sum, begun) {
            break;
        }
    }
    tell(&sum, begun.elapsed())
}

fn one(seed: u64, time: Duration) -> Outcome {
    // Half of the rounds use stores that survive a kill. The others are in memory, which is faster.
    let durable = seed % 2 == 0;
    println!("round with the seed {seed}, {}", if durable { "BlueStore" } else { "in memory" });
    let mut round = Round::start(seed, durable);
    let begun = Instant::now();
    while begun.elapsed() < time {
        round.start_clients();
        let time = Duration::from_millis(300 + round.random.below(1500));
        round.pass(time);
        round.next_fault();
    }
    let outcome = round.finish();
    println!("  {} operations", outcome.operations);
    outcome
}

fn add(sum: &mut Outcome, outcome: Outcome) {
    sum.operations += outcome.operations;
    sum.slowest = sum.slowest.max(outcome.slowest);
    for (name, count) in outcome.faults {
        *sum.faults.entry(name).or_default() += count;
    }
    for (name, count) in outcome.failed {
        *sum.failed.entry(name).or_default() += count;
    }
    sum.wrong.extend(outcome.wrong);
}

fn tell(sum: &Outcome, time: Duration) -> ExitCode {
    let faults: u64 = sum.faults.values().sum();
    println!("\n{} operations and {faults} faults in {} s", sum.operations, time.as_secs());
    for (name, count) in &sum.faults {
        println!("{count:8} {name}");
    }
    println!("errors by kind:");
    for (name, count) in &sum.failed {
        println!("{count:8} {name}");
    }
    println!("slowest operation, outages included: {:.1} s", sum.slowest.as_secs_f64());
    for wrong in WRONG {
        println!("{wrong:?}: {}", sum.wrong.iter().filter(|(other, _)| *other == wrong).count());
    }
    if sum.wrong.is_empty() {
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }
    println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
    ExitCode::FAILURE
}
