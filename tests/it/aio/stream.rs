//! An image as tokio's AsyncRead, AsyncWrite and AsyncSeek, and blocking calls that are awaited.

use std::future::Future;
use std::io::SeekFrom;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rbd::{ErrorKind, Image, aio::AsyncCursor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Builder;

use super::{Freezer, events, within};
use crate::support::Space;

fn image(space: &Space) -> Arc<Image> {
    space.create("foo", 16 << 20).run().unwrap();
    Arc::new(space.open("foo").run().unwrap())
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31 + n / 251 + seed) % 256) as u8).collect()
}

#[test]
fn what_is_written_is_read_with_any_chunk_and_depth() {
    let space = Space::new();
    let image = image(&space);
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for (seed, (chunk, depth)) in [(512, 1), (4096, 3), (100_000, 4), (1 << 20, 8)].into_iter().enumerate() {
        let image = Arc::clone(&image);
        let task = runtime.spawn(async move {
            let data = pattern(3_000_001, seed);
            let mut stream = AsyncCursor::new(Arc::clone(&image)).chunk_size(chunk).max_in_flight(depth);
            stream.seek(SeekFrom::Start(777)).await.unwrap();
            for piece in data.chunks(70_001) {
                stream.write_all(piece).await.unwrap();
            }
            assert_eq!(stream.position(), 777 + 3_000_001);
            // Not flushed yet, but visible to the same stream.
            stream.seek(SeekFrom::Current(-3_000_001)).await.unwrap();
            let mut back = vec![0; data.len()];
            stream.read_exact(&mut back).await.unwrap();
            assert!(back == data, "chunk {chunk}, depth {depth}");
            stream.flush().await.unwrap();
            let mut direct = vec![0; data.len()];
            image.read_exact_at(&mut direct, 777).unwrap();
            assert!(direct == data);
        });
        runtime.block_on(task).unwrap();
    }
}

#[test]
fn reads_and_writes_in_turns_agree_with_a_file() {
    let space = Space::new();
    let image = image(&space);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&*image).chunk_size(1024).max_in_flight(3);
        let mut model = vec![0_u8; 16 << 20];
        let mut position = 0_usize;
        for step in 0..400_usize {
            let len = step * 37 % 5000;
            match step % 5 {
                0 | 3 => {
                    let data = pattern(len, step);
                    stream.write_all(&data).await.unwrap();
                    model[position..position + len].copy_from_slice(&data);
                    position += len;
                }
                1 | 4 => {
                    let mut data = vec![0; len];
                    stream.read_exact(&mut data).await.unwrap();
                    assert!(data == model[position..position + len], "step {step}");
                    position += len;
                }
                _ => {
                    position = step * 7919 % 100_000;
                    stream.seek(SeekFrom::Start(position as u64)).await.unwrap();
                }
            }
        }
        stream.shutdown().await.unwrap();
        let mut all = vec![0; 200_000];
        image.read_exact_at(&mut all, 0).unwrap();
        assert!(all == model[..200_000]);
    });
}

#[test]
fn the_end_of_the_image() {
    let space = Space::new();
    let image = image(&space);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&*image);
        stream.seek(SeekFrom::End(-10)).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 10);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        let error = stream.write(&[1]).await.unwrap_err();
        let error = error.get_ref().unwrap().downcast_ref::<rbd::Error>().unwrap();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        stream.seek(SeekFrom::End(-3)).await.unwrap();
        assert_eq!(stream.write(&[1; 10]).await.unwrap(), 3);
        stream.flush().await.unwrap();
        assert!(stream.seek(SeekFrom::End(-(17 << 20))).await.is_err());
    });
}

#[test]
fn a_failed_write_behind_is_reported() {
    let space = Space::new();
    drop(image(&space));
    let image = space.open("foo").read_only(true).run().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&image).chunk_size(4096);
        stream.write_all(&[1; 4096]).await.unwrap();
        let error: rbd::Error = *stream.flush().await.unwrap_err().into_inner().unwrap().downcast().unwrap();
        assert!(error.is_read_only(), "{error}");
    });
}

/// Read-aheads are in flight together: if four are frozen, one thaw is enough for all.
#[test]
fn a_stream_dropped_in_flight() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let frozen = freezer.freeze();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(Arc::clone(&image));
        let mut buffer = [0; 10];
        let late = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut buffer)).await;
        assert!(late.is_err());
    });
    drop(frozen);
    within(Duration::from_secs(60), move || Arc::into_inner(image).unwrap().close()).unwrap();
}

