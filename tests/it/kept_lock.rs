//! I/O while another client keeps the exclusive lock reports that and names the client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::aio::AsyncCursor;
use rbd::error::Holder;
use rbd::features::Plan;
use rbd::image::Cursor;
use rbd::{ErrorKind, Features, Image, Queue};
use tokio::io::AsyncWriteExt;

use crate::support::{Space, block_on, builder, stop};

fn both(run: impl Fn(Arc<Image>, &dyn Fn(rbd::Result<()>, &str))) {
    let space = Space::new();
    let lock = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    let all = lock | Features::OBJECT_MAP | Features::FAST_DIFF | Features::JOURNALING;
    for (name, features) in [("lock", lock), ("all", all)] {
        space.create(name, 8 << 20).features(features).run().unwrap();
        let other = builder().connect().unwrap();
        let elsewhere = other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let theirs = elsewhere.open(name).run().unwrap();
        let ours = Arc::new(space.open(name).run().unwrap());
        theirs.exclusive_lock().acquire().unwrap();
        let owner = ours.exclusive_lock().owner().unwrap().expect("somebody has it").address;
        let keeper = |outcome: rbd::Result<()>, what: &str| {
            let error = outcome.expect_err(what);
            let ErrorKind::Busy { holders } = error.kind() else { panic!("{what}: {error}") };
            let client = format!("client.{}", other.instance_id());
            let holder = Holder::LockOwner { client, address: owner.clone() };
            assert_eq!(holders[..], [holder], "{what}: {error}");
            assert!(error.to_string().contains(owner.as_str()), "{error}");
        };
        run(ours, &keeper);
        theirs.close().unwrap();
    }
}

fn data() -> Bytes {
    Bytes::from_static(&[1; 512])
}

#[test]
fn blocking_calls() {
    both(|image, keeper| {
        keeper(image.write_all_at(&data(), 0), "write");
        keeper(image.discard(0, 1 << 20), "discard");
        keeper(image.write_zeroes(0, 512), "write zeroes");
        keeper(image.write_same(0, 512, &data()), "write same");
        keeper(image.compare_and_write(0, &data(), &data()).map(drop), "compare");
        keeper(Cursor::new(&*image).write_all(&data()).map_err(inner), "cursor");
    });
}

/// To enable journaling, librbd needs the lock itself. The owner carries out the other changes.
#[test]
fn changes_of_features() {
    both(|image, keeper| {
        let map = Features::OBJECT_MAP | Features::FAST_DIFF;
        let before = image.features().unwrap();
        image.disable_features(Features::JOURNALING).unwrap();
        keeper(image.enable_features(Features::JOURNALING), "enable journaling");
        let both = map | Features::JOURNALING;
        image.disable_features(map).unwrap();
        assert_eq!(image.features().unwrap(), before - both);
        keeper(image.enable_features(both), "enable journaling and the object map");
        assert_eq!(image.features().unwrap(), before - both);
        image.enable_features(map).unwrap();
        let plan = Plan::to_support(image.features().unwrap(), before - both).unwrap();
        image.apply(&plan).unwrap();
        assert_eq!(image.features().unwrap(), before - both);
    });
}

/// A lock never explains the failure of a handle that may not write.
#[test]
fn a_handle_that_only_reads() {
    both(|image, _| {
        let name = image.name().unwrap();
        let reads = image.ioctx().open(&name).read_only(true).run().unwrap();
        for error in
            [reads.write_all_at(&data(), 0).unwrap_err(), reads.aio().write(0, data()).wait().unwrap_err()]
        {
            assert_eq!(*error.kind(), ErrorKind::ReadOnly, "{error}");
        }
    });
}

#[test]
fn futures() {
    both(|image, keeper| {
        let aio = image.aio();
        keeper(aio.write(0, data()).wait(), "write");
        keeper(block_on(aio.write(0, data())), "write, polled");
        keeper(aio.discard(0, 1 << 20).wait(), "discard");
        keeper(aio.write_zeroes(0, 512).wait(), "write zeroes");
        keeper(aio.write_same(0, 512, data()).wait(), "write same");
        keeper(aio.compare_and_write(0, data(), data()).wait().map(drop), "compare");
        let many: Vec<_> = (0..64).map(|block| aio.write(block * 512, data())).collect();
        many.into_iter().for_each(|write| keeper(write.wait(), "one of many"));
        let outcome = block_on(async {
            let mut cursor = AsyncCursor::new(&*image);
            cursor.write_all(&data()).await?;
            cursor.flush().await
        });
        keeper(outcome.map_err(inner), "cursor");
        reads(aio.read(0, 512).wait().map(drop), keeper);
    });
}

