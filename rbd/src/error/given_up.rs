//! Errors of operations that were given up on: there is no cancel in librbd.

use std::time::Duration;

use super::{Error, ErrorKind};

impl Error {
    /// It took longer than that. Whether the operation changes anything decides what is said of it.
    pub(crate) fn timed_out(self, after: Duration, changes: bool) -> Error {
        let goes_on = goes_on(changes);
        self.with_kind(ErrorKind::TimedOut).with_detail(format!(
            "it did not end within {after:?}; {goes_on}; check that monitors and OSDs are up and reachable"
        ))
    }
}

/// What becomes of an operation that was given up on.
pub(crate) fn goes_on(changes: bool) -> &'static str {
    if changes { "it goes on by itself, and may still take effect" } else { "it goes on by itself" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_may_still_take_effect() {
        assert_eq!(goes_on(false), "it goes on by itself");
        assert_eq!(goes_on(true), "it goes on by itself, and may still take effect");
    }
}
