//! I/O on an image whose pool was deleted reports the deletion, on each path.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rbd::aio::AsyncCursor;
use rbd::image::Cursor;
use rbd::{Cluster, ErrorKind, Features, Image, ObjectKind, Queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{block_on, builder, cluster, unique};

const BLOCK: Bytes = Bytes::from_static(&[1; 512]);

/// Runs a test for each set of features on a handle whose pool another client deletes: with one
/// object written, and with a second one written after it, when librbd has the exclusive lock.
fn each(run: impl Fn(Image, &dyn Fn(rbd::Result<()>, &str))) {
    for features in [Features::LAYERING, Features::DEFAULT] {
        for written in [false, true] {
            let name = unique("deleted");
            cluster().pools().create(&name).unwrap();
            // Each test has its own connection: the operations that librbd keeps forever end with
            // it.
            let ours: Cluster = builder().call_timeout(Duration::from_secs(30)).connect().unwrap();
            let pool = ours.ioctx(&name).unwrap();
            pool.init().run().unwrap();
            pool.create("foo", 8 << 20).features(features).run().unwrap();
            let first = pool.open("foo").run().unwrap();
            first.write_all_at(&BLOCK, 0).unwrap();
            first.close().unwrap();
            let image = pool.open("foo").run().unwrap();
            if written {
                image.write_all_at(&BLOCK, 4 << 20).unwrap();
                image.flush().unwrap();
            }
            let other = cluster();
            other.pools().remove(&name).unwrap();
            // An OSD that does not know of the deletion would serve requests. A request with the
            // new map informs it.
            other.wait_for_latest_osdmap().unwrap();
            for object in 0..32 {
                let found = other.ioctx("rbd").unwrap().objects().stat(&format!("nothing-{object}"));
                assert!(found.unwrap_err().is_not_found());
            }
            run(image, &|outcome, what| {
                let what = format!("{what}, {features}, written before: {written}");
                let error = outcome.expect_err(&what);
                let missing = ErrorKind::NotFound { what: ObjectKind::Pool };
                assert_eq!(*error.kind(), missing, "{what}: {error}");
                let text = error.to_string();
                assert!(text.contains(&format!("the pool '{name}'")), "{what}: {text}");
            });
        }
    }
}

#[test]
fn blocking_calls() {
    each(|image, gone| {
        gone(image.write_all_at(&BLOCK, 0).and_then(|()| image.flush()), "write and flush");
        gone(image.read_exact_at(&mut [0; 512], 0), "read");
        gone(image.discard(0, 4 << 20).and_then(|()| image.flush()), "discard");
        gone(image.write_zeroes(0, 512).and_then(|()| image.flush()), "write zeroes");
        gone(image.write_same(0, 1024, &BLOCK).and_then(|()| image.flush()), "write same");
        gone(image.compare_and_write(0, &BLOCK, &BLOCK).map(drop), "compare");
        let mut cursor = Cursor::new(&image);
        gone(std::io::Read::read_exact(&mut cursor, &mut [0; 512]).map_err(inner), "cursor");
    });
}

#[test]
fn futures() {
    each(|image, gone| {
        let aio = image.aio();
        gone(aio.write(0, BLOCK).wait().and_then(|()| aio.flush().wait()), "write and flush");
        gone(block_on(aio.read(0, 512)).map(drop), "read");
        gone(aio.discard(0, 4 << 20).wait().and_then(|()| aio.flush().wait()), "discard");
        gone(aio.write_zeroes(0, 512).wait().and_then(|()| aio.flush().wait()), "write zeroes");
        gone(aio.compare_and_write(0, BLOCK, BLOCK).wait().map(drop), "compare");
        let outcome = block_on(async {
            let mut cursor = AsyncCursor::new(&image);
            cursor.write_all(&BLOCK).await?;
            cursor.flush().await
        });
        gone(outcome.map_err(inner), "cursor, written");
        let outcome = block_on(async { AsyncCursor::new(&image).read_exact(&mut [0; 512]).await });
        gone(outcome.map(drop).map_err(inner), "cursor, read");
    });
}

#[test]
fn a_queue() {
    each(|image, gone| {
        let image = Arc::new(image);
        let mut queue = match Queue::new(Arc::clone(&image), 8) {
            Ok(queue) => queue,
            // librbd 18.2 and later may read the header for it.
            Err(error) => return gone(Err(error), "a queue"),
        };
        queue.read(1, 0, 512, BytesMut::new()).unwrap();
        queue.compare_and_write(2, 0, BLOCK, BLOCK).unwrap();
        ends(&mut queue, |token, result| gone(result, &token.to_string()));
        queue.write(3, 0, BLOCK).unwrap();
        let mut failed = None;
        ends(&mut queue, |_, result| failed = result.err());
        if failed.is_none() {
            queue.flush(4).unwrap();
            ends(&mut queue, |_, result| failed = result.err());
        }
        gone(failed.map_or(Ok(()), Err), "write and flush");
    });
}

/// Checks that the error of a close does not say that the OSDs have something.
fn nothing_is_kept(closed: rbd::Result<()>) -> rbd::Result<()> {
    closed.inspect_err(|error| {
        let text = error.to_string();
        assert!(text.contains("the image is closed in any case"), "{text}");
    })
}

/// Closing has nothing to write, or cannot write.
#[test]
fn closing() {
    each(|image, gone| {
        let written = image.write_all_at(&BLOCK, 0);
        let closed = nothing_is_kept(image.close());
        if written.is_ok() {
            gone(closed, "close");
        }
    });
    each(|image, gone| {
        let written = image.aio().write(0, BLOCK).wait();
        let closed = nothing_is_kept(image.start_close().wait());
        if written.is_ok() {
            gone(closed, "start_close");
        }
    });
}

fn ends(queue: &mut Queue, mut each: impl FnMut(u64, rbd::Result<()>)) {
    while queue.in_flight() > 0 {
        assert!(queue.wait(Duration::from_secs(60)).unwrap(), "in time");
        while let Some(end) = queue.reap() {
            each(end.token, end.result);
        }
    }
}

fn inner(error: std::io::Error) -> rbd::Error {
    *error.into_inner().unwrap().downcast().unwrap()
}
