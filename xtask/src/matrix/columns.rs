//! What passed in which release, for the summary: a column for each release, a row for each test
//! program.

use std::collections::BTreeMap;
use std::fmt;

use crate::tally::Tally;

/// Separates the release from what its test program printed.
const MARK: &str = " | ";

/// A line of a test program with its release: `20.2 | test result: ok. …`, or `16.2@20.2 | …` for a
/// client of 16.2 on a cluster of 20.2.
pub(super) fn marked(release: &str, line: &str) -> String {
    format!("{release}{MARK}{line}")
}

/// Counts by release and test program, read from the output of test runs.
#[derive(Debug)]
pub(crate) struct Columns {
    /// The release of this system's own libraries: that of lines without a release.
    here: String,
    counts: BTreeMap<(String, String), Tally>,
    /// The program that runs in each release.
    running: BTreeMap<String, String>,
}

impl Columns {
    pub(crate) fn new(here: &str) -> Columns {
        Columns { here: here.to_owned(), counts: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// Takes in one line of output.
    pub(crate) fn take(&mut self, line: &str) {
        let line = anstream::adapter::strip_str(line).to_string();
        let (release, text) = match line.split_once(MARK) {
            Some((release, text)) if is_release(release) => (release, text),
            _ => (&*self.here, &*line),
        };
        if let Some(program) = started(text) {
            self.running.insert(release.to_owned(), program.to_owned());
            // A program that dies has no result, and is shown nevertheless. Cargo's own lines may
            // come after those of the program.
            if release != self.here {
                self.counts.entry((program.to_owned(), release.to_owned())).or_default();
            }
        } else if let Some(program) = self.running.get(release) {
            let tally = self.counts.entry((program.clone(), release.to_owned())).or_default();
            tally.take(text);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.values().all(|tally| tally.runs == 0)
    }
}

/// `16.2`, `16.2@20.2`, but no word of the tests.
fn is_release(text: &str) -> bool {
    text.contains('.') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '@'))
}

/// The name of a test program that is being started: cargo's lines `Running tests/it/main.rs
/// (target/debug/deps/it-0a1b…)` and `Doc-tests rbd`.
fn started(text: &str) -> Option<&str> {
    let text = text.trim_start();
    if text.starts_with("Doc-tests ") {
        return Some(text);
    }
    let path = text.strip_prefix("Running ")?.strip_suffix(')')?.rsplit(['/', '(']).next()?;
    Some(path.rsplit_once('-').map_or(path, |(name, _)| name))
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut releases: Vec<&str> = self.counts.keys().map(|(_, release)| &**release).collect();
        releases.sort_unstable();
        releases.dedup();
        let cell = |text: String| format!("{text:>16}");
        let head: String = releases.iter().map(|release| cell((*release).to_owned())).collect();
        writeln!(f, "  {:<24}{head}", "tests passed")?;
        let mut programs: Vec<&str> = self.counts.keys().map(|(program, _)| &**program).collect();
        programs.dedup();
        let count = |program: &str, release: &str| self.counts.get(&(program.to_owned(), release.to_owned()));
        for program in programs {
            let cells: String = releases
                .iter()
                .map(|release| match count(program, release) {
                    None => cell("-".to_owned()),
                    // Cargo's lines may come after those of the program, whose result then counts
                    // for the program before. What failed is named below the table.
                    Some(tally) if tally.runs == 0 && *release == self.here => cell("-".to_owned()),
                    Some(tally) if tally.runs == 0 => cell("FAILED".to_owned()),
                    Some(tally) if tally.failed > 0 => {
                        cell(format!("{}, {} FAILED", tally.passed, tally.failed))
                    }
                    Some(tally) => cell(tally.passed.to_string()),
                })
                .collect();
            writeln!(f, "  {program:<24}{cells}")?;
        }
        for ((_, release), tally) in &self.counts {
            for name in &tally.names {
                writeln!(f, "  failed on {release}: {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_its_column() {
        let mut columns = Columns::new("16.2");
        for line in [
            "     Running tests/it/main.rs (target/debug/deps/it-116072dbe0aec22e)",
            "20.2 | Running rbd-suite (/w/target/debug/deps/it-116072dbe0aec22e)",
            "18.2 | Running rbd-suite (/w/target/debug/deps/it-116072dbe0aec22e)",
            "test result: ok. 9 passed; 0 failed; 0 ignored",
            "20.2 | test one::two ... FAILED",
            "20.2 | test result: FAILED. 7 passed; 1 failed; 0 ignored",
            "18.2 | test result: ok. 8 passed; 0 failed; 0 ignored",
            "   Doc-tests rbd",
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "18.2 | Running rbd-suite (/w/target/debug/deps/exit-c081cb41654be566)",
            "20.2 | Running rbd-suite (/w/target/debug/deps/exit-c081cb41654be566)",
            "20.2 | test exits ... ok",
            "18.2 | test result: ok. 3 passed; 0 failed; 0 ignored",
        ] {
            columns.take(line);
        }
        let row = |cells: [&str; 4]| {
            let [name, rest @ ..] = cells;
            format!("  {name:<24}{}\n", rest.map(|cell| format!("{cell:>16}")).concat())
        };
        let table = [
            row(["tests passed", "16.2", "18.2", "20.2"]),
            row(["Doc-tests rbd", "5", "-", "-"]),
            row(["exit", "-", "3", "FAILED"]),
            row(["it", "9", "8", "7, 1 FAILED"]),
            "  failed on 20.2: one::two\n".to_owned(),
        ]
        .concat();
        assert_eq!(columns.to_string(), table);
    }
}
