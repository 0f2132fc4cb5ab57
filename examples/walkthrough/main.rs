//! The library at work on a real cluster: create an image, list it, inspect it, disable features,
//! write, read back, verify, remove.
//!
//!     cargo run --example walkthrough -- --embedded
//!
//! starts its own Ceph cluster. Without `--embedded` it uses the cluster that the `rbd` command
//! would use. The image must not exist yet.

#[path = "../common/mod.rs"]
mod common;
mod screen;

use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Parser;
use common::{Info, iec};
use console::style;
use rbd::{Cluster, Features, Image, IoCtx};
use rbd_testcluster::TestCluster;
use screen::{bar, show, step};

/// Walks through the library on a real cluster.
#[derive(Parser)]
struct Args {
    /// Start a cluster for the walk instead of using the configured one
    #[arg(long)]
    embedded: bool,
    /// Pool to work in
    #[arg(long, default_value = "rbd")]
    pool: String,
    /// Image to create and remove; it must not exist
    #[arg(long, default_value = "foo")]
    image: String,
}

/// 1024 MiB, as in `rbd create foo -s 1024`.
const SIZE: u64 = 1024 << 20;
/// How much of it is written.
const WRITTEN: u64 = 64 << 20;
const CHUNK: usize = 1 << 20;

fn main() -> ExitCode {
    match walk(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", style("walkthrough:").red().bold());
            ExitCode::FAILURE
        }
    }
}

fn walk(args: &Args) -> Result<(), Box<dyn Error>> {
    let embedded = if args.embedded {
        let cluster =
            step("start a Ceph cluster: monitor, manager, OSD", |_| TestCluster::builder().start())?;
        show(&cluster.status()?.summary());
        Some(cluster)
    } else {
        None
    };
    let builder = match &embedded {
        Some(cluster) => Cluster::builder().ignore_environment(true).conf_file(cluster.conf()),
        None => Cluster::builder(),
    };
    let cluster = step("connect", |_| builder.connect())?;
    show(&format!("fsid {}, librbd {}", cluster.fsid()?, Cluster::librbd_version()));
    work(&cluster.ioctx(&args.pool)?, &args.image)?;
    drop(cluster);
    if let Some(embedded) = embedded {
        step("stop the cluster", |_| embedded.stop())?;
    }
    println!("{}", style("every byte read back was the byte written").green().bold());
    Ok(())
}

fn work(pool: &IoCtx, name: &str) -> Result<(), Box<dyn Error>> {
    step(&format!("create {name} -s {}", SIZE >> 20), |_| pool.create(name, SIZE).run())?;
    for image in step("ls", |_| pool.list())? {
        show(&image.name);
    }
    inspect(pool, name)?;

    // In the form in which users type it: words with commas and spaces.
    let features: Features = "exclusive-lock, object-map, fast-diff, deep-flatten".parse()?;
    step(&format!("feature disable {name} {features}"), |_| {
        let image = pool.open(name).run()?;
        // Features that are not among the configured defaults are already off.
        image.disable_features(features)?;
        image.close()
    })?;
    inspect(pool, name)?;

    let image = pool.open(name).run()?;
    step(&format!("write {}", iec(WRITTEN)), |spinner| {
        bar(spinner, WRITTEN, true);
        for offset in offsets() {
            image.write_all_at(&pattern(offset), offset)?;
            spinner.inc(CHUNK as u64);
        }
        image.flush()
    })?;
    image.close()?;
    step("read back and verify", |spinner| {
        bar(spinner, WRITTEN, true);
        // Opened again, so that no data comes from a cache of the writer.
        let image = pool.open(name).read_only(true).run()?;
        for offset in offsets() {
            verify(&image, offset)?;
            spinner.inc(CHUNK as u64);
        }
        Ok::<_, Box<dyn Error>>(image.close()?)
    })?;

    step(&format!("rm {name}"), |spinner| {
        pool.remove(name)
            .progress(|done, total| {
                if spinner.length() != Some(total) {
                    bar(spinner, total, false);
                }
                spinner.set_position(done);
                ControlFlow::Continue(())
            })
            .run()
    })?;
    let left = step("ls", |_| pool.list())?;
    if left.iter().any(|image| image.name == name) {
        return Err(format!("the image {name} is still listed after its removal").into());
    }
    Ok(())
}

fn inspect(pool: &IoCtx, name: &str) -> rbd::Result<()> {
    let text = step(&format!("info {name}"), |_| {
        let image = pool.open(name).read_only(true).run()?;
        let text = Info::of(&image)?.to_string();
        image.close()?;
        Ok(text)
    })?;
    show(&text);
    Ok(())
}

/// Returns the offsets of the chunks: spread over the whole image, the first one at its start, the
/// last one at its end, some across two objects.
fn offsets() -> impl Iterator<Item = u64> {
    let chunks = WRITTEN / CHUNK as u64;
    let last = SIZE - CHUNK as u64;
    (0..chunks).map(move |chunk| last * chunk / (chunks - 1))
}

/// Returns bytes that differ between chunks and do not repeat within one (xorshift64).
fn pattern(offset: u64) -> Vec<u8> {
    let mut state = offset.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(CHUNK);
    while bytes.len() < CHUNK {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn verify(image: &Image, offset: u64) -> Result<(), Box<dyn Error>> {
    let mut read = vec![0; CHUNK];
    image.read_exact_at(&mut read, offset)?;
    let written = pattern(offset);
    if read == written {
        return Ok(());
    }
    let at = read.iter().zip(&written).take_while(|(read, written)| read == written).count();
    Err(format!("byte {} reads back differently from what was written", offset + at as u64).into())
}
