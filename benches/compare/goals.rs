//! What was promised of random reads of 4 KiB at depth 32, and what came out.

use std::fmt::Write as _;

use super::report::{Row, Sample, ratio};

struct Goal {
    /// What is asked of which engine, against which.
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
}

const fn iops(ours: &'static str, theirs: &'static str, least: f64) -> Goal {
    Goal { what: |sample| sample.iops, unit: "IOPS", ours, theirs, bound: Bound::AtLeast(least) }
}

const fn cpu(ours: &'static str, theirs: &'static str, most: f64) -> Goal {
    Goal { what: |sample| sample.cpu, unit: "CPU per operation", ours, theirs, bound: Bound::AtMost(most) }
}

const GOALS: &[Goal] = &[
    cpu("rbd, futures", "C, callbacks", 1.10),
    cpu("rbd, futures", "C, callbacks, OSD timeout", 1.10),
    cpu("rbd, futures, no OSD timeout", "C, callbacks", 1.10),
    iops("rbd, futures", "C, callbacks", 0.98),
    iops("rbd, futures", "C, callbacks, OSD timeout", 0.98),
    iops("rbd, futures, no OSD timeout", "C, callbacks", 0.98),
    cpu("rbd, queue", "C, queue", 1.03),
    cpu("rbd, queue", "C, queue, OSD timeout", 1.03),
    cpu("rbd, queue, no OSD timeout", "C, queue", 1.03),
    iops("rbd, queue", "C, queue", 0.98),
    iops("rbd, queue", "C, queue, OSD timeout", 0.98),
    iops("rbd, queue, no OSD timeout", "C, queue", 0.98),
    iops("rbd, futures", "fio", 1.0),
    iops("rbd, queue", "fio", 1.0),
    iops("rbd, futures", "python3-rbd", 1.3),
    iops("rbd, queue", "python3-rbd", 1.3),
    cpu("rbd, futures", "python3-rbd", 0.5),
    cpu("rbd, queue", "python3-rbd", 0.5),
    // Not ours to reach: what the library below allows.
    cpu("C, callbacks", "python3-rbd", 0.5),
    cpu("C, queue", "python3-rbd", 0.5),
];

pub fn table(rows: &[Row]) -> String {
    let row = |name: &str| rows.iter().find(|row| row.name == name).expect("an engine");
    let mut text = "\n| promised | ratio (quartiles) | |\n|---|---:|---|\n".to_owned();
    for Goal { what, unit, ours, theirs, bound } in GOALS {
        let quartiles @ [_, mid, _] = ratio(row(ours), row(theirs), *what);
        let (reached, bound) = match *bound {
            Bound::AtLeast(least) => (mid >= least, format!("at least {least:.2}")),
            Bound::AtMost(most) => (mid <= most, format!("at most {most:.2}")),
        };
        let word = if reached { "reached" } else { "missed" };
        let found = super::report::spread(quartiles);
        let _ = writeln!(text, "| {unit} of {ours} {bound} of {theirs} | {found} | {word} |");
    }
    text
}
