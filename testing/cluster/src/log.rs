//! The end of a daemon's log, which has the reason of its death.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// A crashing daemon dumps its recent events after this line: thousands of lines after the reason.
const DUMP: &str = "--- begin dump of recent events ---";

/// How many lines contain the reason of a daemon's death. The stack of a crash has up to 14.
const LINES: usize = 20;

/// Returns the last `count` lines of `text` that are not blank.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let text = text.split(DUMP).next().unwrap_or(text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Returns the last lines that `name` wrote to its standard error and its log file, both in
/// `directory`.
pub(crate) fn tail(directory: &Path, name: &str) -> String {
    let stderr = last_lines(&end_of(&directory.join(format!("{name}.err"))), LINES);
    let log = last_lines(&end_of(&directory.join(format!("{name}.log"))), LINES);
    join(&log, &stderr)
}

/// Joins both. Daemons write errors to both, so equal lines are dropped.
fn join(log: &str, stderr: &str) -> String {
    let new: Vec<_> = stderr.lines().filter(|line| !log.contains(line)).collect();
    match (log.is_empty(), new.is_empty()) {
        (true, true) => "(it logged nothing)".to_owned(),
        (false, true) => log.to_owned(),
        (true, false) => stderr.to_owned(),
        (false, false) => format!("{log}\nand on its standard error:\n{}", new.join("\n")),
    }
}

/// Returns the last part of a file as text; empty if it cannot be read.
fn end_of(path: &Path) -> String {
    const ENOUGH: u64 = 4 << 20; // A dump of recent events has up to 10 000 lines.
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_stands_before_the_dump() {
        let text = format!("start\n\nno such device\n aborting\n{DUMP}\nevent\nevent\n");
        assert_eq!(last_lines(&text, 2), "no such device\n aborting");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn standard_error_is_told_where_it_says_more() {
        assert_eq!(join("a\nb", "b"), "a\nb");
        assert_eq!(join("a\nb", "b\nc"), "a\nb\nand on its standard error:\nc");
        assert_eq!(join("", "c"), "c");
        assert_eq!(join("", ""), "(it logged nothing)");
    }
}
