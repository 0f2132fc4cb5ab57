//! The output of the walkthrough: colours, a bar and a spinner on a terminal, plain lines
//! otherwise.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs one step under its title, and shows how long it took.
pub(crate) fn step<T, E>(title: &str, work: impl FnOnce(&ProgressBar) -> Result<T, E>) -> Result<T, E> {
    let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let started = Instant::now();
    let outcome = work(&spinner);
    spinner.finish_and_clear();
    let mark = if outcome.is_ok() { style("✓").green() } else { style("✗").red() };
    // Plain text contains no signs that a log could garble.
    let mark = if std::io::stdout().is_terminal() { mark.to_string() } else { "-".to_owned() };
    println!("{mark} {} {}", style(title).bold(), style(format!("({})", time(started.elapsed()))).dim());
    outcome
}

/// Turns a step's spinner into a bar of `total` bytes or objects.
pub(crate) fn bar(spinner: &ProgressBar, total: u64, bytes: bool) {
    let template = if bytes {
        "{msg} [{bar:40.cyan}] {bytes}/{total_bytes}, {binary_bytes_per_sec}"
    } else {
        "{msg} [{bar:40.cyan}] {percent}%"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        spinner.set_style(style.progress_chars("=> "));
    }
    spinner.set_length(total);
}

/// Shows the result of a step, indented below it.
pub(crate) fn show(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Formats a time: `8.2 ms`, `1.20 s`.
fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
