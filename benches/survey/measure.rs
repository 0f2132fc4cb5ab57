//! What a child process takes.

use std::process::{Command, Stdio};
use std::time::Instant;

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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Pair {
    pub fn row(what: &str, pairs: &[Pair]) -> String {
        let of = |value: fn(&Pair) -> f64| median(pairs.iter().map(value).collect());
        let sum = |value: fn(&Pair) -> f64| pairs.iter().map(value).sum::<f64>();
        let inverse =
            |ratio: f64| if ratio < 1.0 { format!("1/{:.1}", 1.0 / ratio) } else { format!("{ratio:.2}") };
        format!(
            "| {what} | {:.3} | {:.3} | {} | {} | {} |\n",
            of(|pair| pair.theirs.wall),
            of(|pair| pair.ours.wall),
            inverse(of(|pair| pair.ours.wall / pair.theirs.wall)),
            // One value is in the order of the clock's steps.
            inverse(sum(|pair| pair.ours.cpu) / sum(|pair| pair.theirs.cpu)),
            pairs.last().map_or("", |pair| &pair.ours.said),
        )
    }
}
