//! The public interface of `rbd`: the list of its items, and the table of the C functions that they
//! wrap.
//!
//! A program of its own, so that `xtask` does not have to compile what it needs.

mod api;
mod coverage;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Task {
    /// Write rbd/api.txt, the list of all public items, or check it
    Api {
        /// Compare rbd/api.txt with the sources instead of writing it
        #[arg(long)]
        check: bool,
    },
    /// Check which item wraps each C function, or why none does
    Coverage {
        /// Write docs/coverage.md; otherwise it is compared
        #[arg(long)]
        write: bool,
    },
}

/// Returns the workspace's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("rbd/interface lies in the workspace")
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Api { check } => api::run(check),
        Task::Coverage { write } => coverage::run(write),
    };
    // Without a backtrace, which hides the faults.
    if let Err(error) = outcome {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
