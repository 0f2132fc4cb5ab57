//! The loops in processes of their own: what the children of the bench do.

use std::io::{BufRead as _, stdin};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rbd::{Cluster, Image, IoCtx, Queue};

use super::loops::work::Work;
use super::loops::{ours, raw};
use super::report::Sample;
use super::{Job, SIZE};

/// The ways to do the work within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    CCallbacks,
    CQueue,
    CBlocking,
    /// With the timeout for operations of the OSDs that this library sets, and Ceph by itself does not.
    CCallbacksTimed,
    CQueueTimed,
    Futures,
    Queue,
    /// Without that timeout.
    FuturesUntimed,
    QueueUntimed,
    Blocking,
}

/// In seconds: what this library sets where nobody says otherwise.
const OSD_TIMEOUT: u32 = 120;

fn pool(conf: &Path, timeouts: bool) -> IoCtx {
    let builder = Cluster::builder().ignore_environment().conf_file(conf);
    let builder = if timeouts { builder } else { builder.osd_timeout(None) };
    builder.connect().unwrap().ioctx("rbd").unwrap()
}

pub fn prepare(conf: &Path, images: &[String]) {
    let pool = pool(conf, true);
    for name in images {
        pool.create(name, SIZE).run().unwrap();
        let image = pool.open(name).run().unwrap();
        // Else librbd's cache writes through until the first flush, and not every program makes one.
        image.set_config("rbd_cache_writethrough_until_flush", "false").unwrap();
        // Reads of what was never written would not reach a disk.
        image.write_same(0, SIZE, &[0x5A; 4096]).unwrap();
        image.close().unwrap();
    }
}

pub fn remove(conf: &Path, images: &[String]) {
    let pool = pool(conf, true);
    for name in images {
        pool.remove(name).run().unwrap();
    }
}

pub fn work(conf: &Path, name: &str, way: Way, job: &Job) {
    let timeouts = !matches!(way, Way::FuturesUntimed | Way::QueueUntimed);
    let mut buffers = ours::Buffers::default();
    let open = || -> Image { pool(conf, timeouts).open(name).run().unwrap() };
    match way {
        Way::CBlocking => {
            let mut twin = raw::Twin::open(conf, "rbd", name, false, None);
            serve(job, |work| twin.run_blocking(work));
        }
        Way::CCallbacks | Way::CQueue | Way::CCallbacksTimed | Way::CQueueTimed => {
            let queued = matches!(way, Way::CQueue | Way::CQueueTimed);
            let timeout = matches!(way, Way::CCallbacksTimed | Way::CQueueTimed).then_some(OSD_TIMEOUT);
            let mut twin = raw::Twin::open(conf, "rbd", name, queued, timeout);
            serve(job, |work| twin.run(work));
        }
        Way::Futures | Way::FuturesUntimed => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let image = Arc::new(open());
            serve(job, |work| ours::futures(&runtime, &image, work, &mut buffers));
        }
        Way::Queue | Way::QueueUntimed => {
            let mut queue = Queue::new(open(), job.depth).unwrap();
            serve(job, |work| ours::queue(&mut queue, work, &mut buffers));
        }
        Way::Blocking => {
            let image = open();
            serve(job, |work| ours::blocking(&image, work));
        }
    }
}

/// Until standard input ends.
fn serve(job: &Job, mut run: impl FnMut(&Arc<Work>)) {
    for line in stdin().lock().lines() {
        let count = line.unwrap().parse().expect("a number of operations");
        let work = Arc::new(job.work(count));
        let (start, cpu) = (Instant::now(), raw::cpu_time());
        run(&work);
        let (elapsed, cpu) = (start.elapsed(), raw::cpu_time() - cpu);
        println!(
            "{}",
            Sample {
                iops: count as f64 / elapsed.as_secs_f64(),
                cpu: cpu.as_secs_f64() * 1e6 / count as f64,
                peak: raw::peak_memory(),
            }
            .line()
        );
    }
}
