//! Asynchronous closing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rbd::aio::AsyncCursor;
use rbd::{Image, Queue};
use tokio::io::AsyncWriteExt;

use super::{Freezer, Tracked, eventually, within};
use crate::support::{Space, block_on};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_closing_comes_after_what_is_in_flight() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    let write = image.aio().write(0, vec![3; 4096]);
    let start = Instant::now();
    let closing = image.start_close();
    let error = closing.timeout(Duration::from_millis(200)).wait().unwrap_err();
    assert!(error.is_timed_out() && start.elapsed() < Duration::from_secs(5), "{error}");
    drop(frozen);
    within(LIMIT, || write.wait()).unwrap();
}

#[test]
fn a_dropped_closing_continues() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let watchers = || space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len();
    for busy in [false, true] {
        let cluster = crate::support::builder().connect().unwrap();
        let ioctx = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let image = ioctx.open("foo").run().unwrap();
        let tracked = Tracked::default();
        drop((cluster, ioctx));
        if busy {
            drop(image.aio().write(0, tracked.bytes(4096)));
        }
        drop(image.start_close());
        eventually("it is closed", || watchers() == 0);
        eventually("the buffer is freed", || tracked.is_freed() == busy);
    }
}

#[test]
fn many_images_open_and_close_at_once() {
    let space = Space::new();
    for n in 0..8 {
        space.create(&format!("image-{n}"), 1 << 20).run().unwrap();
    }
    let names: Vec<String> = (0..8).map(|n| format!("image-{n}")).collect();
    let openings: Vec<_> = names.iter().map(|name| space.open(name).start()).collect();
    let images: Vec<_> = openings.into_iter().map(|opening| opening.wait().unwrap()).collect();
    let reads: Vec<_> = images.iter().map(|image| image.aio().read(0, 4096)).collect();
    let closings: Vec<_> = images.into_iter().map(|image| image.start_close()).collect();
    for closing in closings {
        closing.wait().unwrap();
    }
    for read in reads {
        read.wait().unwrap();
    }
}

type Leave = fn(&Image);

/// Ways to change 512 bytes at offset 4096 without hearing of the end.
const LEFT: [(&str, Leave); 5] = [
    ("dropped", |image| drop(image.aio().write(4096, Bytes::from_static(&[3; 512])))),
    ("timed out", |image| {
        let write = image.aio().write(4096, Bytes::from_static(&[3; 512]));
        assert!(write.timeout(Duration::from_millis(1)).wait().unwrap_err().is_timed_out());
    }),
    ("blocking", |image| {
        assert!(image.write_all_at(&[3; 512], 4096).unwrap_err().to_string().contains("continues in the"));
    }),
    ("zeroes, blocking", |image| {
        assert!(image.write_zeroes(4096, 512).unwrap_err().to_string().contains("continues in the"));
    }),
    ("cursor", |image| {
        block_on(async {
            let mut cursor = AsyncCursor::new(image).chunk_size(512);
            tokio::io::AsyncSeekExt::seek(&mut cursor, std::io::SeekFrom::Start(4096)).await.unwrap();
            cursor.write_all(&[3; 512]).await.unwrap();
        });
    }),
];

/// Neither a dropped future nor a timeout says whether a write was done. The connection's OSD
/// timeout ends it.
#[test]
fn closing_tells_of_a_write_that_failed_unheard() {
    let freezer = Freezer::get();
    type Close = fn(Image) -> rbd::Result<()>;
    let queue: Close = |image| Queue::new(image, 1).unwrap().close();
    let closes: [(&str, Close); 3] =
        [("close", Image::close), ("start_close", |image| image.start_close().wait()), ("queue", queue)];
    let open = || {
        let name = freezer.image().name().unwrap();
        let builder = rbd::Cluster::builder().ignore_environment(true).conf_file(freezer.conf());
        let builder = builder.osd_timeout(Duration::from_secs(3)).call_timeout(Duration::from_secs(2));
        let image = builder.connect().unwrap().ioctx("rbd").unwrap().open(&name).run().unwrap();
        // From here on it has the exclusive lock, so only data operations wait.
        image.write_all_at(&[1], 0).unwrap();
        image
    };
    let mut images = Vec::new();
    for (left, leave) in LEFT {
        for (close, run) in closes {
            images.push((format!("{left}, {close}"), open(), leave, run));
        }
    }
    let frozen = freezer.freeze();
    std::thread::scope(|scope| {
        for (_, image, leave, _) in &images {
            scope.spawn(move || leave(image));
        }
    });
    std::thread::sleep(Duration::from_secs(4));
    drop(frozen);
    for (what, image, _, close) in images {
        let error = close(image).expect_err(&what);
        assert!(error.is_timed_out(), "{what}: {error}");
        let change = if what.starts_with("zeroes") { "write zeroes to" } else { "write" };
        let said = format!("cannot {change} 512 bytes at offset 4096");
        assert!(error.to_string().contains(&said), "{what}: {error}");
    }
}

#[test]
fn closing_tells_only_of_what_failed_unheard() {
    let space = Space::new();
    space.create("foo", 64 << 30).run().unwrap();
    let open = || space.open("foo").read_only(true).run().unwrap();
    let write = |image: &Image| image.aio().write(0, Bytes::from_static(&[1; 512]));
    // A failure that was received, and reads, are not told.
    let image = open();
    assert!(write(&image).wait().unwrap_err().is_read_only());
    assert!(image.write_all_at(&[1], 0).is_err() && image.discard(0, 4 << 20).is_err());
    drop(image.aio().read(0, 4096));
    image.close().unwrap();
    // A future that ended and was dropped.
    let image = open();
    let (one, two) = (write(&image), write(&image));
    two.wait().unwrap_err();
    std::thread::sleep(Duration::from_millis(200));
    drop(one);
    let error = image.close().unwrap_err();
    assert!(error.is_read_only() && error.to_string().contains("had been given up"), "{error}");
    // A late success is a success.
    let image = space.open("foo").run().unwrap();
    drop(write(&image));
    image.close().unwrap();
    // What is longer than 1 GiB is done in parts, and is not continued.
    let image = space.open("foo").run().unwrap();
    drop(image.aio().discard(0, 64 << 30));
    let error = image.close().unwrap_err();
    assert!(error.to_string().contains("after a part of it was done"), "{error}");
}
