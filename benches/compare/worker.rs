//! The loops in separate processes: the children of the bench.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbd::{Cluster, Image, IoCtx, Queue};

use super::loops::work::Work;
use super::loops::{ours, raw};
use super::report::Sample;
use super::{Job, SIZE};

/// The loops of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    CCallbacks,
    CQueue,
    CBlocking,
    Futures,
    Queue,
    Blocking,
    /// With a timeout for OSDs, which neither Ceph nor this library sets by default.
    CCallbacksTimed,
    CQueueTimed,
    FuturesTimed,
    QueueTimed,
}

const OSD_TIMEOUT: Duration = Duration::from_secs(120);

fn pool(conf: &Path, osd_timeout: Option<Duration>) -> IoCtx {
    let builder = Cluster::builder().ignore_environment(true).conf_file(conf).osd_timeout(osd_timeout);
    builder.connect().unwrap().ioctx("rbd").unwrap()
}

/// Creates the image, and prints the versions.
pub fn prepare(conf: &Path, name: &str) {
    let pool = pool(conf, None);
    println!("{}", describe(&pool));
    pool.create(name, SIZE).run().unwrap();
    let image = pool.open(name).run().unwrap();
    // This library turns Ceph's default cache off, so the other engines must not use it either.
    image.config().set("rbd_cache", "false").unwrap();
    // Reads of unwritten data would not reach a disk.
    image.write_same(0, SIZE, &[0x5A; 4096]).unwrap();
    image.close().unwrap();
}

fn describe(pool: &IoCtx) -> String {
    let ask = |prefix: &str| -> serde_json::Value {
        let command = serde_json::json!({ "prefix": prefix, "format": "json" }).to_string();
        serde_json::from_slice(&pool.cluster().mon_command(&command, &[]).unwrap()).unwrap()
    };
    let (osds, map) = (ask("osd metadata"), ask("osd dump"));
    let pools = map["pools"].as_array().expect("pools");
    let ours = pools.iter().find(|one| one["pool_name"] == pool.pool()).expect("the pool");
    format!(
        "{} OSD(s) with {}, a pool with {} replica(s) and {} placement groups, an image of {} MiB",
        osds.as_array().expect("OSDs").len(),
        osds[0]["osd_objectstore"].as_str().expect("the kind of store"),
        ours["size"],
        ours["pg_num"],
        SIZE >> 20
    )
}

pub fn remove(conf: &Path, name: &str) {
    pool(conf, None).remove(name).run().unwrap();
}

pub fn work(conf: &Path, name: &str, way: Way, job: &Job, count: usize) {
    let timed = matches!(way, Way::CCallbacksTimed | Way::CQueueTimed | Way::FuturesTimed | Way::QueueTimed);
    let osd_timeout = timed.then_some(OSD_TIMEOUT);
    let mut buffers = ours::Buffers::default();
    let open = || -> Image { pool(conf, osd_timeout).open(name).run().unwrap() };
    match way {
        Way::CBlocking => {
            let mut twin = raw::Twin::open(conf, "rbd", name, false, None);
            measure(job, count, |work| twin.run_blocking(work));
        }
        Way::CCallbacks | Way::CQueue | Way::CCallbacksTimed | Way::CQueueTimed => {
            let queued = matches!(way, Way::CQueue | Way::CQueueTimed);
            let timeout = osd_timeout.map(|timeout| timeout.as_secs().to_string());
            let mut twin = raw::Twin::open(conf, "rbd", name, queued, timeout.as_deref());
            measure(job, count, |work| twin.run(work));
        }
        Way::Futures | Way::FuturesTimed => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let image = Arc::new(open());
            measure(job, count, |work| ours::futures(&runtime, &image, work, &mut buffers));
        }
        Way::Queue | Way::QueueTimed => {
            let mut queue = Queue::new(open(), job.depth).unwrap();
            measure(job, count, |work| ours::queue(&mut queue, work, &mut buffers));
        }
        Way::Blocking => {
            let image = open();
            measure(job, count, |work| ours::blocking(&image, work));
        }
    }
}

/// Measures a loop, after some operations that do not count: the first ones connect to the OSDs,
/// and the first write acquires the lock.
fn measure(job: &Job, count: usize, mut run: impl FnMut(&Arc<Work>)) {
    let work = |count| Arc::new(job.work(count));
    run(&work(warm_up(job)));
    let work = work(count);
    let (start, cpu) = (Instant::now(), raw::cpu_time());
    run(&work);
    let (elapsed, cpu) = (start.elapsed(), raw::cpu_time() - cpu);
    let (iops, cpu) = (count as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / count as f64);
    println!("{}", Sample { iops, cpu, peak: raw::peak_memory() }.line());
}

/// Returns how many operations are not measured: 10 to 20 ms of them.
pub fn warm_up(job: &Job) -> usize {
    if job.block > 1 << 20 { job.depth } else { job.depth.max(20) * 20 }
}
