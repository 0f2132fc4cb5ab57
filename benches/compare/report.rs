//! Tables and plots of the samples.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Sample;

/// Lower quartile, median and upper quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    [at(0.25), at(0.5), at(0.75)]
}

/// Each engine, and its ratio to the C twin of its kind: the queue's to the C queue, all others' to the C callbacks.
pub fn table(title: &str, names: &[&str], samples: &[Vec<Sample>]) -> String {
    let mut text = format!("{title}\n\n");
    text +=
        "| engine | IOPS | CPU µs/op | against | IOPS ratio | CPU ratio |\n|---|---:|---:|---|---:|---:|\n";
    for (which, name) in names.iter().enumerate() {
        let twin = usize::from(*name == "rbd, queue");
        let [_, iops, _] = quartiles(samples[which].iter().map(|sample| sample.iops));
        let [_, cpu, _] = quartiles(samples[which].iter().map(|sample| sample.cpu));
        let pairs = || samples[which].iter().zip(&samples[twin]);
        let [low, mid, high] = quartiles(pairs().map(|(own, c)| own.iops / c.iops));
        let iops_ratio = format!("{mid:.3} ({low:.3} – {high:.3})");
        let [low, mid, high] = quartiles(pairs().map(|(own, c)| own.cpu / c.cpu));
        let cpu_ratio = format!("{mid:.3} ({low:.3} – {high:.3})");
        let against = names[twin];
        let _ = writeln!(text, "| {name} | {iops:.0} | {cpu:.1} | {against} | {iops_ratio} | {cpu_ratio} |");
    }
    text
}

pub fn write(folder: &Path, stem: &str, table: &str, title: &str, names: &[&str], samples: &[Vec<Sample>]) {
    fs::create_dir_all(folder).expect("the report's folder");
    fs::write(folder.join(format!("{stem}.md")), table).expect("the table");
    for (what, of) in [("iops", (|s| s.iops) as fn(&Sample) -> f64), ("cpu", |s| s.cpu)] {
        let rows: Vec<_> = samples.iter().map(|samples| quartiles(samples.iter().map(of))).collect();
        let unit = if what == "iops" { "operations a second" } else { "µs of processor time an operation" };
        let plot = bars(&format!("{title} ({unit})"), names, &rows);
        fs::write(folder.join(format!("{stem}-{what}.svg")), plot).expect("the plot");
    }
}

/// Bars of medians, with whiskers from quartile to quartile.
fn bars(title: &str, names: &[&str], rows: &[[f64; 3]]) -> String {
    let most = rows.iter().map(|row| row[2]).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| 120.0 + value / most * 480.0;
    let height = 40 + rows.len() * 28;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"20\">{title}</text>\n"
    );
    for (row, (name, [low, mid, high])) in names.iter().zip(rows).enumerate() {
        let y = 36 + row * 28;
        let color = if name.starts_with("rbd,") { "#b7410e" } else { "#8899aa" };
        let (start, end, middle) = (x(0.0), x(*mid), y + 10);
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{}\">{name}</text>\n<rect x=\"{start:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"20\" \
             fill=\"{color}\"/>\n<path d=\"M{:.1} {middle}H{:.1}\" stroke=\"black\"/>\n<text x=\"{:.1}\" y=\"{}\">{mid:.1}</text>",
            y + 14,
            end - start,
            x(*low),
            x(*high),
            x(*high) + 6.0,
            y + 14
        );
    }
    svg + "</svg>\n"
}
