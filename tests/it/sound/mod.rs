//! Neither safe code nor foreign input can kill the process, hang it, or show a key.
//!
//! Tests of faults that killed or hung the process run in separate processes.

mod arguments;
mod callbacks;
mod closing;
mod damaged;
mod extremes;
mod fork;
mod getters;
mod handles;
mod keys;
mod log;

/// The full name of a test in this folder: `alone(test!("getters::a_name"))`.
macro_rules! test {
    ($name:literal) => {
        concat!("sound::", $name)
    };
}
use test;
