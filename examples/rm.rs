//! `rbd rm`: removes an image and its data.
//!
//!     cargo run --example rm -- foo

mod common;

use std::process::ExitCode;

use common::{Bar, ClusterFlags, Failure, ImageArgs, ProgressFlag, failed};
use rbd::{Errno, Error, ErrorKind, IoCtx};

/// Delete an image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    progress: ProgressFlag,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec()?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    let mut bar = Bar::new("Removing image", args.progress.shown());
    let result = pool.remove(&spec.image).progress(|done, total| bar.report(done, total)).run();
    bar.end(result).map_err(|error| explain(&pool, &spec.image, error))
}

/// Adds what to do, if the error tells.
fn explain(pool: &IoCtx, image: &str, error: Error) -> Failure {
    let advice = match error.kind() {
        _ if error.errno() == Some(Errno::EMLINK) => &match group_of(pool, image) {
            Ok(group) => format!(
                "error: image belongs to a group {group}\nRemove the image from the group and try again."
            ),
            Err(_) => return failed("delete error")(error),
        },
        ErrorKind::Busy { .. } => {
            "error: image still has watchers\n\
             This means the image is still open or the client using it crashed. Try again after \
             closing/unmapping it or waiting 30s for the crashed client to timeout."
        }
        ErrorKind::HasSnapshots => {
            "image has snapshots - these must be deleted with 'rbd snap purge' before the image \
             can be removed."
        }
        ErrorKind::HasClones => {
            "image has snapshots with linked clones - these must be deleted or flattened before \
             the image can be removed."
        }
        _ => return failed("delete error")(error),
    };
    failed(advice)(error).instead(format_args!("rbd: {advice}"))
}

fn group_of(pool: &IoCtx, image: &str) -> rbd::Result<String> {
    let group = pool.open(image).read_only(true).run()?.group()?;
    group.map_or_else(|| Ok(String::new()), |group| common::group_spec(pool, &group))
}
