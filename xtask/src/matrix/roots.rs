//! The roots of a run. Each is opened once, by the first who needs it.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use super::root::{Release, Root};

/// The roots of a run.
pub(super) struct Roots {
    fresh: bool,
    opened: [OnceLock<Result<Root, String>>; Release::ALL.len()],
}

impl Roots {
    /// Makes nothing yet. `fresh` makes roots that exist again.
    pub(super) fn new(fresh: bool) -> Roots {
        Roots { fresh, opened: Default::default() }
    }

    /// Returns a root. Makes it first if it does not exist, or waits while another thread makes it.
    pub(super) fn get(&self, release: Release) -> Result<&Root> {
        let open = || Root::open(release, self.fresh).map_err(|error| format!("{error:#}"));
        self.opened[release as usize].get_or_init(open).as_ref().map_err(|error| anyhow!("{error}"))
    }
}
