//! The work of the child processes.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use rbd::{Cluster, IoCtx};

pub const LISTED: &str = "listed";
pub const MANY: &str = "many";
pub const MEASURED: &str = "measured";
pub const EXPORTED: &str = "exported";

const OBJECT: u64 = 4 << 20;
/// The bytes of one read of an export, and the reads in flight: as in the example `backup`.
const PIECE: u64 = 2 << 20;
const DEPTH: usize = 8;

fn pool(conf: &Path, pool: &str) -> IoCtx {
    let cluster = Cluster::builder().ignore_environment(true).conf_file(conf).connect().unwrap();
    cluster.ioctx(pool).unwrap()
}

/// Tells the parent the peak memory of this process in MiB, and returns it.
fn tell_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let mib = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10;
    eprintln!("{mib}");
    mib
}

/// Fails if a survey took more memory than it may, however many images there are.
fn check_memory() {
    let mib = tell_memory();
    assert!(mib < 64, "a survey took {mib} MiB, and may take 64");
}

pub fn prepare(conf: &Path, listed: &[(&str, usize)], measured: usize, gib: u64, mib: u64) {
    let names = |count: usize| (0..count).map(|number| format!("image{number:05}")).collect::<Vec<_>>();
    let create = |pool: &IoCtx, name: &str| pool.create(name, 1 << 30).run();
    for (name, count) in listed {
        let made = pool(conf, name).batch(&names(*count)).max_in_flight(16).run(create).unwrap();
        assert!(made.is_complete());
    }
    let create_and_write = |pool: &IoCtx, name: &str| {
        create(pool, name)?;
        let image = pool.open(name).run()?;
        image.write_all_at(b"first", 0)?;
        if name.ends_with(['0', '2', '4', '6', '8']) {
            image.snapshots().create("monday").run()?;
            image.write_all_at(b"second", 9 * OBJECT)?;
        }
        image.close()
    };
    assert!(pool(conf, MEASURED).batch(&names(measured)).run(create_and_write).unwrap().is_complete());
    let exported = pool(conf, EXPORTED);
    let block: Vec<u8> = (0..OBJECT).map(|byte| (byte % 251) as u8 | 1).collect();
    exported.create("sparse", gib << 30).run().unwrap();
    let sparse = exported.open("sparse").run().unwrap();
    (0..(gib << 30) / OBJECT)
        .step_by(100)
        .for_each(|object| sparse.write_all_at(&block, object * OBJECT).unwrap());
    exported.create("full", mib << 20).run().unwrap();
    let full = exported.open("full").run().unwrap();
    (0..(mib << 20) / OBJECT).for_each(|object| full.write_all_at(&block, object * OBJECT).unwrap());
}

pub fn ls(conf: &Path, name: &str) {
    let pool = pool(conf, name);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for image in pool.survey().snapshots(true).parent(true).locks(true).run().unwrap() {
        let image = image.unwrap();
        writeln!(out, "{} {} {} {:?}", image.name, image.id, image.size, image.locks).unwrap();
    }
    check_memory();
}

pub fn du(conf: &Path, name: &str) {
    let pool = pool(conf, name);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for image in pool.survey().usage(true).run().unwrap() {
        let image = image.unwrap();
        writeln!(out, "{} {} {}", image.name, image.size, image.used.unwrap()).unwrap();
    }
    check_memory();
}

pub fn export(conf: &Path, name: &str, image: &str, path: &Path) {
    let pool = pool(conf, name);
    let image = pool.open(image).read_only(true).run().unwrap();
    let file = File::create(path).unwrap();
    file.set_len(image.size().unwrap()).unwrap();
    let pieces = image.diff().whole_objects(true).extents().unwrap().flat_map(|extent| {
        let extent = extent.unwrap();
        let starts = (extent.offset..extent.end()).step_by(PIECE as usize);
        starts.map(move |offset| (offset, PIECE.min(extent.end() - offset)))
    });
    let pieces = Mutex::new(pieces);
    let next = || pieces.lock().unwrap().next();
    let write = |offset, data: &[u8]| {
        file.write_all_at(data, offset).unwrap();
        ControlFlow::Continue(())
    };
    let work = || {
        while let Some((offset, len)) = next() {
            image.read_each(offset, len, write).unwrap();
        }
    };
    std::thread::scope(|scope| (0..DEPTH).for_each(|_| drop(scope.spawn(work))));
    tell_memory();
}

pub fn open(conf: &Path, name: &str, in_flight: usize, writing: bool) {
    let pool = pool(conf, name);
    let names: Vec<_> = pool.list().unwrap().into_iter().map(|image| image.name).collect();
    let memory = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    let before = memory();
    let begun = std::time::Instant::now();
    let open = |pool: &IoCtx, name: &str| pool.open(name).read_only(!writing).run();
    let report = pool.batch(&names).max_in_flight(in_flight).run(open).unwrap();
    let (took, after) = (begun.elapsed(), memory());
    assert!(report.is_complete());
    eprintln!("opened in {:.2} s, {} KiB each", took.as_secs_f64(), (after - before) / names.len() as u64);
    // The last line is what the parent shows.
    std::process::exit(0);
}
