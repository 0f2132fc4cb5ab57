//! An operation that another client's shrink cuts off never returns Ok, and its error says why.

use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rbd::aio::AsyncCursor;
use rbd::image::{Cursor, UpdateWatch};
use rbd::{Cluster, ErrorKind, Features, Image, IoCtx, Queue};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::support::{Space, block_on, builder};

const MIB: u64 = 1 << 20;
const LARGE: u64 = 16 * MIB;
/// Not a multiple of the block size, so that a compare-and-write can lie across the end.
const SMALL: u64 = 4 * MIB - 256;
/// Offset and length: beyond the new end, and across it.
const CUT: [(u64, u64); 2] = [(12 * MIB, 512), (4 * MIB - 512, 512)];

fn masks() -> [Features; 3] {
    let lock = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    [Features::LAYERING, lock, lock | Features::OBJECT_MAP | Features::FAST_DIFF]
}

/// An image that is open here, and through another connection, which changes its size.
struct Shared {
    ours: Arc<Image>,
    theirs: Image,
    news: Receiver<()>,
    _watch: UpdateWatch,
    _other: Cluster,
}

impl Shared {
    fn new(space: &Space, name: &str, features: Features, written: bool) -> Shared {
        space.create(name, LARGE).features(features).run().unwrap();
        let other = builder().connect().unwrap();
        let elsewhere: IoCtx = other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let ours = Arc::new(space.open(name).run().unwrap());
        let theirs = elsewhere.open(name).run().unwrap();
        let (sender, news) = channel();
        let sender = std::sync::Mutex::new(sender);
        let watch = ours.watch_updates(move || sender.lock().unwrap().send(()).unwrap_or(())).unwrap();
        if written {
            ours.write_all_at(&[1; 4096], 0).unwrap();
            ours.flush().unwrap();
        }
        Shared { ours, theirs, news, _watch: watch, _other: other }
    }

