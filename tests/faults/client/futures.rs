//! Futures, many at a time, on a runtime of one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rbd::Image;

use super::{BEFORE_REOPEN, Lane, NOWHERE, Todo, Work, data};
use crate::journal::{BLOCK, Kind};

const DEPTH: u64 = 16;

pub(super) fn run(work: &Work<'_>, image: Image) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let image = Arc::new(image);
    let done = AtomicU64::new(0);
    let lane = async |mut lane: Lane| {
        while work.goes_on() && done.fetch_add(1, Ordering::Relaxed) < BEFORE_REOPEN {
            tokio::time::sleep(work.pace()).await;
            if !step(work, &image, lane.next()).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    runtime.block_on(async {
        let mut lanes: Vec<_> =
            Lane::all(work.spec, DEPTH).into_iter().map(|each| Box::pin(lane(each))).collect();
        // All futures belong to this task: after any wake, each is polled.
        std::future::poll_fn(|cx| {
            lanes.retain_mut(|lane| lane.as_mut().poll(cx).is_pending());
            if lanes.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
    let id = work.journal.begin(Kind::Close, 0, 0);
    let image = Arc::into_inner(image).expect("no operation has it");
    let closed = runtime.block_on(async { image.start_close().await });
    work.end(id, &closed);
}

async fn step(work: &Work<'_>, image: &Image, todo: Todo) -> bool {
    let id = todo.begin(work.journal);
    let aio = image.aio();
    let result = match todo {
        Todo::Write { block, count } if count == 2 => {
            let data = Bytes::from(data(block, count, id));
            let halves = vec![data.slice(..BLOCK as usize), data.slice(BLOCK as usize..)];
            aio.write_vectored(block * BLOCK, halves).await
        }
        Todo::Write { block, count } => aio.write(block * BLOCK, data(block, count, id)).await,
        Todo::WriteSame { block } => aio.write_same(block * BLOCK, BLOCK, data(block, 1, id)).await,
        Todo::WriteZeroes { block, count } => aio.write_zeroes(block * BLOCK, count * BLOCK).await,
        Todo::Discard { block, count } => aio.discard(block * BLOCK, count * BLOCK).await,
        Todo::Read { block, count } => match aio.read(block * BLOCK, (count * BLOCK) as usize).await {
            Ok(found) => {
                work.journal.found(id, block, &found);
                return true;
            }
            Err(error) => Err(error),
        },
        Todo::Compare { block } => {
            let nowhere = Bytes::from_static(&NOWHERE);
            work.compared(id, aio.compare_and_write(block * BLOCK, nowhere.clone(), nowhere).await);
            return true;
        }
        Todo::Flush => aio.flush().await,
    };
    work.end(id, &result);
    result.is_ok()
}
