//! Acts on many images at the same time: removes them, moves them to the trash, takes snapshots, or
//! flattens them.
//!
//!     cargo run --example batch -- snapshot --snap monday foo bar
//!     cargo run --example batch -- trash --prefix old-
//!     cargo run --example batch -- remove --prefix test- --in-flight 4

mod common;

use std::process::ExitCode;

use common::{Bar, ClusterFlags, EINVAL, Failure, PoolFlags, ProgressFlag, failed};
use rbd::IoCtx;

/// Act on many images.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    pool: PoolFlags,
    #[command(flatten)]
    progress: ProgressFlag,
    /// what to do
    #[arg(value_enum)]
    action: Action,
    /// name of the new snapshots
    #[arg(long, required_if_eq("action", "snapshot"))]
    snap: Option<String>,
    /// act on all images whose names begin so
    #[arg(long, conflicts_with = "images")]
    prefix: Option<String>,
    /// how many at the same time
    #[arg(long, default_value_t = 10)]
    in_flight: usize,
    /// names of images
    images: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Action {
    Remove,
    Trash,
    Snapshot,
    Flatten,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&args.pool.place(None))?;
    let names = match &args.prefix {
        Some(prefix) => {
            let all = pool.list().map_err(failed("listing images failed"))?.into_iter();
            all.map(|image| image.name).filter(|name| name.starts_with(prefix)).collect()
        }
        None => args.images.clone(),
    };
    if names.is_empty() {
        return Err(Failure::new(EINVAL, "no images: name some, or use --prefix"));
    }
    let mut bar = Bar::new("Images", args.progress.shown());
    let batch = pool.batch(&names).max_in_flight(args.in_flight);
    let report = batch
        .progress(|done, total| bar.report(done, total))
        .run(|pool, name| act(pool, name, args))
        .map_err(failed("batch failed"))?;
    if report.failed.is_empty() {
        return bar.end(Ok(()));
    }
    let _ = bar.end(Err::<(), _>(()));
    let (count, mut last) = (report.failed.len(), 0);
    for (name, error) in report.failed {
        let failure = failed(format_args!("{name}: failed"))(error);
        last = failure.status();
        failure.warn();
    }
    Err(Failure::new(last, format_args!("{count} of {} images failed", names.len())))
}

fn act(pool: &IoCtx, name: &str, args: &Args) -> rbd::Result<()> {
    match args.action {
        Action::Remove => pool.remove(name).run(),
        Action::Trash => pool.trash().add(name).run(),
        Action::Snapshot => {
            let image = pool.open(name).run()?;
            image.snapshots().create(args.snap.as_deref().unwrap_or_default()).run()?;
            image.close()
        }
        Action::Flatten => {
            let image = pool.open(name).run()?;
            image.flatten().run()?;
            image.close()
        }
    }
}
