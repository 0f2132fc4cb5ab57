//! Another client disables the feature exclusive-lock of an image whose lock this client has. The
//! owner carries that out. From then on no lock keeps anybody from writing, so the owner's calls
//! say that the lock is lost, with each set of features and each way of I/O.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::aio::AsyncCursor;
use rbd::features::Plan;
use rbd::image::Cursor;
use rbd::{Features, Image, Queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Space, block_on, builder, cluster, unique};

const LIMIT: Duration = Duration::from_secs(60);

/// Everything that another client disables together with the lock.
const REST: Features = Features::OBJECT_MAP.union(Features::FAST_DIFF).union(Features::JOURNALING);

fn data() -> Bytes {
    Bytes::from_static(&[1; 512])
}

fn lost<T>(outcome: rbd::Result<T>, what: &str) {
    let Err(error) = outcome else { panic!("{what}: Ok") };
    assert!(error.is_lock_lost(), "{what}: {error}");
}

fn inner(error: std::io::Error) -> rbd::Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

/// Repeats a write until it fails, which must be because of the lock.
fn write_until_lost(what: &str, mut write: impl FnMut() -> rbd::Result<()>) {
    let deadline = Instant::now() + LIMIT;
    let error = loop {
        match write() {
            Ok(()) => assert!(Instant::now() < deadline, "{what}: it writes on"),
            Err(error) => break error,
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(error.is_lock_lost(), "{what}: {error}");
}

/// Runs `check` with a handle that acquired the lock, another client's handle after it disabled the
/// feature, and the image's former features.
fn with_each_set_of_features(check: impl Fn(&str, Image, Image, Features)) {
    let space = Space::new();
    let (cluster, pool) = (cluster(), unique("data"));
    cluster.pools().create(&pool).unwrap();
    let other = builder().connect().unwrap();
    let elsewhere = other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let lock = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    let fast = lock | Features::OBJECT_MAP | Features::FAST_DIFF;
    let sets = [
        ("lock", lock),
        ("fast", fast),
        ("journaling", lock | Features::JOURNALING),
        ("all", fast | Features::JOURNALING),
        ("striped", fast | Features::JOURNALING),
        ("data", fast | Features::DEEP_FLATTEN),
    ];
    for (name, features) in sets {
        let new = space.create(name, 8 << 20).features(features);
        let new = match name {
            "striped" => new.striping(64 << 10, 2),
            "data" => new.data_pool(&pool),
            _ => new,
        };
        new.run().unwrap();
        let ours = space.open(name).run().unwrap();
        let features = ours.features().unwrap();
        ours.snapshots().create("s").run().unwrap();
        ours.exclusive_lock().acquire().unwrap();
        ours.write_all_at(&data(), 0).unwrap();
        let theirs = elsewhere.open(name).run().unwrap();
        let without = features - REST - Features::EXCLUSIVE_LOCK;
        theirs.apply(&Plan::to_support(features, without).unwrap()).unwrap();
        assert_eq!(theirs.features().unwrap(), without);
        check(name, ours, theirs, features);
        for snapshot in space.open(name).run().unwrap().snapshots().list().unwrap() {
            space.open(name).run().unwrap().snapshots().remove(&snapshot.name).unprotect(true).run().unwrap();
        }
        space.remove(name).run().unwrap();
    }
    cluster.pools().remove(&pool).unwrap();
}

#[test]
fn blocking_calls() {
    with_each_set_of_features(|name, ours, theirs, features| {
        let named = |what: &str| format!("{name}: {what}");
        write_until_lost(&named("write"), || ours.write_all_at(&data(), 0));
        lost(ours.discard(0, 1 << 20), &named("discard"));
        lost(ours.write_zeroes(0, 512), &named("write zeroes"));
        lost(ours.write_same(0, 512, &data()), &named("write same"));
        lost(ours.compare_and_write(0, &data(), &data()), &named("compare"));
        lost(ours.read_exact_at(&mut [0; 512], 0), &named("read"));
        lost(Cursor::new(&ours).write_all(&data()).map_err(inner), &named("cursor"));
        lost(Cursor::new(&ours).read_exact(&mut [0; 512]).map_err(inner), &named("cursor's read"));
        lost(ours.flush(), &named("flush"));
        assert!(!ours.exclusive_lock().is_owner().unwrap(), "{name}");
        theirs.write_all_at(&data(), 0).unwrap();
        lost(ours.exclusive_lock().release(), &named("release"));
        ours.write_all_at(&data(), 0).unwrap();
        theirs.enable_features(features & (REST | Features::EXCLUSIVE_LOCK)).unwrap();
        ours.exclusive_lock().acquire().unwrap();
        ours.write_all_at(&data(), 0).unwrap();
        ours.close().unwrap();
    });
}

#[test]
fn futures() {
    with_each_set_of_features(|name, ours, theirs, _| {
        let named = |what: &str| format!("{name}: {what}");
        let aio = ours.aio();
        write_until_lost(&named("write"), || aio.write(0, data()).wait());
        lost(block_on(aio.write(0, data())), &named("write, polled"));
        lost(aio.discard(0, 1 << 20).wait(), &named("discard"));
        lost(aio.write_zeroes(0, 512).wait(), &named("write zeroes"));
        lost(aio.write_same(0, 512, data()).wait(), &named("write same"));
        lost(aio.compare_and_write(0, data(), data()).wait(), &named("compare"));
        lost(aio.read(0, 512).wait(), &named("read"));
        lost(aio.flush().wait(), &named("flush"));
        let outcome = block_on(async {
            let mut cursor = AsyncCursor::new(&ours);
            cursor.write_all(&data()).await?;
            cursor.flush().await
        });
        lost(outcome.map_err(inner), &named("cursor"));
        let read = block_on(async { AsyncCursor::new(&ours).read_exact(&mut [0; 512]).await });
        lost(read.map_err(inner), &named("cursor's read"));
        theirs.write_all_at(&data(), 0).unwrap();
        lost(ours.close(), &named("close"));
    });
}

#[test]
fn a_cursor_alone() {
    with_each_set_of_features(|name, ours, _, _| {
        write_until_lost(name, || {
            let outcome = block_on(async {
                let mut cursor = AsyncCursor::new(&ours);
                cursor.write_all(&data()).await?;
                cursor.flush().await
            });
            outcome.map_err(inner)
        });
        lost(block_on(ours.start_close()), name);
    });
}

#[test]
fn a_queue() {
    with_each_set_of_features(|name, ours, theirs, _| {
        let named = |what: &str| format!("{name}: {what}");
        let mut queue = Queue::new(ours, 8).unwrap();
        let end = |queue: &mut Queue| loop {
            assert!(queue.wait(LIMIT).unwrap());
            if let Some(end) = queue.reap() {
                return end.result;
            }
        };
        write_until_lost(&named("write"), || {
            queue.write(0, 0, data())?;
            end(&mut queue)
        });
        queue.discard(1, 0, 1 << 20).unwrap();
        queue.write_zeroes(2, 0, 512).unwrap();
        queue.write_same(3, 0, 512, data()).unwrap();
        queue.compare_and_write(4, 0, data(), data()).unwrap();
        queue.read(5, 0, 512, BytesMut::new()).unwrap();
        queue.flush(6).unwrap();
        for _ in 1..=6 {
            lost(end(&mut queue), &named("an operation"));
        }
        theirs.write_all_at(&data(), 0).unwrap();
        queue.write(7, 0, data()).unwrap();
        lost(queue.close(), &named("close"));
    });
}

/// A call that changes the image.
type Call = (&'static str, fn(&Image) -> rbd::Result<()>);

/// Changes of the data, and those of librbd's that need the lock.
const NEED_THE_LOCK: &[Call] = &[
    ("enlarge", |image| image.resize(9 << 20).run()),
    ("shrink", |image| image.resize(4 << 20).allow_shrink(true).run()),
    ("create a snapshot", |image| image.snapshots().create("t").run()),
    ("roll back", |image| image.snapshots().rollback("s").run()),
    ("remove a snapshot", |image| image.snapshots().remove("s").run()),
    ("sparsify", |image| image.sparsify(4096).run()),
];

/// What every client may change at any time.
const NEED_NO_LOCK: &[Call] = &[
    ("protect a snapshot", |image| image.snapshots().protect("s")),
    ("rename a snapshot", |image| image.snapshots().rename("s", "u")),
    ("set metadata", |image| image.metadata().set("key", "value")),
    ("enable features", |image| image.enable_features(Features::EXCLUSIVE_LOCK)),
];

#[test]
fn changes_of_the_image() {
    with_each_set_of_features(|name, ours, _, _| {
        write_until_lost(name, || ours.write_all_at(&data(), 0));
        for (what, change) in NEED_THE_LOCK {
            lost(change(&ours), &format!("{name}: {what}"));
        }
        for (what, change) in NEED_NO_LOCK {
            change(&ours).unwrap_or_else(|error| panic!("{name}: {what}: {error}"));
        }
        lost(ours.close(), name);
    });
}
