//! `rbd status`: shows the clients that have an image open for writing or mapped, and the state of
//! its migration.
//!
//!     cargo run --example status -- foo

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{ClusterFlags, Failure, ImageArgs, OutputFlags, failed};
use rbd::{
    Features, Image, IoCtx,
    migration::{MigrationState, MigrationStatus},
};
use serde::Serialize;

/// Show the status of this image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Serialize)]
struct Status {
    watchers: Vec<Watcher>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<Migration>,
}

#[derive(Serialize)]
struct Watcher {
    address: String,
    client: u64,
    cookie: u64,
}

#[derive(Serialize)]
struct Migration {
    #[serde(flatten)]
    source: Source,
    dest_pool_name: String,
    dest_pool_namespace: String,
    dest_image_name: String,
    dest_image_id: String,
    state: &'static str,
    state_description: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Source {
    Image {
        source_pool_name: String,
        source_pool_namespace: String,
        source_image_name: String,
        source_image_id: String,
    },
    Import {
        source_spec: String,
    },
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec()?;
    args.output.check()?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    // Opened read-only, this client is no watcher.
    let image = pool.open(&spec.image).read_only(true).run();
    let image = image.map_err(failed(format_args!("error opening image {}", spec.image)))?;
    let status = status(&pool, &spec.image, &image).map_err(failed("show status failed"))?;
    args.output.print(&status)
}

fn status(pool: &IoCtx, name: &str, image: &Image) -> rbd::Result<Status> {
    let watchers = image.watchers()?;
    let watchers = watchers.into_iter().map(|rbd::image::Watcher { address, client, cookie, .. }| Watcher {
        address: address.to_string(),
        client,
        cookie,
    });
    let mut migration = None;
    if image.features()?.contains(Features::MIGRATING) {
        migration = Some(Migration::of(pool, name, image)?);
    }
    Ok(Status { watchers: watchers.collect(), migration })
}

impl Migration {
    fn of(pool: &IoCtx, name: &str, image: &Image) -> rbd::Result<Migration> {
        let MigrationStatus { source, destination, state, description, .. } =
            pool.migration(name).status()?;
        let pool_name = |id| pool.cluster().pools().name(id);
        let source = match source.pool_id {
            // The source is outside the cluster.
            ..0 => Source::Import { source_spec: image.migration_source_spec()? },
            id => Source::Image {
                source_pool_name: pool_name(id)?,
                source_pool_namespace: source.namespace,
                source_image_name: source.name,
                source_image_id: source.id,
            },
        };
        Ok(Migration {
            source,
            dest_pool_name: pool_name(destination.pool_id)?,
            dest_pool_namespace: destination.namespace,
            dest_image_name: destination.name,
            dest_image_id: destination.id,
            state: match state {
                MigrationState::Error => "error",
                MigrationState::Preparing => "preparing",
                MigrationState::Prepared => "prepared",
                MigrationState::Executing => "executing",
                MigrationState::Executed => "executed",
                MigrationState::Aborting => "aborting",
                _ => "unknown",
            },
            state_description: description,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.watchers.is_empty() {
            writeln!(f, "Watchers: none")?;
        } else {
            writeln!(f, "Watchers:")?;
        }
        for Watcher { address, client, cookie } in &self.watchers {
            writeln!(f, "\twatcher={address} client.{client} cookie={cookie}")?;
        }
        self.migration.iter().try_for_each(|migration| migration.fmt(f))
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = |pool, namespace: &str, image, id| match namespace {
            "" => format!("{pool}/{image} ({id})"),
            namespace => format!("{pool}/{namespace}/{image} ({id})"),
        };
        let source = match &self.source {
            Source::Import { source_spec } => source_spec.clone(),
            Source::Image { source_pool_name, source_pool_namespace, source_image_name, source_image_id } => {
                image(source_pool_name, source_pool_namespace, source_image_name, source_image_id)
            }
        };
        let Migration { dest_pool_name, dest_pool_namespace, dest_image_name, dest_image_id, .. } = self;
        let destination = image(dest_pool_name, dest_pool_namespace, dest_image_name, dest_image_id);
        writeln!(f, "Migration:\n\tsource: {source}\n\tdestination: {destination}")?;
        match self.state_description.as_str() {
            "" => writeln!(f, "\tstate: {}", self.state),
            why => writeln!(f, "\tstate: {} ({why})", self.state),
        }
    }
}
