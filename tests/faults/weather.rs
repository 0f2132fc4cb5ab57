//! The faults so far, and the errors that they explain.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a fault explains errors after its end: librbd retries, gets a new OSD map, and closes
/// connections.
const AFTER: Duration = Duration::from_secs(45);

struct Spell {
    errors: &'static [&'static str],
    /// A pool, or `pool/image`. If empty, everything.
    scope: String,
    ended: Option<Instant>,
}

pub(crate) struct Weather(Mutex<Vec<Spell>>);

/// A fault in progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Going(usize);

impl Weather {
    pub(crate) fn new() -> Weather {
        Weather(Mutex::new(Vec::new()))
    }

    pub(crate) fn begin(&self, errors: &'static [&'static str], scope: &str) -> Going {
        let mut spells = self.0.lock().unwrap();
        spells.push(Spell { errors, scope: scope.to_owned(), ended: None });
        Going(spells.len() - 1)
    }

    pub(crate) fn end(&self, Going(at): Going) {
        self.0.lock().unwrap()[at].ended = Some(Instant::now());
    }

    /// Returns whether an operation on `name` that began at this time may fail with this error.
    pub(crate) fn allows(&self, error: &str, name: &str, began: Instant) -> bool {
        self.0.lock().unwrap().iter().any(|spell| {
            let pool = name.split('/').next().unwrap_or_default();
            spell.errors.contains(&error)
                && (spell.scope.is_empty() || spell.scope == name || spell.scope == pool)
                && spell.ended.is_none_or(|ended| ended + AFTER > began)
        })
    }
}
