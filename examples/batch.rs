//! Acts on many images at the same time: removes them, moves them to the trash, takes snapshots, or
//! flattens them.
//!
//!     cargo run --example batch -- snapshot --snap monday foo bar
//!     cargo run --example batch -- trash --prefix old-
//!     cargo run --example batch -- remove --prefix test- --in-flight 4

mod common;

use std::process::ExitCode;

use common::{Bar, ClusterFlags, EINVAL, Failure, PoolFlags, ProgressFlag, failed, failed_among_others};
use rbd::IoCtx;

/// Act on many images.
#[derive(clap::Parser)]
#[command(override_usage = "batch [OPTIONS] <ACTION> [IMAGES]...")]
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
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,
    /// names of images, all in the pool and namespace of `--pool` and `--namespace`
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
    if args.prefix.is_none() && args.images.is_empty() {
        return Err(Failure::new(EINVAL, "no images: name some, or use --prefix"));
    }
    if let Some(word) = args.images.iter().find(|word| word.contains(['/', '@'])) {
        let message = "is not the name of an image; use --pool and --namespace";
        return Err(Failure::new(EINVAL, format_args!("'{word}' {message}")));
    }
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&args.pool.place(None))?;
    let names: Vec<String> = match &args.prefix {
        Some(prefix) => {
            let all = pool.list().map_err(failed("listing images failed"))?.into_iter();
            all.map(|image| image.name).filter(|name| name.starts_with(prefix)).collect()
        }
        None => args.images.clone(),
    };
    if let (Some(prefix), true) = (&args.prefix, names.is_empty()) {
        eprintln!("rbd: no image begins with '{prefix}'");
        return Ok(());
    }
    let mut bar = Bar::new("Images", args.progress.shown());
    let batch = pool.batch(&names).max_in_flight(args.in_flight.into());
    let report =
        batch.progress(|done, total| bar.update(done, total)).run(|pool, name| act(pool, name, args));
    let report = match report {
        Ok(report) => report,
        Err(error) => return bar.end(Err(failed("batch failed")(error))),
    };
    if report.failed.is_empty() {
        return bar.end(Ok(()));
    }
    let _ = bar.end(Err::<(), _>(()));
    let (count, mut last) = (report.failed.len(), 0);
    for (name, error) in report.failed {
        let what = format!("{name}: failed");
        let failure = match usize::from(args.in_flight).min(names.len()) {
            1 => failed(what)(error),
            _ => failed_among_others(what)(error),
        };
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