#[test]
fn a_queue() {
    both(|image, keeper| {
        let mut queue = Queue::new(image, 8).unwrap();
        queue.write(1, 0, data()).unwrap();
        queue.discard(2, 0, 1 << 20).unwrap();
        queue.write_zeroes(3, 0, 512).unwrap();
        queue.write_same(4, 0, 512, data()).unwrap();
        queue.compare_and_write(5, 0, data(), data()).unwrap();
        queue.read(6, 0, 512, BytesMut::new()).unwrap();
        let mut ended = 0;
        while queue.in_flight() > 0 {
            queue.wait(None).unwrap();
            while let Some(end) = queue.reap() {
                ended += 1;
                match end.token {
                    6 => reads(end.result, keeper),
                    token => keeper(end.result, &token.to_string()),
                }
            }
        }
        assert_eq!(ended, 6);
    });
}

/// With the feature journaling, librbd needs the lock for reads as well.
fn reads(outcome: rbd::Result<()>, keeper: &dyn Fn(rbd::Result<()>, &str)) {
    if outcome.is_err() {
        keeper(outcome, "read");
    }
}

fn inner(error: std::io::Error) -> rbd::Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

const SPACE: &str = "RBD_TEST_OWNER";

/// The process that owns the lock.
#[test]
fn owner() {
    let Ok(namespace) = std::env::var(SPACE) else { return };
    let cluster = builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(&namespace).unwrap();
    let image = pool.open("foo").run().unwrap();
    image.exclusive_lock().acquire().unwrap();
    println!("has the lock");
    std::thread::sleep(Duration::from_secs(300));
}

fn start_owner(space: &Space) -> Killed {
    let owner = Command::new(std::env::current_exe().unwrap())
        .args(["kept_lock::owner", "--exact", "--nocapture"])
        .env(SPACE, space.namespace())
        .env("RBD_TEST_CONF", rbd_testcluster::shared().conf())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut owner = Killed(owner);
    let mut lines = BufReader::new(owner.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("has the lock")));
    owner
}

/// The call has timed out, but librbd continues with it, and fences the owner.
#[test]
fn an_owner_is_fenced_although_the_call_has_timed_out() {
    let space = Space::new();
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    space.create("foo", 8 << 20).features(features).run().unwrap();
    let owner = start_owner(&space);
    let cluster = builder().call_timeout(Duration::from_secs(5)).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = pool.open("foo").run().unwrap();
    let address = image.exclusive_lock().owner().unwrap().expect("the stopped one").address;
    let fenced = || cluster.blocklist().list().unwrap().iter().any(|entry| entry.address == address);
    stop(&owner.0);
    let error = image.exclusive_lock().acquire().unwrap_err();
    assert!(error.is_timed_out() && !fenced(), "{error}");
    // A handle that only reads disturbs nobody.
    let reads = pool.open("foo").read_only(true).run().unwrap();
    assert_eq!(reads.exclusive_lock().owner().unwrap().expect("still").address, address);
    let end = Instant::now() + Duration::from_secs(120);
    while !fenced() {
        assert!(Instant::now() < end, "the owner is not fenced");
        std::thread::sleep(Duration::from_millis(500));
    }
    while let Err(error) = image.exclusive_lock().acquire() {
        assert!(Instant::now() < end, "{error}");
    }
    image.write_all_at(&data(), 0).unwrap();
}

/// The process that owns the lock is stopped. It answers no request until it is continued.
#[test]
fn an_owner_that_does_not_answer() {
    let space = Space::new();
    let map = Features::OBJECT_MAP | Features::FAST_DIFF;
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK | map;
    space.create("foo", 8 << 20).features(features).run().unwrap();
    let owner = start_owner(&space);
    let open = |timeout| {
        let cluster = builder().call_timeout(timeout).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        pool.open("foo").run().unwrap()
    };
    let (hurried, unwritten) = (open(Duration::from_secs(5)), open(Duration::from_secs(5)));
    let patient = open(Duration::from_secs(120));
    let address = patient.exclusive_lock().owner().unwrap().expect("the stopped one").address;
    let watchers = patient.watchers().unwrap();
    let client = watchers.iter().find(|watcher| watcher.address == address).unwrap().client;
    let client = format!("client.{client}");
    stop(&owner.0);
    let error = hurried.disable_features(map).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TimedOut, "{error}");
    let (text, client) = (error.to_string(), format!("lock owner {client} at {address} must"));
    assert!(text.contains(&client) && !text.contains("OSDs"), "{text}");
    let error = unwritten.write_all_at(&data(), 0).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains(&client), "{error}");
    patient.enable_features(Features::JOURNALING).unwrap();
    assert!(patient.features().unwrap().contains(Features::JOURNALING));
    let fenced = patient.ioctx().cluster().blocklist().list().unwrap();
    assert!(fenced.iter().any(|entry| entry.address == address), "{address}: {fenced:?}");
}
