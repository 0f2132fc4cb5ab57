//! Asynchronous I/O in two ways: counts the zeros of an image, with futures on tokio and with a
//! queue in an event loop.
//!
//!     cargo run --example aio -- foo
//!
//! Both keep several reads in flight. Futures are the simple way, on any executor. A [`Queue`]
//! needs no allocation and no wake per operation, for programs with a loop around poll, epoll or
//! `io_uring`.

mod common;

use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use common::{ClusterFlags, Failure, ImageArgs, failed, iec, print};
use rbd::{Image, IoCtx, Queue, queue::Buffer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::task::JoinSet;

/// How many reads are in flight.
const DEPTH: usize = 16;
/// The bytes of a read.
const BLOCK: u64 = 1 << 20;
/// The timeout. Without one, Ceph retries forever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Count the zeros of an image.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageArgs,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let spec = args.image.spec()?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
    let found = runtime.block_on(by_futures(&pool, &spec.image)).map_err(failed("aio error"))?;
    print(&format!("futures: {} of zeros\n", iec(found)))?;

    let image = pool.open(&spec.image).read_only(true).run().map_err(failed("aio error"))?;
    let found = by_queue(image).map_err(failed("aio error"))?;
    print(&format!("queue: {} of zeros\n", iec(found)))
}

/// Reads in tasks. Opening, closing and dropping the image do not block the runtime.
async fn by_futures(pool: &IoCtx, name: &str) -> rbd::Result<u64> {
    let image = pool.open(name).read_only(true).start().timeout(PATIENCE).await?;
    let mut zeros = 0;
    let mut reads = JoinSet::new();
    // This does not block, because librbd knows the size of an image that was just opened.
    for (offset, len) in blocks(image.size()?) {
        if reads.len() == DEPTH {
            zeros += reads.join_next().await.map_or(Ok(0), |ended| ended.expect("no task panics"))?;
        }
        // The read is submitted here. After the timeout it is abandoned, and its buffer lives until
        // Ceph has completed it.
        let read = image.aio().read(offset, len).timeout(PATIENCE);
        reads.spawn(async { Ok::<u64, rbd::Error>(count(&read.await?)) });
    }
    while let Some(ended) = reads.join_next().await {
        zeros += ended.expect("no task panics")?;
    }
    image.start_close().timeout(PATIENCE).await?;
    Ok(zeros)
}

/// Reads through a queue: a loop polls its descriptor, usually among others, and reaps completions
/// when it is readable.
fn by_queue(image: Image) -> rbd::Result<u64> {
    let mut blocks = blocks(image.size()?).peekable();
    let mut queue = Queue::new(image, DEPTH)?;
    let mut free: Vec<BytesMut> = (0..DEPTH).map(|_| BytesMut::with_capacity(BLOCK as usize)).collect();
    let mut zeros = 0;
    loop {
        while let (Some((offset, len)), Some(buffer)) = (blocks.next_if(|_| !free.is_empty()), free.pop()) {
            // The token is returned with the result. Here it is the offset.
            queue.read(offset, offset, len, buffer)?;
        }
        if queue.in_flight() == 0 {
            return queue.close().map(|()| zeros);
        }
        let mut watched = [PollFd::new(&queue, PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        if poll(&mut watched, Some(&patience)) == Ok(0) {
            eprintln!("aio: no read has ended for {PATIENCE:?}; are monitors and OSDs up?");
        }
        while let Some(end) = queue.reap() {
            end.result?;
            if let Buffer::BytesMut(mut buffer) = end.buffer {
                zeros += count(&buffer);
                buffer.clear();
                free.push(buffer);
            }
        }
    }
}

/// Returns offsets and lengths.
fn blocks(size: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..size).step_by(BLOCK as usize).map(move |offset| (offset, BLOCK.min(size - offset) as usize))
}

fn count(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == 0)).sum()
}
