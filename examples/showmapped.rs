//! `rbd device list`: lists the images that are mapped on this machine.
//!
//!     cargo run --example showmapped

mod common;

use std::fmt;
use std::process::ExitCode;

use common::{Align, DeviceType, Failure, OutputFlags, Table, failed};
use rbd::krbd;
use serde::Serialize;

/// List mapped rbd images.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    device_type: DeviceType,
    #[command(flatten)]
    output: OutputFlags,
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Entry>);

#[derive(Serialize)]
struct Entry {
    id: String,
    pool: String,
    namespace: String,
    name: String,
    snap: String,
    device: String,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    args.output.check()?;
    let devices = krbd::devices().map_err(failed("list failed"))?;
    let entries = devices.iter().map(|device| Entry {
        id: device.id().to_string(),
        pool: device.pool().to_owned(),
        namespace: device.namespace().to_owned(),
        name: device.image().to_owned(),
        snap: device.snapshot().unwrap_or("-").to_owned(),
        device: device.path().display().to_string(),
    });
    args.output.print(&List(entries.collect()))
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let names = ["id", "pool", "namespace", "image", "snap", "device"];
        let mut table = Table::new(&names.map(|name| (name, Align::Left)));
        for Entry { id, pool, namespace, name, snap, device } in &self.0 {
            table.row([id, pool, namespace, name, snap, device].map(Clone::clone));
        }
        table.fmt(f)
    }
}
