//! `rbd status`: who has an image open for writing, or mapped.
//!
//!     cargo run --example status -- foo

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{ClusterFlags, Failure, ImageFlags, OutputFlags, failed};
use serde::Serialize;

/// Show the status of this image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// image specification: [<pool-name>/[<namespace>/]]<image-name>
    image_spec: Option<String>,
}

#[derive(Serialize)]
struct Status {
    watchers: Vec<Watcher>,
}

#[derive(Serialize)]
struct Watcher {
    address: String,
    client: u64,
    cookie: u64,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec(args.image_spec.as_deref())?;
    args.output.check()?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    // Opened for reading only we are no watcher ourselves.
    let image = pool.open(&spec.image).read_only().run();
    let image = image.map_err(failed(format_args!("error opening image {}", spec.image)))?;
    let watchers = image.watchers().map_err(failed("show status failed"))?;
    let watchers = watchers.into_iter().map(|rbd::Watcher { address, client, cookie, .. }| Watcher {
        address,
        client,
        cookie,
    });
    args.output.print(&Status { watchers: watchers.collect() })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.watchers.is_empty() {
            return writeln!(f, "Watchers: none");
        }
        writeln!(f, "Watchers:")?;
        for Watcher { address, client, cookie } in &self.watchers {
            writeln!(f, "\twatcher={address} client.{client} cookie={cookie}")?;
        }
        Ok(())
    }
}
