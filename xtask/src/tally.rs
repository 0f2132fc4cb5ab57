//! Counts the results of test runs.

use std::fmt;

/// The sums of cargo test's `test result:` lines, and the failed tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// The number of test binaries and doc test runs that reported.
    pub(crate) runs: u64,
    /// The names of the failed tests.
    pub(crate) names: Vec<String>,
}

impl Tally {
    /// Adds one line of output. Lines that are no result are ignored.
    pub(crate) fn take(&mut self, line: &str) {
        let line = anstream::adapter::strip_str(line).to_string();
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_owned());
        }
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        self.runs += 1;
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        self.names.iter().try_for_each(|name| write!(f, "\n  failed: {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test one::two ... FAILED",
            "test doc.rs - it (line 3) ... \u{1b}[31mFAILED\u{1b}[m",
            "test fine ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 9.87s",
        ] {
            tally.take(line);
        }
        let names = ["one::two", "doc.rs - it (line 3)"].map(str::to_owned).to_vec();
        assert_eq!(tally, Tally { passed: 4, failed: 2, ignored: 1, runs: 2, names });
        assert_eq!(
            tally.to_string(),
            "4 passed, 2 failed\n  failed: one::two\n  failed: doc.rs - it (line 3)"
        );
    }

    #[test]
    fn coloured_results_count() {
        let mut tally = Tally::default();
        tally.take(
            "test result: \u{1b}[32mok\u{1b}[m. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!((tally.passed, tally.runs), (5, 1));
    }
}