/// Returns the submitted ranges, in chunks of 512 bytes.
fn submitted(operation: &str, run: impl FnOnce()) -> Vec<u64> {
    let number = |event: &String| {
        assert!(event.starts_with(&format!("TRACE message=submitted operation=\"{operation}\"")), "{event}");
        let (_, range) = event.split_once(" offset=").unwrap();
        let (offset, len) = range.split_once(" len=").unwrap();
        assert_eq!(len, "512");
        offset.parse::<u64>().unwrap() / 512
    };
    events::during(run).iter().map(number).collect()
}

/// Uses a stream of each depth while no operation ends: it must submit as many operations as its
/// depth.
fn as_many_as_it_is_deep(operation: &str, using: fn(&mut AsyncCursor<&Image>, &mut Context<'_>)) {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    for depth in [1, 4, 9] {
        let mut stream = AsyncCursor::new(&image).chunk_size(512).max_in_flight(depth);
        let chunks = submitted(operation, || using(&mut stream, &mut Context::from_waker(Waker::noop())));
        assert_eq!(chunks, (0..depth as u64).collect::<Vec<_>>(), "depth {depth}");
    }
    drop(frozen);
    within(Duration::from_secs(60), move || image.close()).unwrap();
}

#[test]
fn so_many_reads_run_ahead_as_was_asked_for() {
    as_many_as_it_is_deep("read", |stream, context| {
        // The second time there is nothing to do.
        for _ in 0..2 {
            let mut data = [0; 10];
            assert!(Pin::new(&mut *stream).poll_read(context, &mut ReadBuf::new(&mut data)).is_pending());
        }
    });
}

#[test]
fn the_depth_of_write_behind_is_respected() {
    as_many_as_it_is_deep("write", |stream, context| {
        let mut taken = 0;
        while let Poll::Ready(count) = Pin::new(&mut *stream).poll_write(context, &[1; 512]) {
            assert_eq!(count.unwrap(), 512);
            taken += 1;
            assert!(taken < 100, "it takes ever more");
        }
    });
}

/// Returns whether a future is pending when it is polled.
async fn is_stuck(future: impl Future) -> bool {
    tokio::time::timeout(Duration::from_millis(100), future).await.is_err()
}

#[test]
fn a_timed_out_flush_does_not_cover_later_writes() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(Arc::clone(&image)).chunk_size(512);
        stream.write_all(&[1; 512]).await.unwrap();
        // Waits until the write has ended, so that the flush is the abandoned operation.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        // A write elsewhere delays the image's flush.
        let frozen = freezer.freeze();
        let held_up = image.aio().write(1 << 20, vec![9; 512]);
        assert!(is_stuck(stream.flush()).await);
        stream.seek(SeekFrom::Start(512)).await.unwrap();
        stream.write_all(&[2; 512]).await.unwrap();
        drop(frozen);
        held_up.await.unwrap();
        // The old flush can end now. The new one follows the new write, so both are stuck.
        stream.read_exact(&mut [0; 1]).await.unwrap();
        let frozen = freezer.freeze();
        let held_up = image.aio().write(1 << 20, vec![9; 512]);
        assert!(is_stuck(stream.flush()).await, "it took the old flush for its own");
        drop(frozen);
        held_up.await.unwrap();
        stream.flush().await.unwrap();
    });
    within(Duration::from_secs(60), move || Arc::into_inner(image).unwrap().close()).unwrap();
}

#[test]
fn two_writes_to_one_place_are_not_in_flight_at_once() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let mut data = [0; 1024];
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(Arc::clone(&image)).chunk_size(512).max_in_flight(8);
        let frozen = freezer.freeze();
        stream.write_all(&[1; 512]).await.unwrap();
        stream.seek(SeekFrom::Start(512)).await.unwrap();
        assert!(!is_stuck(stream.write_all(&[2; 512])).await, "another place");
        stream.seek(SeekFrom::Start(100)).await.unwrap();
        assert!(is_stuck(stream.write_all(&[3; 100])).await, "the same place");
        drop(frozen);
        stream.write_all(&[3; 100]).await.unwrap();
        stream.flush().await.unwrap();
    });
    image.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(
        (&data[..100], &data[100..200], &data[200..512]),
        (&[1; 100][..], &[3; 100][..], &[1; 312][..])
    );
    assert_eq!(data[512..], [2; 512]);
    within(Duration::from_secs(60), move || Arc::into_inner(image).unwrap().close()).unwrap();
}

