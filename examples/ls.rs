//! `rbd ls`: lists the images of a pool or namespace.
//!
//!     cargo run --example ls -- rbd

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{
    Align, ClusterFlags, Failure, OutputFlags, PoolFlags, ProgressFlag, Table, failed, iec, image_name,
};
use rbd::{
    image,
    snapshot::SnapshotKind,
    survey::{SurveyedImage, SurveyedSnapshot},
};
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
    #[command(flatten)]
    progress: ProgressFlag,
    /// long listing format
    #[arg(short, long)]
    long: bool,
    /// pool specification: <pool-name>[/<namespace>]
    pool_spec: Option<String>,
}

#[derive(Serialize)]
struct Names(Vec<String>);

#[derive(Serialize)]
#[serde(transparent)]
struct Rows {
    rows: Vec<Row>,
    /// Without an image there is no table.
    #[serde(skip)]
    any_image: bool,
}

/// An image or a snapshot of one.
#[derive(Clone, Serialize)]
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

#[derive(Clone, Serialize)]
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
    if !args.long {
        let mut images = pool.list().map_err(failed("listing images failed"))?;
        // As in `rbd`, images of format 1 come first. They have no id.
        images.sort_by_key(|image| !image.id.is_empty());
        return args.output.print(&Names(images.into_iter().map(|image| image.name).collect()));
    }
    let survey = pool.survey().snapshots(true).parent(true).locks(true);
    let images = survey.run().map_err(failed("listing images failed"))?;
    let any_image = images.total() > 0;
    let (mut rows, mut last) = (Vec::new(), Ok(()));
    for image in common::survey::collect(images, "Listing images", &args.progress) {
        last = Ok(());
        match image {
            // It cannot be opened any more. `rbd` also leaves it out.
            Ok(image) if image.half_removed => {
                eprintln!("rbd: error opening {}: (2) No such file or directory", image.name);
            }
            Ok(image) => rows.extend(rows_of(image)),
            Err(error) => {
                let failure = failed(format_args!("error opening {}", image_name(&error)))(error);
                last = Err(failure.status());
                failure.warn();
            }
        }
    }
    args.output.print(&Rows { rows, any_image })?;
    // As in `rbd`, the last image decides.
    last.map_err(Failure::silent)
}

/// Returns the rows of an image and its snapshots.
fn rows_of(image: SurveyedImage) -> Vec<Row> {
    let row = Row {
        image: image.name,
        id: image.id,
        snapshot: None,
        snapshot_id: None,
        size: image.size,
        parent_spec: String::new(),
        parent: None,
        format: if image.old_format { 1 } else { 2 },
        protected: None,
        lock_type: None,
    };
    let user = |snapshot: &SurveyedSnapshot| snapshot.kind == SnapshotKind::User;
    let snapshots: Vec<_> = image.snapshots.into_iter().filter(user).collect();
    let snapshots = snapshots.into_iter().map(|snapshot| {
        let row = Row {
            snapshot: Some(snapshot.name),
            snapshot_id: Some(snapshot.id),
            size: snapshot.size,
            protected: Some(if snapshot.protected { "true" } else { "false" }),
            ..row.clone()
        };
        row.with_parent(snapshot.parent)
    });
    let mut rows: Vec<_> = snapshots.collect();
    let locks = image.locks.filter(|locks| !locks.lockers.is_empty());
    let lock_type = locks.map(|locks| if locks.exclusive { "exclusive" } else { "shared" });
    rows.insert(0, Row { lock_type, ..row }.with_parent(image.parent));
    rows
}

impl Row {
    fn with_parent(mut self, parent: Option<image::Parent>) -> Row {
        self.parent_spec = parent.as_ref().map(ToString::to_string).unwrap_or_default();
        self.parent = parent.map(|parent| Parent {
            pool: parent.image.pool,
            pool_namespace: parent.image.namespace,
            image: parent.image.name,
            snapshot: parent.snapshot,
        });
        self
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
        if !self.any_image {
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
        self.rows.iter().for_each(|row| table.row(row.cells()));
        table.fmt(f)
    }
}
