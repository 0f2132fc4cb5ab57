//! `cargo bench --bench survey`: surveys, used space, exports and many open images beside the `rbd`
//! command, paired.
//!
//! In each round the `rbd` command and this library do the same work one after the other, each in a
//! new process, so that a load of the machine affects both. A ratio is the median of the rounds'
//! ratios. Processor time is that of the client process.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod measure;
mod work;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use measure::{Pair, measure};
use rbd_testcluster::TestCluster;

#[derive(Parser)]
struct Args {
    /// Images to list
    #[arg(long, default_value_t = 1_000)]
    images: usize,
    /// Images to measure; every second one has a snapshot
    #[arg(long, default_value_t = 1_000)]
    measured: usize,
    /// Size of the image with 1 % written, in GiB
    #[arg(long, default_value_t = 64)]
    gib: u64,
    /// Size of the full image, in MiB
    #[arg(long, default_value_t = 512)]
    mib: u64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A file for the table; only standard output without
    #[arg(long)]
    report: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child process does.
#[derive(Subcommand, Clone)]
#[command(hide = true)]
enum Role {
    /// Creates the images
    Prepare { conf: PathBuf },
    /// Lists a pool like `rbd ls -l`
    Ls { conf: PathBuf, pool: String },
    /// Measures a pool like `rbd du`
    Du { conf: PathBuf, pool: String },
    /// Exports an image like `rbd export`
    Export { conf: PathBuf, pool: String, image: String, file: PathBuf },
    /// Opens all images of a pool
    Open {
        conf: PathBuf,
        pool: String,
        in_flight: usize,
        #[arg(action = clap::ArgAction::Set)]
        writing: bool,
    },
}

fn main() {
    let args = Args::parse();
    match args.role.clone() {
        None => compare(&args),
        Some(Role::Prepare { conf }) => work::prepare(&conf, args.images, args.measured, args.gib, args.mib),
        Some(Role::Ls { conf, pool }) => work::ls(&conf, &pool),
        Some(Role::Du { conf, pool }) => work::du(&conf, &pool),
        Some(Role::Export { conf, pool, image, file }) => work::export(&conf, &pool, &image, &file),
        Some(Role::Open { conf, pool, in_flight, writing }) => work::open(&conf, &pool, in_flight, writing),
    }
}

fn compare(args: &Args) {
    let pools = [work::LISTED, work::MEASURED, work::EXPORTED];
    let cluster = TestCluster::builder().pools(pools).start().expect("the cluster starts");
    let conf = cluster.conf();
    let sizes = [args.images, args.measured].map(|count| count.to_string());
    let (gib, mib) = (args.gib.to_string(), args.mib.to_string());
    let counts =
        ["--images", &sizes[0], "--measured", &sizes[1], "--gib", &gib, "--mib", &mib].map(String::from);
    measure(&mut own(&counts, &["prepare"], conf));
    let folder = tempfile::tempdir().expect("there is room for files");
    let files = ["theirs", "ours"].map(|name| folder.path().join(name).display().to_string());

    let rounds = |what: &str, theirs: &[&str], ours: &[&str]| {
        let mut pairs = Vec::new();
        for _ in 0..=args.rounds {
            for file in &files {
                let _ = std::fs::remove_file(file);
            }
            let mut command = std::process::Command::new("rbd");
            command.arg("--conf").arg(conf).args(theirs);
            let memory =
                if theirs[0] == "export" { 2 * (args.mib << 20).max((args.gib << 30) / 100) } else { 0 };
            warm_up(folder.path(), memory);
            let theirs = measure(&mut command);
            warm_up(folder.path(), memory);
            pairs.push(Pair { theirs, ours: measure(&mut own(&[], ours, conf)) });
        }
        // The first round warms up.
        Pair::row(what, &pairs[1..])
    };
    let mut text = String::from(
        "| | `rbd`, s | this crate, s | ratio of time | ratio of processor time | peak memory, MiB |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    text += &rounds(
        &format!("`ls -l`, {} images", args.images),
        &["ls", "-l", work::LISTED, "--format", "json"],
        &["ls", work::LISTED],
    );
    text += &rounds(
        &format!("`du`, {} images, every second one with a snapshot", args.measured),
        &["du", "-p", work::MEASURED, "--format", "json"],
        &["du", work::MEASURED],
    );
    for (image, what) in
        [("sparse", format!("{gib} GiB with 1 % written")), ("full", format!("{mib} MiB, full"))]
    {
        let spec = format!("{}/{image}", work::EXPORTED);
        text += &rounds(
            &format!("export of {what}"),
            &["export", "--no-progress", &spec, &files[0]],
            &["export", work::EXPORTED, image, &files[1]],
        );
        assert!(same(Path::new(&files[0]), Path::new(&files[1])), "the exports of {image} differ");
    }
    println!("{text}");
    for (in_flight, writing) in [("1", "false"), ("10", "false"), ("32", "false"), ("10", "true")] {
        let took = measure(&mut own(&[], &["open", work::LISTED, in_flight, writing], conf));
        println!(
            "open {} images, {in_flight} at the same time, for writing: {writing}: {:.2} s, {:.2} s \
             processor; {}",
            args.images, took.wall, took.cpu, took.said
        );
    }
    if let Some(report) = &args.report {
        std::fs::write(report, text).expect("the report can be written");
    }
}

/// Uses this many bytes of memory for a file, and frees them. A virtual machine returns free memory
/// to its host, and the next use takes ten times as long. Without this, an export measures the
/// host.
fn warm_up(folder: &Path, memory: u64) {
    let path = folder.join("memory");
    let mut file = std::fs::File::create(&path).expect("there is room for a file");
    let zeros = vec![0; 4 << 20];
    (0..memory >> 22).for_each(|_| file.write_all(&zeros).expect("there is room for a file"));
    std::fs::remove_file(&path).expect("the file can be removed");
}

/// This program as a child of itself. `words` are the role and its arguments without the
/// configuration.
fn own(flags: &[String], words: &[&str], conf: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(flags).arg(words[0]).arg(conf).args(&words[1..]);
    command
}

/// Compares two files without reading both into memory.
fn same(one: &Path, other: &Path) -> bool {
    std::process::Command::new("cmp").args([one, other]).status().expect("cmp is installed").success()
}
