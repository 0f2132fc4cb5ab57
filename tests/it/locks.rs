//! The exclusive lock and advisory locks.

use std::time::Duration;

use bytes::Bytes;
use rbd::{ErrorKind, Features, Image, ObjectKind, error::Holder};

use crate::support::{Space, builder};

#[test]
fn the_exclusive_lock_is_taken_kept_named_and_broken() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(Features::LAYERING | Features::EXCLUSIVE_LOCK).run().unwrap();
    let other = builder().connect().unwrap();
    let theirs =
        other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    let ours = space.open("foo").run().unwrap();
    assert_eq!(ours.exclusive_lock().owner().unwrap(), None);

    theirs.exclusive_lock().acquire().unwrap();
    assert!(theirs.exclusive_lock().is_owner().unwrap() && !ours.exclusive_lock().is_owner().unwrap());
    let owner = ours.exclusive_lock().owner().unwrap().expect("somebody has it");
    let error = ours.exclusive_lock().acquire().unwrap_err();
    let ErrorKind::Busy { holders } = error.kind() else { panic!("{error}") };
    assert_eq!(
        holders[..],
        [Holder::LockOwner {
            client: format!("client.{}", other.instance_id()),
            address: owner.address.clone()
        }],
        "{error}"
    );

    theirs.exclusive_lock().release().unwrap();
    ours.exclusive_lock().acquire().unwrap();
    assert!(ours.exclusive_lock().is_owner().unwrap());
    ours.exclusive_lock().release().unwrap();

    theirs.exclusive_lock().acquire().unwrap();
    let owner = ours.exclusive_lock().owner().unwrap().unwrap();
    ours.exclusive_lock().break_lock(&owner).unwrap();
    ours.exclusive_lock().acquire().unwrap();
    other.wait_for_latest_osdmap().unwrap();
    let error = theirs.write_all_at(&[1; 512], 0).and_then(|()| theirs.flush()).unwrap_err();
    assert!(error.is_blocklisted() || error.is_read_only(), "the old owner is fenced: {error}");
    drop(theirs);
    crate::support::cluster().blocklist().remove(&owner.address).unwrap();
}

/// librbd says that the image lacks the feature.
#[test]
fn a_handle_that_only_reads_neither_acquires_nor_releases() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    space.open("foo").run().unwrap().snapshots().create("s").run().unwrap();
    for image in
        [space.open("foo").read_only(true).run().unwrap(), space.open("foo").snapshot("s").run().unwrap()]
    {
        let lock = image.exclusive_lock();
        for error in [lock.acquire().unwrap_err(), lock.release().unwrap_err()] {
            assert!(error.is_read_only(), "{error}");
            assert!(error.to_string().contains("open it for writing"), "{error}");
        }
    }
}

#[test]
fn without_the_feature_there_is_no_exclusive_lock() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(Features::LAYERING).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let error = image.exclusive_lock().acquire().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotSupported, "{error}");
    assert!(error.to_string().contains("it lacks the feature exclusive-lock; enable it first"), "{error}");
    assert!(!image.exclusive_lock().is_owner().unwrap());
}

