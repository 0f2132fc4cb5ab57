//! `rbd ls`: the images of a pool or namespace.
//!
//!     cargo run --example ls -- rbd

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{Align, ClusterFlags, Failure, OutputFlags, PoolFlags, Table, failed, iec};
use rbd::{Image, IoCtx, ioctx::ImageEntry, snapshot::SnapshotNamespace};
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
    /// long listing format
    #[arg(short, long)]
    long: bool,
    /// pool specification: <pool-name>[/<namespace>]
    pool_spec: Option<String>,
}

#[derive(Serialize)]
struct Names(Vec<String>);

#[derive(Serialize)]
struct Rows(Vec<Row>);

/// An image or a snapshot of one.
#[derive(Serialize)]
struct Row {
    image: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<u64>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    #[serde(skip)]
    parent_spec: String,
    format: u8,
    /// A string, as everywhere in the `rbd` command; only of snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    protected: Option<&'static str>,
    /// Only of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_type: Option<&'static str>,
}

#[derive(Serialize)]
struct Parent {
    pool: String,
    pool_namespace: String,
    image: String,
    snapshot: String,
}

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
    let images = pool.list().map_err(failed("listing images failed"))?;
    if !args.long {
        return args.output.print(&Names(images.into_iter().map(|image| image.name).collect()));
    }
    let mut rows = Vec::new();
    for image in images {
        match rows_of(&pool, &image) {
            Ok(found) => rows.extend(found),
            // Removed since it was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed("listing images failed")(error)),
        }
    }
    args.output.print(&Rows(rows))
}

/// An image and its snapshots.
fn rows_of(pool: &IoCtx, entry: &ImageEntry) -> rbd::Result<Vec<Row>> {
    let image = pool.open_by_id(&entry.id).read_only(true).run()?;
    let locks = image.advisory_locks().list()?;
    let lock_type = if locks.exclusive { "exclusive" } else { "shared" };
    let mut rows =
        vec![Row { lock_type: (!locks.lockers.is_empty()).then_some(lock_type), ..Row::new(entry, &image)? }];
    for snapshot in image.snapshots().list()? {
        if snapshot.namespace != SnapshotNamespace::User {
            continue;
        }
        let at_snapshot = image.at_snapshot(snapshot.id)?;
        rows.push(Row {
            snapshot: Some(snapshot.name),
            snapshot_id: Some(snapshot.id),
            protected: Some(if snapshot.protected { "true" } else { "false" }),
            ..Row::new(entry, &at_snapshot)?
        });
    }
    Ok(rows)
}

impl Row {
    fn new(entry: &ImageEntry, image: &Image) -> rbd::Result<Row> {
        let parent = image.parent()?;
        Ok(Row {
            image: entry.name.clone(),
            id: entry.id.clone(),
            snapshot: None,
            snapshot_id: None,
            size: image.size()?,
            parent_spec: parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            parent: parent.map(|parent| Parent {
                pool: parent.image.pool,
                pool_namespace: parent.image.namespace,
                image: parent.image.name,
                snapshot: parent.snapshot,
            }),
            format: if image.is_old_format()? { 1 } else { 2 },
            protected: None,
            lock_type: None,
        })
    }

    fn cells(&self) -> [String; 6] {
        let name = match &self.snapshot {
            Some(snapshot) => format!("{}@{snapshot}", self.image),
            None => self.image.clone(),
        };
        let protected = if self.protected == Some("true") { "yes" } else { "" };
        let lock = match self.lock_type {
            Some("exclusive") => "excl",
            Some(_) => "shr",
            None => "",
        };
        [
            name,
            iec(self.size),
            self.parent_spec.clone(),
            self.format.to_string(),
            protected.to_owned(),
            lock.to_owned(),
        ]
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| writeln!(f, "{name}"))
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("PARENT", Align::Left),
            ("FMT", Align::Right),
            ("PROT", Align::Left),
            ("LOCK", Align::Left),
        ]);
        self.0.iter().for_each(|row| table.row(row.cells()));
        table.fmt(f)
    }
}
