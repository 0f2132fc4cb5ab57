//! Samples and their table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::counters::Counts;
use super::plot;
use super::statistics::quartiles;

/// The result of one engine in one round.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Operations per second.
    pub iops: f64,
    /// Processor time per operation in microseconds, of all threads of the client.
    pub cpu: f64,
    /// The peak memory of the process, in bytes.
    pub peak: u64,
}

impl Sample {
    pub fn line(&self) -> String {
        format!("{} {} {}", self.iops, self.cpu, self.peak)
    }

    pub fn from_line(line: &str) -> Sample {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [iops, cpu, peak] = words[..] else { panic!("a worker said {line:?}") };
        let number = |word: &str| word.parse().expect("a number");
        Sample { iops: number(iops), cpu: number(cpu), peak: peak.parse().expect("a number") }
    }
}

/// The results of an engine.
pub struct Row<'a> {
    pub name: &'a str,
    pub samples: Vec<Sample>,
    pub counts: Counts,
}

/// Returns the ratios of all rounds.
pub fn ratios(ours: &Row, theirs: &Row, what: fn(&Sample) -> f64) -> impl Iterator<Item = f64> {
    ours.samples.iter().zip(&theirs.samples).map(move |(ours, theirs)| what(ours) / what(theirs))
}

pub fn spread([low, mid, high]: [f64; 3]) -> String {
    format!("{mid:.3} ({low:.3} – {high:.3})")
}

/// Returns the table: each engine, and its ratio to the C loop of its kind. Callbacks and programs
/// are compared with the C callbacks.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| engine | IOPS | CPU µs/op | allocations/op | KiB allocated/op | peak MiB | \
        against | IOPS ratio | CPU ratio |\n"
        .to_owned();
    text += "|---|---:|---:|---:|---:|---:|---|---:|---:|\n";
    for row in rows {
        let kind = |kind: &str| row.name.contains(kind).then(|| format!("C, {kind}"));
        let twin = kind("queue").or_else(|| kind("blocking")).unwrap_or_default();
        let twin =
            rows.iter().find(|other| *other.name == twin && other.name != row.name).unwrap_or(&rows[0]);
        let [_, iops, _] = quartiles(row.samples.iter().map(|sample| sample.iops));
        let [_, cpu, _] = quartiles(row.samples.iter().map(|sample| sample.cpu));
        let peak =
            row.samples.iter().map(|sample| sample.peak).max().unwrap_or(0) as f64 / f64::from(1 << 20);
        let Counts { allocations, bytes } = row.counts;
        let (kib, against) = (bytes / 1024.0, twin.name);
        let iops_ratio = spread(quartiles(ratios(row, twin, |sample| sample.iops)));
        let cpu_ratio = spread(quartiles(ratios(row, twin, |sample| sample.cpu)));
        let _ = writeln!(
            text,
            "| {} | {iops:.0} | {cpu:.1} | {allocations:.1} | {kib:.1} | {peak:.0} | {against} | \
             {iops_ratio} | {cpu_ratio} |",
            row.name
        );
    }
    text
}

/// Writes the table and its plots as files.
pub fn write(folder: &Path, stem: &str, table: &str, title: &str, rows: &[Row]) {
    fs::create_dir_all(folder).expect("the report's folder");
    let mut text = table.to_owned();
    for (what, unit, of) in [
        ("iops", "operations a second", (|sample| sample.iops) as fn(&Sample) -> f64),
        ("cpu", "µs of processor time an operation", |sample| sample.cpu),
    ] {
        let bars: Vec<_> = rows.iter().map(|row| (row.name, quartiles(row.samples.iter().map(of)))).collect();
        let file = format!("{stem}-{what}.svg");
        let _ = writeln!(text, "\n![{unit}]({file})");
        fs::write(folder.join(file), plot::bars(&format!("{title} ({unit})"), &bars)).expect("a plot");
    }
    fs::write(folder.join(format!("{stem}.md")), text).expect("the table");
}
