//! Advisory locks on images with the feature exclusive-lock: librbd cannot write then, and errors
//! name the lock.

use std::time::Duration;

use bytes::Bytes;
use rbd::error::Holder;
use rbd::{ErrorKind, Features, Image};

use crate::support::{Space, builder};

const DATA: [u8; 512] = [1; 512];

/// Checks that the error of a call names this lock. On a busy machine, a call that has timed out
/// may not find the lock within a second.
fn names(call: impl Fn() -> rbd::Result<()>, what: &str, lock: &Holder) {
    let name = lock.to_string();
    let nameless = |error: &rbd::Error| error.is_timed_out() && !error.to_string().contains(&name);
    let mut errors = std::iter::repeat_with(|| call().expect_err(what)).take(4);
    let error = errors.find(|error| !nameless(error)).unwrap_or_else(|| panic!("{what}: nameless"));
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Busy { holders } => assert_eq!(holders[..], *std::slice::from_ref(lock), "{what}: {text}"),
        ErrorKind::TimedOut => {}
        _ => panic!("{what}: {text}"),
    }
    assert!(text.contains("release or break it (`advisory_locks`)"), "{what}: {text}");
}

#[test]
fn an_advisory_lock_that_keeps_librbd_from_writing_is_named() {
    let space = Space::new();
    let cluster = builder().call_timeout(Duration::from_secs(4)).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    type Take = fn(&Image) -> rbd::Result<()>;
    let ways: [(&str, Take); 2] = [
        ("exclusive", |image| image.advisory_locks().acquire_exclusive("me")),
        ("shared", |image| image.advisory_locks().acquire_shared("me", "all")),
    ];
    for (name, take) in ways {
        pool.create(name, 8 << 20).run().unwrap();
        let (theirs, ours) = (space.open(name).run().unwrap(), pool.open(name).run().unwrap());
        take(&theirs).unwrap();
        let locker = theirs.advisory_locks().list().unwrap().lockers.remove(0);
        let lock =
            Holder::AdvisoryLock { client: locker.client, cookie: locker.cookie, address: locker.address };
        names(|| ours.exclusive_lock().owner().map(drop), "owner", &lock);
        names(|| ours.snapshots().create("s").run(), "snapshot", &lock);
        names(|| ours.write_all_at(&DATA, 0), "write", &lock);
        names(|| ours.exclusive_lock().acquire(), "acquire", &lock);
        names(|| ours.flush(), "flush", &lock);
        theirs.advisory_locks().release("me").unwrap();
        // After a call of `acquire`, writing does not acquire the lock.
        ours.exclusive_lock().acquire().unwrap_or_else(|error| panic!("{name}: {error}"));
        ours.write_all_at(&DATA, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Closing tells of a write that had timed out and failed later.
        if let Err(error) = ours.close() {
            assert!(error.to_string().contains("it had been given up"), "{name}: {error}");
        }
        // Its own lock is no better.
        let ours = pool.open(name).run().unwrap();
        take(&ours).unwrap();
        let write = ours.aio().write(0, Bytes::from_static(&DATA));
        let locker = ours.advisory_locks().list().unwrap().lockers.remove(0);
        let lock =
            Holder::AdvisoryLock { client: locker.client, cookie: locker.cookie, address: locker.address };
        names(|| ours.snapshots().create("s").run(), "snapshot, own lock", &lock);
        ours.advisory_locks().release("me").unwrap();
        write.wait().unwrap();
        ours.close().unwrap();
    }
}

#[test]
fn without_the_feature_an_advisory_lock_prevents_nothing() {
    let space = Space::new();
    space.create("x", 8 << 20).features(Features::LAYERING).run().unwrap();
    let (theirs, ours) = (space.open("x").run().unwrap(), space.open("x").run().unwrap());
    theirs.advisory_locks().acquire_exclusive("me").unwrap();
    ours.write_all_at(&DATA, 0).unwrap();
    ours.snapshots().create("s").run().unwrap();
    ours.close().unwrap();
}

/// librbd would believe that it still has the lock, and write beside the next owner.
#[test]
fn the_exclusive_lock_is_not_released_as_an_advisory_one() {
    let space = Space::new();
    space.create("x", 8 << 20).run().unwrap();
    let image = space.open("x").run().unwrap();
    image.write_all_at(&DATA, 0).unwrap();
    let locker = image.advisory_locks().list().unwrap().lockers.remove(0);
    let error = image.advisory_locks().release(&locker.cookie).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("exclusive_lock().release()"), "{error}");
    assert_eq!(image.advisory_locks().list().unwrap().lockers, [locker]);
}
