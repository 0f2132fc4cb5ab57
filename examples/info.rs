//! `rbd info`: shows the properties of an image.
//!
//!     cargo run --example info -- foo
//!
//! The queries and their output are in `common/info.rs`.

mod common;

use std::process::ExitCode;

use common::{ClusterFlags, EINVAL, Failure, ImageFlags, Info, OutputFlags, failed};
use rbd::{Error, ErrorKind, ObjectKind};

/// Show information about image size, striping, etc.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    /// snapshot name
    #[arg(long)]
    snap: Option<String>,
    /// image id
    #[arg(long)]
    image_id: Option<String>,
    #[command(flatten)]
    output: OutputFlags,
    /// image or snapshot specification: [<pool-name>/[<namespace>/]]<image-name>[@<snap-name>]
    image_or_snap_spec: Option<String>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let (place, image, snapshot) = match &args.image_id {
        Some(_) if args.image.is_named() || args.image_or_snap_spec.is_some() => {
            return Err(Failure::new(EINVAL, "trying to access image using both name and id. "));
        }
        Some(_) => (args.image.place(), String::new(), args.snap.clone()),
        None => {
            let word = args.image_or_snap_spec.as_deref();
            let spec = args.image.spec_or_snapshot(word, args.snap.as_deref())?;
            (spec.place, spec.image, spec.snapshot)
        }
    };
    args.output.check()?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&place)?;
    let (mut open, what) = match &args.image_id {
        Some(id) => (pool.open_by_id(id), format!("image with id {id}")),
        None => (pool.open(&image), format!("image {image}")),
    };
    if let Some(snapshot) = &snapshot {
        open = open.snapshot(snapshot);
    }
    let image = open.read_only(true).run().map_err(|error| explain(error, &what))?;
    let info = Info::of(&image).map_err(failed("info"))?;
    args.output.print(&info)
}

fn explain(error: Error, what: &str) -> Failure {
    let no_snapshot = *error.kind() == ErrorKind::NotFound { what: ObjectKind::Snapshot };
    let failure = failed(format_args!("error opening {what}"))(error);
    if no_snapshot {
        return failure.instead("error setting snapshot context: (2) No such file or directory");
    }
    failure
}
