//! What a child process takes.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::statistics::interval;

pub struct Took {
    pub wall: f64,
    pub cpu: f64,
    /// The last line on standard error.
    pub said: String,
}

/// The same work by the `rbd` command and by this crate.
pub struct Pair {
    pub theirs: Took,
    pub ours: Took,
}

/// Seconds of processor time of all children that have ended, in steps of 10 ms.
fn children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[13..15].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

pub fn measure(command: &mut Command) -> Took {
    let (begun, before) = (Instant::now(), children());
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().expect("the program starts");
    let wall = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    Took { wall, cpu: children() - before, said: said.lines().last().unwrap_or_default().to_owned() }
}

/// What the ratios of this crate to the `rbd` command may be.
#[derive(Clone, Copy, Default)]
pub struct Goal {
    pub time: Option<f64>,
    pub cpu: Option<f64>,
}

pub const HEAD: &str = "\
| | `rbd`, s | this crate, s | ratio of time (95 % interval) | | ratio of processor time | | peak memory, MiB |
|---|---:|---:|---:|---|---:|---|---:|
";

/// `1/18.1` or `1.03`
fn ratio(value: f64) -> String {
    if value < 1.0 { format!("1/{:.2}", 1.0 / value) } else { format!("{value:.2}") }
}

/// Says whether the goal is reached: yes or no only if the whole interval shows it.
fn judge(low: f64, high: f64, goal: Option<f64>) -> String {
    let Some(most) = goal else { return String::new() };
    let word = match (high <= most, low > most) {
        (true, _) => "reached",
        (_, true) => "missed",
        _ => "undecided",
    };
    format!("at most {}: {word}", ratio(most).trim_end_matches('0').trim_end_matches('.'))
}

/// Returns the median of the seconds that this crate takes.
pub fn seconds(pairs: &[Pair]) -> f64 {
    interval(pairs.iter().map(|pair| pair.ours.wall))[1]
}

impl Pair {
    pub fn row(what: &str, pairs: &[Pair], goal: Goal) -> String {
        let sum = |value: fn(&Pair) -> f64| pairs.iter().map(value).sum::<f64>();
        let [low, middle, high] = interval(pairs.iter().map(|pair| pair.ours.wall / pair.theirs.wall));
        // One value of processor time is in the order of the clock's steps.
        let cpu = sum(|pair| pair.ours.cpu) / sum(|pair| pair.theirs.cpu);
        format!(
            "| {what} | {:.3} | {:.3} | {} ({} – {}) | {} | {} | {} | {} |\n",
            interval(pairs.iter().map(|pair| pair.theirs.wall))[1],
            seconds(pairs),
            ratio(middle),
            ratio(low),
            ratio(high),
            judge(low, high, goal.time),
            ratio(cpu),
            judge(cpu, cpu, goal.cpu),
            pairs.last().map_or("", |pair| &pair.ours.said),
        )
    }
}
