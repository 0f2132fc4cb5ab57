//! `rbd resize`: changes the size of an image.
//!
//!     cargo run --example resize -- --size 2G foo

mod common;

use std::process::ExitCode;

use common::{Bar, ClusterFlags, EINVAL, Failure, ImageArgs, ProgressFlag, failed, size};

/// Resize (expand or shrink) image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    progress: ProgressFlag,
    /// image size (in B/K/M/G/T) [default: M]
    #[arg(short, long, value_parser = size, allow_hyphen_values = true)]
    size: Option<u64>,
    /// permit shrinking
    #[arg(long)]
    allow_shrink: bool,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec()?;
    let size = args.size.ok_or_else(|| Failure::new(EINVAL, "must specify --size <M/G/T>"))?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    let image = pool.open(&spec.image).run();
    let image = image.map_err(failed(format_args!("error opening image {}", spec.image)))?;

    let now = image.size().map_err(failed("resize error"))?;
    if size == now {
        return Err(Failure::new(EINVAL, "new size is equal to original size "));
    }
    if size < now && !args.allow_shrink {
        return Err(Failure::new(EINVAL, "shrinking an image is only allowed with the --allow-shrink flag"));
    }
    let mut bar = Bar::new("Resizing image", args.progress.shown());
    let resize = image.resize(size).allow_shrink(args.allow_shrink);
    let result = resize.progress(|done, total| bar.report(done, total)).run();
    bar.end(result).map_err(failed("resize error"))
}
