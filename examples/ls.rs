//! `rbd ls`: the images of a pool or namespace.
//!
//!     cargo run --example ls -- rbd

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{ClusterFlags, Failure, OutputFlags, PoolFlags, failed};
use serde::Serialize;

/// List rbd images.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    pool: PoolFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// pool specification: <pool-name>[/<namespace>]
    pool_spec: Option<String>,
}

#[derive(Serialize)]
struct Names(Vec<String>);

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    args.output.check()?;
    list(args).map_err(|failure| failure.and("listing images failed"))
}

fn list(args: &Args) -> Result<(), Failure> {
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&args.pool.place(args.pool_spec.as_deref()))?;
    let images = pool.images().map_err(failed("listing images failed"))?;
    args.output.print(&Names(images.into_iter().map(|image| image.name).collect()))
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| writeln!(f, "{name}"))
    }
}
