//! `rbd device unmap`: unmaps a device.
//!
//!     sudo cargo run --example unmap -- /dev/rbd0

mod common;

use std::process::ExitCode;
use std::time::Duration;

use common::{DeviceType, EINVAL, Failure, ImageFlags, failed};
use rbd::ImageSpec;
use rbd::krbd::{self, Device};
use rbd::{Error, ErrorKind};

/// Unmap a rbd device.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    device_type: DeviceType,
    /// snapshot name
    #[arg(long)]
    snap: Option<String>,
    /// device specific options: force
    #[arg(short, long)]
    options: Vec<String>,
    /// give up after this many seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// image, snapshot, or device specification:
    /// [<pool-name>/[<namespace>/]]<image-name>[@<snap-name>] or <device-path>
    image_or_snap_or_device_spec: Option<String>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut force = false;
    for option in args.options.iter().flat_map(|list| list.split(',')) {
        match option {
            "force" => force = true,
            "noudev" | "udev" => {}
            _ => {
                let what = format!("rbd: unknown unmap option '{option}'\nrbd: couldn't parse unmap options");
                return Err(Failure::new(EINVAL, "").instead(what));
            }
        }
    }
    let device = find(args)?;
    let unmap = device.unmap().force(force).timeout(Duration::from_secs(args.timeout));
    unmap.run().map_err(failed("unmap failed"))
}

fn find(args: &Args) -> Result<Device, Failure> {
    let word = args.image_or_snap_or_device_spec.as_deref();
    if let Some(path) = word.filter(|word| word.starts_with("/dev/")) {
        return krbd::device(path).map_err(|error| not_ours(path, error));
    }
    if word.is_none() && !args.image.is_named() {
        return Err(Failure::new(EINVAL, "unmap requires either image name or device path"));
    }
    let named = args.image.spec_or_snapshot(word, args.snap.as_deref())?;
    let pool = named.place.pool.as_deref().unwrap_or("rbd");
    let mut spec = ImageSpec::new(pool, &named.image).namespace(&named.place.namespace);
    if let Some(snapshot) = named.snapshot {
        spec = spec.snapshot(snapshot);
    }
    krbd::device_by_spec(&spec).map_err(|error| {
        let shown = spec.to_string();
        if error.is_not_found() {
            Failure::new(EINVAL, format_args!("{shown}: not a mapped image or snapshot"))
                .because(error)
                .and("unmap failed")
        } else {
            failed("unmap failed")(error)
        }
    })
}

fn not_ours(path: &str, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::NotFound { .. } => {
            Failure::new(EINVAL, format_args!("'{path}' is not a block device"))
                .because(error)
                .and("unmap failed")
        }
        _ => failed("unmap failed")(error),
    }
}
