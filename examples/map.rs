//! `rbd device map`: maps an image or snapshot as a block device of this machine.
//!
//!     sudo cargo run --example map -- foo
//!
//! Beyond the `rbd` command: `--timeout`, and `--fix-features`, which disables what this kernel
//! does not support.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use common::{ClusterFlags, DeviceType, EINVAL, Failure, ImageFlags, failed, print};
use rbd::krbd::{self, Host, MapOptions};
use rbd::{Error, ErrorKind, Features, IoCtx, ObjectKind};

/// Map an image to a block device.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    device_type: DeviceType,
    /// snapshot name
    #[arg(long)]
    snap: Option<String>,
    /// map read-only
    #[arg(long)]
    read_only: bool,
    /// disable automatic exclusive lock transitions
    #[arg(long)]
    exclusive: bool,
    /// device specific options
    #[arg(short, long)]
    options: Vec<String>,
    /// disable the image's features that this kernel does not support
    #[arg(long)]
    fix_features: bool,
    /// give up after this many seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// image or snapshot specification: [<pool-name>/[<namespace>/]]<image-name>[@<snap-name>]
    image_or_snap_spec: Option<String>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec_or_snapshot(args.image_or_snap_spec.as_deref(), args.snap.as_deref())?;
    let options = parse(&args.options)?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;

    let mut map = krbd::map(&pool, &spec.image).options(options);
    if let Some(snapshot) = &spec.snapshot {
        map = map.snapshot(snapshot);
    }
    if args.read_only {
        map = map.read_only(true);
    }
    if args.exclusive {
        map = map.exclusive(true);
    }
    let map =
        map.load_module(true).fix_features(args.fix_features).timeout(Duration::from_secs(args.timeout));

    let mut wanted = rbd::ImageSpec::new(pool.pool(), &spec.image).namespace(pool.namespace());
    wanted.snapshot.clone_from(&spec.snapshot);
    let there = Host::default().devices_of(&wanted).map_err(failed("map failed"))?;
    if let Some(device) = there.first() {
        eprintln!("rbd: warning: image already mapped as {}", device.path().display());
    }
    let device = map.allow_second_device(!there.is_empty()).run();
    let default_pool =
        cluster.config().get("rbd_default_pool").map_err(failed("reading rbd_default_pool failed"))?;
    let device = device.map_err(|error| explain(&pool, &default_pool, &spec.image, error))?;
    if device.disabled_features() != Features::empty() {
        eprintln!("rbd: disabled {}", device.disabled_features());
    }
    print(&format!("{}\n", device.path().display()))
}

fn parse(lists: &[String]) -> Result<MapOptions, Failure> {
    let mut options = MapOptions::new();
    for option in lists.iter().flat_map(|list| list.split(',')) {
        let more: MapOptions = option.parse().map_err(|error: Error| {
            let what = match option.split_once('=') {
                Some((name, value)) => format!("invalid {name} value '{value}'"),
                None => format!("unknown map option '{option}'"),
            };
            Failure::new(EINVAL, "")
                .instead(format_args!("rbd: {what}\nrbd: couldn't parse map options"))
                .because(error)
        })?;
        options = options.merge(more);
    }
    Ok(options)
}

/// The `rbd` command prints its hints on standard output.
fn explain(pool: &IoCtx, default_pool: &str, image: &str, error: Error) -> Failure {
    if *error.kind() == (ErrorKind::NotFound { what: ObjectKind::Image }) {
        return failed(format_args!("error opening image {image}"))(error);
    }
    let mut hint = String::new();
    if let ErrorKind::FeaturesUnsupportedByKernel { plan } = error.kind() {
        hint += "RBD image feature set mismatch. ";
        let more = match plan {
            Ok(plan) => {
                let names: Vec<&str> = plan.disabled().names().collect();
                let place = match (pool.pool(), pool.namespace()) {
                    (name, "") if name == default_pool => String::new(),
                    (name, "") => format!("{name}/"),
                    (name, namespace) => format!("{name}/{namespace}/"),
                };
                format!(
                    "You can disable features unsupported by the kernel with \"rbd feature \
                     disable {place}{image} {}\".\n",
                    names.join(" ")
                )
            }
            Err(immutable) => format!(
                "This image cannot be mapped because the following immutable features are \
                 unsupported by the kernel: {}.\n",
                immutable.immutable
            ),
        };
        hint += &more;
    }
    hint += "In some cases useful info is found in syslog - try \"dmesg | tail\".\n";
    match print(&hint) {
        Ok(()) => failed("map failed")(error),
        Err(failure) => failure,
    }
}
