//! `rbd create`: creates an image.
//!
//!     cargo run --example create -- --size 1G foo
//!
//! Unlike the `rbd` command, it refuses requests that librbd silently changes: fast-diff without
//! object-map, which would be dropped, and object sizes that are no power of two, which would be
//! rounded.

mod common;

use std::process::ExitCode;

use common::{Bar, ClusterFlags, EINVAL, Failure, ImageArgs, ProgressFlag, Session, bytes, failed, size};
use rbd::{Features, IoCtx};

/// Create an empty image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageArgs,
    /// image size (in B/K/M/G/T) [default: M]
    #[arg(short, long, value_parser = size, allow_hyphen_values = true)]
    size: Option<u64>,
    /// object size in B/K/M [4K <= object size <= 32M]
    #[arg(long, value_parser = bytes)]
    object_size: Option<u64>,
    /// image features, a list or the flag repeated
    #[arg(long)]
    image_feature: Option<Vec<Features>>,
    /// shared image: without the features for a single client
    #[arg(long)]
    image_shared: bool,
    /// stripe unit in B/K/M
    #[arg(long, value_parser = bytes)]
    stripe_unit: Option<u64>,
    /// stripe count
    #[arg(long)]
    stripe_count: Option<u64>,
    /// data pool
    #[arg(long)]
    data_pool: Option<String>,
    /// number of active journal objects
    #[arg(long)]
    journal_splay_width: Option<u64>,
    /// size of journal objects [4K <= size <= 64M]
    #[arg(long, value_parser = journal_object_size)]
    journal_object_size: Option<u64>,
    /// pool for journal objects
    #[arg(long)]
    journal_pool: Option<String>,
    /// fully allocate storage and zero image
    #[arg(long)]
    thick_provision: bool,
    /// image format
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    image_format: u8,
    #[command(flatten)]
    progress: ProgressFlag,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec()?;
    let size = args.size.ok_or_else(|| Failure::new(EINVAL, "must specify --size <M/G/T>"))?;
    let refused = |why| Failure::errno(EINVAL, "create error").because(why);
    if args.image_format == 1 {
        eprintln!("rbd: image format 1 is deprecated");
        return Err(refused("librbd creates no images of format 1 any more"));
    }

    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    let mut create = pool.create(&spec.image, size);
    if let Some(features) = features(args, &cluster)? {
        create = create.features(features);
    }
    if let Some(bytes) = args.object_size {
        create = create.object_size(bytes);
    }
    match (args.stripe_unit, args.stripe_count) {
        (Some(unit), Some(count)) => create = create.striping(unit, count),
        (None, None) => {}
        _ => return Err(refused("must specify both (or neither) of stripe-unit and stripe-count")),
    }
    if let Some(pool) = &args.data_pool {
        create = create.data_pool(pool);
    }
    if let Some(objects) = args.journal_splay_width {
        create = create.journal_splay_width(objects);
    }
    if let Some(bytes) = args.journal_object_size {
        create = create.journal_object_size(bytes);
    }
    if let Some(pool) = &args.journal_pool {
        create = create.journal_pool(pool);
    }
    create.run().map_err(failed("create error"))?;
    if !args.thick_provision {
        return Ok(());
    }
    let bar = Bar::new("Thick provisioning", args.progress.shown());
    fill(&pool, &spec.image, bar).map_err(failed("thick provisioning failed"))
}

/// Writes zeroes to the whole image, so that its space is allocated now and not at its first use.
fn fill(pool: &IoCtx, name: &str, mut bar: Bar) -> rbd::Result<()> {
    let mut fill = || -> rbd::Result<()> {
        let image = pool.open(name).run()?;
        let size = image.size()?;
        let step = image.stat()?.object_size * image.stripe_count()?;
        for offset in (0..size).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            image.write_zeroes_thick(offset, step.min(size - offset))?;
            let _ = bar.update((offset + step).min(size), size);
        }
        image.close()
    };
    let result = fill();
    bar.end(result)
}

fn journal_object_size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        size @ 0x1000..=0x400_0000 => Ok(size),
        size => Err(format!("{size} bytes are not from 4K to 64M")),
    }
}

/// Returns the given features; `None` leaves the choice to the configuration.
fn features(args: &Args, cluster: &Session) -> Result<Option<Features>, Failure> {
    let named = args.image_feature.as_ref().map(|features| features.iter().copied().collect::<Features>());
    if !args.image_shared {
        return Ok(named);
    }
    let all = match named {
        Some(features) => features,
        None => cluster.default_features().map_err(failed("create error"))?,
    };
    let single_client = Features::EXCLUSIVE_LOCK | Features::EXCLUSIVE_LOCK.dependents();
    Ok(Some(all - single_client))
}