#[test]
fn advisory_locks_are_shared_or_exclusive_and_list_their_holders() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(Features::LAYERING).run().unwrap();
    let image = space.open("foo").run().unwrap();
    assert!(image.advisory_locks().list().unwrap().lockers.is_empty());
    image.advisory_locks().acquire_exclusive("mine").unwrap();
    let locks = image.advisory_locks().list().unwrap();
    let client = format!("client.{}", image.ioctx().cluster().instance_id());
    assert!(locks.exclusive);
    assert_eq!(
        (locks.lockers[0].client.as_str(), locks.lockers[0].cookie.as_str()),
        (client.as_str(), "mine")
    );
    assert!(locks.lockers[0].address.as_str().starts_with("127.0.0.1:"), "{locks:?}");

    let other = builder().connect().unwrap();
    let theirs =
        other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    let error = theirs.advisory_locks().acquire_shared("theirs", "tag").unwrap_err();
    let lock = format!("advisory lock 'mine' of {client} at 127.0.0.1");
    assert!(error.is_busy() && error.to_string().contains(&lock), "{error}");
    image.advisory_locks().release("mine").unwrap();
    assert!(image.advisory_locks().release("mine").unwrap_err().is_not_found());

    theirs.advisory_locks().acquire_shared("theirs", "tag").unwrap();
    image
        .advisory_locks()
        .acquire_shared("a long cookie that makes the first buffers too small ".repeat(10).as_str(), "tag")
        .unwrap();
    let locks = image.advisory_locks().list().unwrap();
    assert_eq!((locks.exclusive, locks.tag.as_str(), locks.lockers.len()), (false, "tag", 2));
    let locker = locks.lockers.iter().find(|locker| locker.cookie == "theirs").unwrap();
    drop(theirs);
    image.advisory_locks().break_lock(locker).unwrap();
    assert_eq!(image.advisory_locks().list().unwrap().lockers.len(), 1);
    let error = image.advisory_locks().break_lock(locker).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Lock }, "{error}");
    crate::support::cluster().blocklist().remove(&locker.address).unwrap();
}

/// librbd acquires the lock for a flush, and closing flushes.
#[test]
fn a_reader_that_leaves_does_not_take_the_lock() {
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let writer = space.open("foo").run().unwrap();
    writer.write_all_at(&[1; 512], 0).unwrap();
    for asynchronous in [false, true] {
        let reader = space.open("foo").run().unwrap();
        reader.read_exact_at(&mut [0; 512], 0).unwrap();
        if asynchronous {
            reader.start_close().wait().unwrap();
        } else {
            reader.close().unwrap();
        }
        assert!(writer.exclusive_lock().is_owner().unwrap());
    }
}

/// Without the feature there is no lock, so neither closing nor a release waits for it.
#[test]
fn disabling_the_feature_releases_the_exclusive_lock() {
    let space = Space::new();
    space.create("foo", 8 << 20).features(Features::LAYERING | Features::EXCLUSIVE_LOCK).run().unwrap();
    for (way, end) in [
        ("close", (|image| image.close()) as fn(Image) -> rbd::Result<()>),
        ("start_close", |image| image.start_close().wait()),
        ("drop", |image| {
            drop(image);
            Ok(())
        }),
        ("release", |image| {
            // There is no lock, so this may fail.
            let _ = image.exclusive_lock().release();
            image.close()
        }),
    ] {
        let image = space.open("foo").run().unwrap();
        image.enable_features(Features::EXCLUSIVE_LOCK).unwrap();
        image.exclusive_lock().acquire().unwrap();
        image.disable_features(Features::EXCLUSIVE_LOCK).unwrap();
        let (sender, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(end(image)));
        let ended = ended.recv_timeout(Duration::from_secs(40)).unwrap_or_else(|_| panic!("{way} hangs"));
        ended.unwrap_or_else(|error| panic!("{way}: {error}"));
    }
}

/// librbd acquires the lock no more for such a handle, and says that it is read-only.
#[test]
fn a_released_lock_is_named_by_requests_that_need_it() {
    let space = Space::new();
    space.create("foo", 4 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.exclusive_lock().acquire().unwrap();
    image.exclusive_lock().release().unwrap();
    let says = |what: &str, error: Option<rbd::Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} succeeds"));
        assert!(error.is_read_only(), "{what}: {error}");
        assert!(
            error.to_string().contains("does not take it by writing; acquire it again"),
            "{what}: {error}"
        );
    };
    says("write", image.write_all_at(b"x", 0).err());
    says("discard", image.discard(0, 4096).err());
    says("future", image.aio().write(0, Bytes::from_static(b"x")).wait().err());
    image.exclusive_lock().acquire().unwrap();
    image.write_all_at(b"x", 0).unwrap();
    image.flush().unwrap();
    image.exclusive_lock().release().unwrap();
    says("write after another release", image.write_all_at(b"x", 0).err());
}
