//! Handles that are dropped, closed or moved while something uses them.

use std::borrow::Borrow;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rbd::aio::AsyncCursor;
use rbd::image::Cursor;
use rbd::{Cluster, Image};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::test;
use crate::support::{Space, alone, block_on, builder};

const SIZE: u64 = 8 << 20;

#[test]
fn a_batch_outlives_the_handles_that_it_was_made_of() {
    if !alone(test!("handles::a_batch_outlives_the_handles_that_it_was_made_of")) {
        return;
    }
    let space = Space::new();
    let names: Vec<_> = (0..20).map(|number| format!("image{number}")).collect();
    let cluster: Cluster = builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    assert!(pool.batch(&names).run(|pool, name| pool.create(name, SIZE).run()).unwrap().is_complete());
    let shared = Arc::new(pool.open("image0").run().unwrap());
    let others = Mutex::new(Some((cluster, Arc::clone(&shared), pool.survey().run().unwrap())));
    let shared = Mutex::new(Some(shared));
    let report = pool.batch(&names).run(|pool, name| {
        let image = shared.lock().unwrap().clone();
        match name {
            "image7" => drop(others.lock().unwrap().take()),
            // The last reader closes it.
            "image9" => drop(shared.lock().unwrap().take()),
            _ => {}
        }
        if let Some(image) = image {
            image.read_at(&mut [0; 4096], 0)?;
        }
        let image = pool.open(name).run()?;
        image.write_all_at(&[7; 4096], 0)?;
        image.close()
    });
    // The first image may still be open in the other handle, which owns its lock.
    let failed = report.unwrap().failed;
    assert!(failed.is_empty(), "{failed:?}");
}

/// Begins reads, writes and flushes, and drops the cursor.
fn begin_and_drop(cursor: AsyncCursor<impl Borrow<Image> + Unpin>, round: u64) {
    let mut cursor = Box::pin(cursor.chunk_size(512 << (round % 8)).max_in_flight(8));
    let mut context = Context::from_waker(Waker::noop());
    for step in 0..round % 7 {
        let mut buffer = [7; 70_000];
        // Each may be pending, also when the next of another kind begins.
        match (round + step) % 4 {
            0 => {
                let _ = cursor.as_mut().poll_read(&mut context, &mut ReadBuf::new(&mut buffer));
            }
            1 | 2 => {
                let _ = cursor.as_mut().poll_write(&mut context, &buffer);
            }
            _ => {
                let _ = cursor.as_mut().poll_flush(&mut context);
            }
        }
    }
}

#[test]
fn a_cursor_is_dropped_at_any_moment() {
    if !alone(test!("handles::a_cursor_is_dropped_at_any_moment")) {
        return;
    }
    let space = Space::new();
    space.create("foo", SIZE).run().unwrap();
    for round in 0..60_u64 {
        let image = space.open("foo").run().unwrap();
        if round % 4 == 0 {
            // The cursor closes the image, which waits for all that is in flight.
            begin_and_drop(AsyncCursor::new(image), round);
            continue;
        }
        begin_and_drop(AsyncCursor::new(&image), round);
        // If the buffers in flight were freed, these are in their places.
        let others: Vec<_> = (0..64).map(|_| vec![0xEE_u8; 512 << (round % 8)]).collect();
        image.close().unwrap();
        assert!(others.iter().flatten().all(|byte| *byte == 0xEE), "round {round}: read into freed memory");
    }
    block_on(async {
        let mut cursor = AsyncCursor::new(space.open("foo").run().unwrap());
        cursor.write_all(&[9; 4096]).await.unwrap();
        cursor.flush().await.unwrap();
    });
    let mut data = vec![0; SIZE as usize];
    space.open("foo").run().unwrap().read_exact_at(&mut data, 0).unwrap();
    assert!(data.iter().all(|byte| [0, 7, 9].contains(byte)), "freed memory was written");
    assert!(data[..4096].iter().all(|byte| *byte == 9) && data.contains(&7));
}

