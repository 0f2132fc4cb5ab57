//! A line on standard error that shows the progress of an operation.

use std::ops::ControlFlow;

use super::flags::ProgressFlag;

/// The progress of an operation: `Removing image: 42% complete...`.
pub struct Bar {
    what: &'static str,
    percent: u64,
    shown: bool,
}

impl Bar {
    /// Shows the progress of `what`; nothing if not `shown`.
    pub fn new(what: &'static str, shown: bool) -> Bar {
        Bar { what, percent: 0, shown }
    }

    /// Shows progress that the `rbd` command does not show, only on a terminal.
    pub fn for_terminal(what: &'static str, flag: &ProgressFlag) -> Bar {
        Bar::new(what, flag.shown() && console::user_attended_stderr())
    }

    /// Shows progress; for the `progress` method of an operation.
    pub fn update(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        let percent = (u128::from(done) * 100 / u128::from(total.max(1))) as u64;
        if percent > self.percent {
            self.percent = percent;
            self.line(percent, "");
        }
        ControlFlow::Continue(())
    }

    /// Shows a report of the library like `rbd`, which does not get the last one.
    pub fn report(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        if done < total { self.update(done, total) } else { ControlFlow::Continue(()) }
    }

    /// Ends the line with the result of the operation.
    pub fn end<T, E>(self, result: Result<T, E>) -> Result<T, E> {
        match result {
            Ok(_) => self.line(100, "done.\n"),
            Err(_) => self.line(self.percent, "failed.\n"),
        }
        result
    }

    /// Clears the line.
    pub fn clear(self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, percent: u64, end: &str) {
        if self.shown {
            eprint!("\r{}: {percent}% complete...{end}", self.what);
        }
    }
}