    /// Grows the image, and waits until `read` has seen that. Then the other client shrinks it.
    fn shrink(&self, mut read: impl FnMut(u64) -> bool) {
        self.theirs.resize(LARGE).run().unwrap();
        while !read(LARGE - 512) {
            std::thread::sleep(Duration::from_millis(1));
        }
        while self.news.try_recv().is_ok() {}
        self.theirs.resize(SMALL).allow_shrink(true).run().unwrap();
        self.news.recv_timeout(Duration::from_secs(60)).expect("the change is heard of");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn out_of_range<T>(outcome: rbd::Result<T>, what: &str, range: (u64, u64)) {
    let Err(error) = outcome else { panic!("{what} at {range:?}: Ok") };
    let expected = ErrorKind::OutOfRange { offset: range.0, len: range.1, size: SMALL };
    assert_eq!(*error.kind(), expected, "{what} at {range:?}: {error}");
}

fn bytes(byte: u8) -> Bytes {
    vec![byte; 512].into()
}

#[test]
fn futures() {
    let space = Space::new();
    type Submit = fn(&Image, u64, u64) -> rbd::Result<()>;
    let submit: [(&str, Submit); 7] = [
        ("write", |image, at, _| image.aio().write(at, bytes(1)).wait()),
        ("write vectored", |image, at, _| image.aio().write_vectored(at, vec![bytes(1)]).wait()),
        ("write same", |image, at, len| image.aio().write_same(at, len, bytes(1)).wait()),
        ("write zeroes", |image, at, len| image.aio().write_zeroes(at, len).wait()),
        ("discard", |image, at, len| image.aio().discard(at, len).wait()),
        ("compare", |image, at, _| image.aio().compare_and_write(at, bytes(0), bytes(1)).wait().map(drop)),
        ("read", |image, at, len| image.aio().read(at, len as usize).wait().map(drop)),
    ];
    for (mask, features) in (0..).zip(masks()) {
        for written in [false, true] {
            let shared = Shared::new(&space, &format!("{mask}{written}"), features, written);
            for range in CUT {
                for (what, submit) in submit {
                    shared.shrink(|at| shared.ours.aio().read(at, 512).wait().is_ok());
                    let outcome = submit(&shared.ours, range.0, range.1);
                    out_of_range(outcome, &format!("{what}, {features}, written: {written}"), range);
                }
            }
        }
    }
}

#[test]
fn a_queue() {
    let space = Space::new();
    for (mask, features) in (0..).zip(masks()) {
        for written in [false, true] {
            let shared = Shared::new(&space, &format!("{mask}{written}"), features, written);
            let mut queue = Queue::new(Arc::clone(&shared.ours), 8).unwrap();
            let end = |queue: &mut Queue| loop {
                if let Some(end) = queue.reap() {
                    return end.result;
                }
                queue.wait(None).unwrap();
            };
            for (at, len) in CUT {
                for what in
                    ["write", "write vectored", "write same", "write zeroes", "discard", "compare", "read"]
                {
                    shared.shrink(|at| {
                        queue.read(0, at, 512, BytesMut::new()).is_ok() && end(&mut queue).is_ok()
                    });
                    match what {
                        "write" => queue.write(0, at, bytes(1)),
                        "write vectored" => queue.write_vectored(0, at, vec![bytes(1)]),
                        "write same" => queue.write_same(0, at, len, bytes(1)),
                        "write zeroes" => queue.write_zeroes(0, at, len),
                        "discard" => queue.discard(0, at, len),
                        "compare" => queue.compare_and_write(0, at, bytes(0), bytes(1)),
                        _ => queue.read(0, at, len as usize, BytesMut::new()),
                    }
                    .unwrap();
                    let outcome = end(&mut queue);
                    out_of_range(outcome, &format!("{what}, {features}, written: {written}"), (at, len));
                }
            }
        }
    }
}

#[test]
fn blocking_calls() {
    let space = Space::new();
    for (mask, features) in (0..).zip(masks()) {
        let shared = Shared::new(&space, &mask.to_string(), features, true);
        let image = &shared.ours;
        let read = |at| image.read_exact_at(&mut [0; 512], at).is_ok();
        for (at, len) in CUT {
            for what in ["write", "write same", "write zeroes", "discard", "compare", "read", "lend"] {
                shared.shrink(read);
                let outcome = match what {
                    "write" => image.write_all_at(&bytes(1), at),
                    "write same" => image.write_same(at, len, &bytes(1)),
                    "write zeroes" => image.write_zeroes(at, len),
                    "discard" => image.discard(at, len),
                    "compare" => image.compare_and_write(at, &bytes(0), &bytes(1)).map(drop),
                    "lend" => image.read_each(at, len, |_, _| ControlFlow::Continue(())),
                    _ => image.read_exact_at(&mut [0; 512], at),
                };
                out_of_range(outcome, &format!("{what}, {features}"), (at, len));
            }
        }
    }
}

#[test]
fn cursors() {
    let space = Space::new();
    for (mask, features) in (0..).zip(masks()) {
        let shared = Shared::new(&space, &mask.to_string(), features, true);
        for range in CUT {
            shared.shrink(|at| shared.ours.aio().read(at, 512).wait().is_ok());
            let mut cursor = Cursor::new(&*shared.ours);
            cursor.seek(SeekFrom::Start(range.0)).unwrap();
            assert!(cursor.write_all(&[1; 512]).is_err());
            shared.shrink(|at| shared.ours.aio().read(at, 512).wait().is_ok());
            let error = block_on(async {
                let mut cursor = AsyncCursor::new(&*shared.ours);
                cursor.seek(SeekFrom::Start(range.0)).await?;
                cursor.write_all(&[1; 512]).await?;
                cursor.flush().await
            })
            .expect_err("the end was cut off");
            let error = error.into_inner().unwrap().downcast::<rbd::Error>().unwrap();
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { size: SMALL, .. }), "{error}");
        }
    }
}

/// A change of the header that keeps the size does not affect operations in flight.
#[test]
fn other_changes_cut_nothing() {
    let space = Space::new();
    let shared = Shared::new(&space, "foo", masks()[2], true);
    for round in 0..5 {
        shared.theirs.snapshots().create(&round.to_string()).run().unwrap();
        let aio = shared.ours.aio();
        let many: Vec<_> = (0..64).map(|block| aio.write(LARGE - 512 * (block + 1), bytes(2))).collect();
        many.into_iter().for_each(|write| write.wait().unwrap());
    }
    shared.theirs.resize(2 * LARGE).run().unwrap();
    shared.news.recv_timeout(Duration::from_secs(10)).unwrap();
    shared.ours.aio().write(2 * LARGE - 512, bytes(3)).wait().unwrap();
}
