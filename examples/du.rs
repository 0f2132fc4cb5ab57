//! `rbd du`: shows the provisioned and the used space of images and their snapshots.
//!
//!     cargo run --example du -- -p rbd

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{
    Align, ClusterFlags, Failure, ImageFlags, OutputFlags, ProgressFlag, Table, failed, iec, image_name,
};
use rbd::survey::{SurveyedImage, SurveyedSnapshot};
use rbd::{Errno, Features, features::Flags, snapshot::SnapshotKind};
use serde::Serialize;

/// Show disk usage stats for pool, image or snapshot.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    progress: ProgressFlag,
    /// snapshot name
    #[arg(long)]
    snap: Option<String>,
    /// merge snapshot sizes with its image
    #[arg(long)]
    merge_snapshots: bool,
    /// image or snapshot specification: [<pool-name>/[<namespace>/]]<image-name>[@<snap-name>]
    image_spec: Option<String>,
}

#[derive(Default, Serialize)]
struct Usage {
    images: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_provisioned_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_used_size: Option<u64>,
    #[serde(skip)]
    provisioned: u64,
    #[serde(skip)]
    used: u64,
    /// The number of rows in the totals.
    #[serde(skip)]
    counted: usize,
    /// Without an image there is no table.
    #[serde(skip)]
    any_image: bool,
    /// Whether an image with the requested snapshot was found.
    #[serde(skip)]
    snapshot_seen: bool,
}

/// An image or a snapshot of one.
#[derive(Serialize)]
struct Row {
    name: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<u64>,
    provisioned_size: u64,
    used_size: u64,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    args.output.check()?;
    let named = args.image_spec.is_some() || args.image.is_named();
    let spec = named.then(|| args.image.spec_or_snapshot(args.image_spec.as_deref(), args.snap.as_deref()));
    let spec = spec.transpose()?;
    let (image, snapshot) = match &spec {
        Some(spec) => (Some(spec.image.as_str()), spec.snapshot.as_deref()),
        None => (None, args.snap.as_deref()),
    };
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.as_ref().map_or_else(|| args.image.place(), |spec| spec.place.clone()))?;

    let survey = pool.survey().usage(true);
    let survey = match image {
        Some(name) => survey.image(name),
        None => survey,
    };
    let images = survey.run().map_err(failed("du failed"))?;
    let any_image = images.total() > 0;
    if let (Some(name), false) = (image, any_image) {
        let message = format!("specified image {name} is not found.");
        return Err(Failure::silent(Errno::ENOENT.code()).instead(message).and("du failed"));
    }
    let mut usage = Usage { any_image, ..Usage::default() };
    let mut last = Ok(());
    for found in common::survey::collect(images, "Reading object maps", &args.progress) {
        last = match found {
            // It cannot be opened any more.
            Ok(found) if found.half_removed => Err(Errno::ENOENT.code()),
            Ok(found) => {
                usage.add(found, snapshot, args.merge_snapshots)?;
                Ok(())
            }
            Err(error) => {
                let failure = failed(format_args!("error opening {}", image_name(&error)))(error);
                let status = failure.status();
                failure.warn();
                Err(status)
            }
        };
    }
    if image.is_none() {
        usage.total_provisioned_size = Some(usage.provisioned);
        usage.total_used_size = Some(usage.used);
    }
    args.output.print(&usage)?;
    // As in `rbd`, the last image decides.
    last.map_err(|status| Failure::silent(status).and("du failed"))
}

impl Usage {
    /// Adds an image with its snapshots, up to the requested one.
    fn add(&mut self, image: SurveyedImage, snapshot: Option<&str>, merge: bool) -> Result<(), Failure> {
        let SurveyedImage { name, id, .. } = image;
        if !image.features.contains(Features::FAST_DIFF) {
            eprintln!("warning: fast-diff map is not enabled for {name}. operation may be slow.");
        }
        let user = |snapshot: &&SurveyedSnapshot| snapshot.kind == SnapshotKind::User;
        let snapshots: Vec<_> = image.snapshots.iter().filter(user).collect();
        self.snapshot_seen |= snapshots.iter().any(|found| snapshot == Some(&*found.name));
        if snapshot.is_some() && !self.snapshot_seen {
            let message = "specified snapshot is not found.";
            return Err(Failure::silent(Errno::ENOENT.code()).instead(message).and("du failed"));
        }
        let mut whole = 0;
        for found in snapshots {
            let used = found.used.unwrap_or_default();
            warn_if_invalid(&format!("{name}@{}", found.name), found.flags);
            whole += used;
            self.used += used;
            self.counted += 1;
            if snapshot.is_some() {
                self.provisioned += found.size;
            }
            if !merge {
                self.images.push(Row {
                    name: name.clone(),
                    id: id.clone(),
                    snapshot: Some(found.name.clone()),
                    snapshot_id: Some(found.id),
                    provisioned_size: found.size,
                    used_size: used,
                });
            }
            if snapshot == Some(&*found.name) {
                break;
            }
        }
        if snapshot.is_some() {
            return Ok(());
        }
        let used = image.used.unwrap_or_default();
        warn_if_invalid(&name, image.flags);
        self.used += used;
        self.provisioned += image.size;
        self.counted += 1;
        self.images.push(Row {
            name,
            id,
            snapshot: None,
            snapshot_id: None,
            provisioned_size: image.size,
            used_size: if merge { whole + used } else { used },
        });
        Ok(())
    }
}

fn warn_if_invalid(name: &str, flags: Flags) {
    if flags.contains(Flags::FAST_DIFF_INVALID) {
        eprintln!("warning: fast-diff map is invalid for {name}. operation may be slow.");
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.any_image {
            return Ok(());
        }
        let mut table =
            Table::new(&[("NAME", Align::Left), ("PROVISIONED", Align::Right), ("USED", Align::Right)]);
        for row in &self.images {
            let name = match &row.snapshot {
                Some(snapshot) => format!("{}@{snapshot}", row.name),
                None => row.name.clone(),
            };
            table.row([name, iec(row.provisioned_size), iec(row.used_size)]);
        }
        if self.counted > 1 {
            table.row(["<TOTAL>".to_owned(), iec(self.provisioned), iec(self.used)]);
        }
        table.fmt(f)
    }
}
