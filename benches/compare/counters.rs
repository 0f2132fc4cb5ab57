//! Allocations of another process, including those of its libraries.

use std::fs;
use std::process::Command;

use tempfile::NamedTempFile;

use super::engine::Engine;

/// The number of allocations, and their bytes.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub allocations: f64,
    pub bytes: f64,
}

/// The counters that `benches/allocations.c` adds up.
pub struct Counters(NamedTempFile);

impl Counters {
    pub fn new() -> Counters {
        let file = NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(16).expect("room for two numbers");
        Counters(file)
    }

    /// Counts the allocations of the command.
    pub fn count(&self, command: &mut Command) {
        command.env("LD_PRELOAD", env!("ALLOCATIONS_LIBRARY")).env("ALLOCATIONS", self.0.path());
    }

    fn read(&self) -> [u64; 2] {
        let bytes = fs::read(self.0.path()).expect("the counters");
        let number = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        [number(0), number(8)]
    }
}

/// Returns the difference between a run of many operations and one of a few, both of which contain
/// the start and first uses.
pub fn per_operation(mut engine: Engine, few: usize, many: usize) -> Counts {
    engine.count_allocations();
    engine.run(many);
    let mut ran = |count| {
        let before = engine.counters().read();
        engine.run(count);
        let after = engine.counters().read();
        assert!(after[0] > before[0], "nothing was counted");
        [after[0] - before[0], after[1] - before[1]]
    };
    let (less, more) = (ran(few), ran(few + many));
    let each = |which: usize| (more[which] as f64 - less[which] as f64) / many as f64;
    Counts { allocations: each(0), bytes: each(1) }
}
