//! The program that tests of mapping run inside the virtual machine. Each command is a call of
//! `rbd::krbd` or `rbd_volume`, and prints its result.
//!
//! After an error, the exit status is 1. The first line on stderr is the kind of the error, and its
//! text follows.
#![allow(missing_docs, clippy::pedantic)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use rbd::ImageSpec;
use rbd::krbd::{self, Credentials, Device, Map};
use rbd::{Cluster, Error, IoCtx, cluster::Key};
use rbd_volume::Volume;

#[derive(Parser)]
enum Command {
    /// Prints the device and the features that were disabled for it
    Map(MapArgs),
    /// Maps, shows the device, drops it, and shows the remaining mappings
    Scoped(MapArgs),
    /// Unmaps by path, spec or number
    Unmap {
        what: String,
        #[arg(long)]
        force: bool,
        #[arg(long, default_value_t = 30)]
        timeout: u64,
    },
    Devices,
    Refresh {
        path: PathBuf,
    },
    Holders {
        path: PathBuf,
    },
    /// Formats and mounts a device, and binds the mount to a second directory
    Volume {
        path: PathBuf,
        stage: PathBuf,
        target: PathBuf,
        /// Make the second mount read-only
        #[arg(long)]
        read_only: bool,
        #[arg(long)]
        allow_suid: bool,
        #[arg(long)]
        allow_devices: bool,
    },
    /// Removes both mounts
    EndVolume {
        stage: PathBuf,
        target: PathBuf,
    },
    Support,
    LoadModule,
    CreateMappable {
        spec: ImageSpec,
        size: u64,
    },
    /// Maps an image this many times, finds each device, and unmaps all
    Many {
        spec: ImageSpec,
        count: usize,
    },
}

#[derive(Args)]
struct MapArgs {
    spec: ImageSpec,
    #[arg(short)]
    options: Vec<String>,
    #[arg(long)]
    no_preflight: bool,
    #[arg(long)]
    fix_features: bool,
    #[arg(long)]
    again: bool,
    #[arg(long)]
    load_module: bool,
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Map without a connection, with these monitors, user and key
    #[arg(long, requires = "key")]
    monitors: Option<String>,
    #[arg(long, default_value = "admin")]
    user: String,
    #[arg(long)]
    key: Option<String>,
    /// Show the keys that the kernel holds while the mapping exists
    #[arg(long)]
    show_keys: bool,
}

fn main() {
    if let Err(error) = run(Command::parse()) {
        match error.downcast_ref::<Error>() {
            Some(error) => eprintln!("{:?}\n{error:#}", error.kind()),
            None => eprintln!("{error:?}\n{error}"),
        }
        std::process::exit(1);
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Map(args) => {
            let device = map(&args)?.run()?;
            let keys = if args.show_keys { std::fs::read_to_string("/proc/keys")? } else { String::new() };
            println!("{}\t{}", show(&device), device.disabled_features());
            print!("{keys}");
        }
        Command::Scoped(args) => {
            let scoped = map(&args)?.run()?.scoped();
            println!("{}", show(&scoped));
            drop(scoped);
            println!("{} left", krbd::devices()?.len());
        }
        Command::Unmap { what, force, timeout } => {
            let device = find(&what)?;
            device.unmap().force(force).timeout(Duration::from_secs(timeout)).run()?;
        }
        Command::Devices => {
            for device in krbd::devices()? {
                println!("{}", show(&device));
            }
        }
        Command::Refresh { path } => {
            let mut device = krbd::device(path)?;
            device.refresh()?;
            println!("{}", device.size());
        }
        Command::Holders { path } => {
            for holder in krbd::device(path)?.holders() {
                println!("{holder}");
            }
        }
        Command::Volume { path, stage, target, read_only, allow_suid, allow_devices } => {
            let device = krbd::device(path)?;
            let volume = Volume::new(&device).allow_suid(allow_suid).allow_devices(allow_devices);
            println!("{:?}", volume.stage(&stage)?);
            rbd_volume::publish(stage, target, read_only)?;
        }
        Command::EndVolume { stage, target } => {
            rbd_volume::unmount(target)?;
            rbd_volume::unmount(stage)?;
        }
        Command::Support => println!("{:?}", krbd::supported_features()?),
        Command::LoadModule => krbd::load_module()?,
        Command::CreateMappable { spec, size } => {
            let pool = pool(&spec)?;
            krbd::create_mappable(&pool, &spec.image, size)?.run()?;
            println!("{}", pool.open(&spec.image).read_only(true).run()?.features()?);
        }
        Command::Many { spec, count } => many(&spec, count)?,
    }
    Ok(())
}

fn pool(spec: &ImageSpec) -> Result<IoCtx, Error> {
    Cluster::connect()?.ioctx(&spec.pool)?.with_namespace(&spec.namespace)
}

fn map(args: &MapArgs) -> Result<Map, Error> {
    let map = match &args.monitors {
        Some(monitors) => {
            let key = Key::new(args.key.as_deref().expect("clap asks for it"));
            krbd::map_with(Credentials::new(monitors.split(','), &*args.user, key), args.spec.clone())
        }
        None => {
            let map = krbd::map(&pool(&args.spec)?, &args.spec.image);
            match &args.spec.snapshot {
                Some(name) => map.snapshot(name),
                None => map,
            }
        }
    };
    let map = args.options.iter().fold(map, Map::option);
    Ok(map
        .preflight(!args.no_preflight)
        .fix_features(args.fix_features)
        .allow_second_device(args.again)
        .load_module(args.load_module)
        .timeout(Duration::from_secs(args.timeout)))
}

fn find(what: &str) -> Result<Device, Error> {
    if let Ok(id) = what.parse() {
        return krbd::device_by_id(id);
    }
    if what.starts_with('/') { krbd::device(what) } else { krbd::device_by_spec(&what.parse()?) }
}

fn many(spec: &ImageSpec, count: usize) -> Result<(), Error> {
    let pool = pool(spec)?;
    for _ in 0..count {
        krbd::map(&pool, &spec.image).read_only(true).preflight(false).run()?;
    }
    let devices = krbd::devices()?;
    assert_eq!(devices.len(), count);
    let ambiguous = krbd::device_by_spec(spec).unwrap_err().to_string();
    for device in &devices {
        assert!(ambiguous.contains(&format!("{} ", device.path().display())), "{ambiguous}");
        assert_eq!(&krbd::device(device.path())?, device);
        device.unmap().run()?;
    }
    println!("{count} found, {} left", krbd::devices()?.len());
    Ok(())
}

/// Returns one line with all properties of a device.
fn show(device: &Device) -> String {
    format!(
        "{} {} {} {} {} {} {}",
        device.path().display(),
        device.spec(),
        device.size(),
        if device.is_read_only() { "ro" } else { "rw" },
        device.cluster_fsid().unwrap_or("-"),
        device.image_id().unwrap_or("-"),
        device.client_address().map_or_else(|| "-".to_owned(), |address| address.to_string()),
    )
}
