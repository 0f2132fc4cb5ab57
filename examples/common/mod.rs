//! The shared part of the example commands: the flags of the `rbd` command, its names of images,
//! its output and its errors.
//!
//! Each command is a file in the parent directory, and shows the API. This part shows how little a
//! command-line program needs around it.

// Each example compiles this as a module, and uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod connect;
mod failure;
mod flags;
mod info;
mod output;
mod progress;
mod size;
mod spec;
pub mod survey;
mod table;

use std::process::ExitCode;

pub use connect::{ClusterFlags, Session};
pub use failure::{EINVAL, Failure, failed, failed_among_others, image_name};
pub use flags::{DeviceType, ImageArgs, ImageFlags, PoolFlags, ProgressFlag};
pub use info::{Info, group_spec};
pub use output::{OutputFlags, ctime, print};
pub use progress::Bar;
pub use size::{bytes, iec, size};
pub use spec::{ImageSpec, Place};
pub use table::{Align, Table};

/// Parses the command line, runs the command, and reports as the `rbd` command does: the exit
/// status is the errno of the failure, or 1 for an invalid command line.
pub fn main<A: clap::Parser>(run: impl FnOnce(&A) -> Result<(), Failure>) -> ExitCode {
    let args = A::try_parse().map_err(|error| failure::of_command_line(&error));
    match args.and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
