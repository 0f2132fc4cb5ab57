//! The goals for random reads of 4 KiB, and the results. Goals against C are for depth 32.

use std::fmt::Write as _;

use super::report::{Row, Sample, ratios, spread};
use super::statistics::interval;

struct Goal {
    what: fn(&Sample) -> f64,
    unit: &'static str,
    ours: &'static str,
    theirs: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// No goal: a figure for comparison.
    None,
}

const fn iops(ours: &'static str, theirs: &'static str, bound: Bound) -> Goal {
    Goal { what: |sample| sample.iops, unit: "IOPS", ours, theirs, bound }
}

const fn cpu(ours: &'static str, theirs: &'static str, bound: Bound) -> Goal {
    Goal { what: |sample| sample.cpu, unit: "CPU per operation", ours, theirs, bound }
}

use Bound::{AtLeast, AtMost};

/// Goals between loops of this library and those of C.
const OWN: &[Goal] = &[
    // The same loop against itself shows the noise.
    cpu("C, queue, again", "C, queue", Bound::None),
    iops("C, queue, again", "C, queue", Bound::None),
    // Default settings on both sides.
    cpu("rbd, futures", "C, callbacks", AtMost(1.10)),
    iops("rbd, futures", "C, callbacks", AtLeast(0.98)),
    cpu("rbd, queue", "C, queue", AtMost(1.03)),
    iops("rbd, queue", "C, queue", AtLeast(0.98)),
    // The same timeout on both sides.
    cpu("rbd, futures, OSD timeout", "C, callbacks, OSD timeout", AtMost(1.10)),
    iops("rbd, futures, OSD timeout", "C, callbacks, OSD timeout", AtLeast(0.98)),
    cpu("rbd, queue, OSD timeout", "C, queue, OSD timeout", AtMost(1.03)),
    iops("rbd, queue, OSD timeout", "C, queue, OSD timeout", AtLeast(0.98)),
    // The cost of the timeout.
    cpu("C, queue, OSD timeout", "C, queue", Bound::None),
    iops("C, queue, OSD timeout", "C, queue", Bound::None),
];

/// Goals against programs of others.
const OTHERS: &[Goal] = &[
    iops("rbd, futures", "fio", AtLeast(1.0)),
    iops("rbd, queue", "fio", AtLeast(1.0)),
    iops("rbd, futures", "python3-rbd", AtLeast(1.3)),
    iops("rbd, queue", "python3-rbd", AtLeast(1.3)),
    cpu("rbd, futures", "python3-rbd", AtMost(0.5)),
    cpu("rbd, queue", "python3-rbd", AtMost(0.5)),
    // Not a goal of this library: the limit of librbd.
    cpu("C, callbacks", "python3-rbd", AtMost(0.5)),
    cpu("C, queue", "python3-rbd", AtMost(0.5)),
];

/// Returns the table. A goal is reached or missed if the whole interval shows it.
pub fn table(rows: &[Row], own: bool) -> String {
    let row = |name: &str| rows.iter().find(|row| row.name == name).expect("an engine");
    let mut text = "\n| promised | ratio (95 % interval) | |\n|---|---:|---|\n".to_owned();
    for Goal { what, unit, ours, theirs, bound } in if own { OWN } else { OTHERS } {
        let found @ [low, _, high] = interval(ratios(row(ours), row(theirs), *what));
        let (bound, kept, broken) = match *bound {
            Bound::AtLeast(least) => (format!("at least {least:.2} of"), low >= least, high < least),
            Bound::AtMost(most) => (format!("at most {most:.2} of"), high <= most, low > most),
            Bound::None => ("against".to_owned(), false, false),
        };
        let word = match (kept, broken) {
            (true, _) => "reached",
            (_, true) => "missed",
            _ if bound == "against" => "",
            _ => "undecided",
        };
        let _ = writeln!(text, "| {unit} of {ours}: {bound} {theirs} | {} | {word} |", spread(found));
    }
    text
}