/// A small chunk that overlaps nothing could overlap something as a large one.
#[test]
fn the_chunk_can_grow_before_a_write_in_flight() {
    let freezer = Freezer::get();
    let image = Arc::new(freezer.image());
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(Arc::clone(&image)).chunk_size(4096).max_in_flight(8);
        let frozen = freezer.freeze();
        stream.seek(SeekFrom::Start(4096)).await.unwrap();
        stream.write_all(&[1; 4096]).await.unwrap();
        stream.seek(SeekFrom::Start(0)).await.unwrap();
        stream.write_all(&[2; 512]).await.unwrap();
        let mut stream = stream.chunk_size(1 << 20);
        assert!(is_stuck(stream.write_all(&[3; 8192])).await, "over the write in flight");
        drop(frozen);
        stream.write_all(&[3; 8192]).await.unwrap();
        stream.flush().await.unwrap();
    });
    let mut data = vec![0; 512 + 8192];
    image.read_exact_at(&mut data, 0).unwrap();
    assert_eq!((&data[..512], &data[512..]), (&[2; 512][..], &[3; 8192][..]));
    within(Duration::from_secs(60), move || Arc::into_inner(image).unwrap().close()).unwrap();
}

#[test]
fn the_chunk_can_become_smaller_than_written_data() {
    let space = Space::new();
    let image = image(&space);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let data = pattern(5000, 7);
        let mut stream = AsyncCursor::new(&*image).chunk_size(4096);
        stream.write_all(&data[..1000]).await.unwrap();
        let mut stream = stream.chunk_size(512).max_in_flight(1);
        stream.write_all(&data[1000..]).await.unwrap();
        stream.flush().await.unwrap();
        let mut back = vec![0; 5000];
        image.read_exact_at(&mut back, 0).unwrap();
        assert!(back == data);
    });
}

/// Each failure is reported once.
#[test]
fn a_failed_write_is_reported_once() {
    let space = Space::new();
    drop(image(&space));
    let image = space.open("foo").read_only(true).run().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&image).chunk_size(512).max_in_flight(1);
        stream.write_all(&[1; 512]).await.unwrap();
        assert!(stream.write_all(&[1; 1]).await.is_err());
        stream.flush().await.unwrap();
        stream.write_all(&[1; 512]).await.unwrap();
        stream.seek(SeekFrom::Start(0)).await.unwrap();
        assert!(stream.read_exact(&mut [0; 512]).await.is_err());
        assert_eq!(stream.read_exact(&mut [9; 512]).await.unwrap(), 512, "the stream goes on");
        stream.shutdown().await.unwrap();
    });
}

#[test]
fn positions_at_the_end_of_all_numbers() {
    let space = Space::new();
    let image = image(&space);
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&*image);
        assert_eq!(stream.seek(SeekFrom::Start(u64::MAX)).await.unwrap(), u64::MAX);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        assert!(stream.write(&[1; 10]).await.is_err());
        for overflow in [SeekFrom::Current(1), SeekFrom::Current(i64::MAX)] {
            assert!(stream.seek(overflow).await.is_err());
        }
        assert_eq!(stream.position(), u64::MAX);
        // With read-aheads in flight, at a position that was not read yet.
        stream.seek(SeekFrom::Start(0)).await.unwrap();
        stream.read_exact(&mut [0; 10]).await.unwrap();
        stream.seek(SeekFrom::End(-5)).await.unwrap();
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 5);
    });
}

#[test]
fn calls_that_block_are_awaited() {
    let space = Space::new();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let pool = space.with_namespace(space.namespace()).unwrap();
        let create = pool.clone();
        rbd::unblock(move || create.create("foo", 1 << 20).run()).await.unwrap();
        let image = pool.open("foo").await.unwrap();
        image.aio().write(0, "hello").await.unwrap();
        image.start_close().await.unwrap();
        rbd::unblock(move || pool.remove("foo").run()).await.unwrap();
    });
    assert!(space.list().unwrap().is_empty());
}

/// On the executor's own thread it would wait for a task that cannot run.
#[test]
fn a_call_that_blocks_does_not_block_the_executor() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (sender, news) = channel();
        let task = tokio::task::spawn(async move { sender.send(()) });
        let (heard, thread) =
            rbd::unblock(move || Ok((news.recv_timeout(Duration::from_secs(10)), thread::current().id())))
                .await
                .unwrap();
        assert!(heard.is_ok() && thread != thread::current().id(), "{heard:?} on {thread:?}");
        // The receiver is dropped only after the call.
        task.await.unwrap().unwrap();
    });
}