#[test]
fn a_cursor_goes_on_after_an_error() {
    if !alone(test!("handles::a_cursor_goes_on_after_an_error")) {
        return;
    }
    let space = Space::new();
    space.create("foo", SIZE).run().unwrap();
    let reader: Image = space.open("foo").read_only(true).run().unwrap();
    block_on(async {
        let mut cursor = AsyncCursor::new(&reader).chunk_size(512);
        for _ in 0..3 {
            // Reported by the write or by the flush.
            let written = cursor.write_all(&[1; 4096]).await;
            let flushed = cursor.flush().await;
            assert!(written.is_err() || flushed.is_err());
            let mut context = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut cursor).poll_flush(&mut context);
            cursor.seek(SeekFrom::Start(0)).await.unwrap();
            let mut buffer = [1; 512];
            // One of the writes in flight may have failed since.
            if cursor.read_exact(&mut buffer).await.is_ok() {
                assert_eq!(buffer, [0; 512]);
            }
        }
    });
    let image = space.open("foo").run().unwrap();
    let mut cursor = Box::pin(AsyncCursor::new(&image).chunk_size(1 << 20));
    block_on(async {
        let mut buffer = vec![0; 1 << 20];
        cursor.read_exact(&mut buffer).await.unwrap();
        // The chunks that were read ahead lie behind the end now.
        image.resize(1 << 20).allow_shrink(true).run().unwrap();
        while matches!(cursor.read(&mut buffer).await, Ok(read) if read > 0) {}
        assert_eq!(cursor.read(&mut buffer).await.unwrap_or(0), 0);
        cursor.seek(SeekFrom::Start(0)).await.unwrap();
        cursor.read_exact(&mut buffer).await.unwrap();
    });
}

#[test]
fn a_cursor_seeks_anywhere() {
    if !alone(test!("handles::a_cursor_seeks_anywhere")) {
        return;
    }
    let space = Space::new();
    space.create("foo", SIZE).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let far = [(1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];
    let mut cursor = Cursor::new(&image);
    for to in far {
        assert_eq!(cursor.seek(SeekFrom::Start(to)).unwrap(), to);
        assert_eq!(cursor.read(&mut [0; 512]).unwrap(), 0);
        assert_eq!(cursor.write(&[0; 512]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(cursor.position(), to);
    }
    assert!(cursor.seek(SeekFrom::Current(1)).is_err() && cursor.position() == u64::MAX);
    assert!(cursor.seek(SeekFrom::End(i64::MIN)).is_err() && cursor.position() == u64::MAX);
    assert_eq!(cursor.seek(SeekFrom::End(i64::MAX)).unwrap(), (1 << 63) - 1 + SIZE);
    assert_eq!(cursor.seek(SeekFrom::Current(i64::MIN)).unwrap(), SIZE - 1);
    block_on(async {
        let mut cursor = AsyncCursor::new(&image);
        for to in far {
            assert_eq!(cursor.seek(SeekFrom::Start(to)).await.unwrap(), to);
            assert_eq!(cursor.read(&mut [0; 512]).await.unwrap(), 0);
            assert_eq!(cursor.write(&[0; 512]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(cursor.flush().await.is_ok() && cursor.position() == to);
        }
        assert!(cursor.seek(SeekFrom::Current(1)).await.is_err() && cursor.position() == u64::MAX);
        assert!(cursor.seek(SeekFrom::End(i64::MIN)).await.is_err() && cursor.position() == u64::MAX);
        assert_eq!(cursor.seek(SeekFrom::End(i64::MAX)).await.unwrap(), (1 << 63) - 1 + SIZE);
        assert_eq!(cursor.seek(SeekFrom::Current(i64::MIN)).await.unwrap(), SIZE - 1);
        let mut last = [1; 2];
        assert_eq!(cursor.read(&mut last).await.unwrap(), 1);
    });
    let mut cursor = Box::pin(AsyncCursor::new(&image));
    let mut context = Context::from_waker(Waker::noop());
    // A write without the end of the seek before it.
    tokio::io::AsyncSeek::start_seek(cursor.as_mut(), SeekFrom::Start(u64::MAX)).unwrap();
    let Poll::Ready(written) = cursor.as_mut().poll_write(&mut context, &[1; 512]) else { panic!("waits") };
    assert_eq!(written.unwrap(), 512);
}
