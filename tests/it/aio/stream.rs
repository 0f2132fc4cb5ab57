//! An image as tokio's AsyncRead, AsyncWrite and AsyncSeek, and calls that block awaited.

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use rbd::{AsyncCursor, ErrorKind, Image};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::Builder;

use super::{Freezer, within};
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
            let mut stream = AsyncCursor::new(Arc::clone(&image)).chunk(chunk).depth(depth);
            stream.seek(SeekFrom::Start(777)).await.unwrap();
            for piece in data.chunks(70_001) {
                stream.write_all(piece).await.unwrap();
            }
            assert_eq!(stream.position(), 777 + 3_000_001);
            // Not flushed yet, but seen by the same stream.
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
        let mut stream = AsyncCursor::new(&*image).chunk(1024).depth(3);
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
fn a_write_that_fails_behind_is_reported() {
    let space = Space::new();
    drop(image(&space));
    let image = space.open("foo").read_only().run().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut stream = AsyncCursor::new(&image).chunk(4096);
        stream.write_all(&[1; 4096]).await.unwrap();
        let error: rbd::Error = *stream.flush().await.unwrap_err().into_inner().unwrap().downcast().unwrap();
        assert!(error.is_read_only(), "{error}");
    });
}

/// Reads ahead are in flight together: with four of them frozen, one thaw is enough for all.
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

#[test]
fn calls_that_block_are_awaited() {
    let space = Space::new();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let pool = space.with_namespace(space.namespace()).unwrap();
        let create = pool.clone();
        rbd::unblock(move || create.create("foo", 1 << 20).run()).await.unwrap();
        let image = pool.open("foo").await.unwrap();
        image.aio().write(0, "hello".into()).await.unwrap();
        image.start_close().await.unwrap();
        rbd::unblock(move || pool.remove("foo").run()).await.unwrap();
    });
    assert!(space.images().unwrap().is_empty());
}
