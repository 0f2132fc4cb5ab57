//! Errors of operations that were given up after a timeout: librbd cannot cancel.

use std::time::Duration;

use super::{Error, ErrorKind};

impl Error {
    /// Makes a timeout error. Its text depends on whether the operation changes data.
    pub(crate) fn timed_out(self, after: Duration, changes: bool) -> Error {
        let goes_on = goes_on(changes);
        self.with_kind(ErrorKind::TimedOut).with_detail(format!(
            "it did not complete within {after:?}; {goes_on}; check that monitors and OSDs are up \
             and reachable, and that no pool is full"
        ))
    }
}

/// Describes what a timed-out operation can still do.
pub(crate) fn goes_on(changes: bool) -> &'static str {
    if changes {
        "it continues in the background and may still take effect"
    } else {
        "it continues in the background"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_may_still_take_effect() {
        assert_eq!(goes_on(false), "it continues in the background");
        assert_eq!(goes_on(true), "it continues in the background and may still take effect");
    }
}
