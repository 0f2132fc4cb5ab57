//! Reports of locks match the state of the cluster.

use rbd::{ErrorKind, Features, ObjectKind};

use crate::support::{Space, builder};

const LOCKABLE: Features = Features::LAYERING.union(Features::EXCLUSIVE_LOCK);

#[test]
fn a_lock_that_is_not_there_is_a_missing_lock() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(LOCKABLE).run().unwrap();
    let (ours, theirs) = (space.open("foo").run().unwrap(), space.open("foo").run().unwrap());
    theirs.exclusive_lock().acquire().unwrap();
    let owner = ours.exclusive_lock().owner().unwrap().unwrap();
    theirs.exclusive_lock().release().unwrap();
    let missing = ErrorKind::NotFound { what: ObjectKind::Lock };
    let error = ours.exclusive_lock().break_lock(&owner).unwrap_err();
    assert_eq!(*error.kind(), missing, "{error}");
    let error = ours.advisory_locks().release("nothing").unwrap_err();
    assert_eq!(*error.kind(), missing, "{error}");
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn every_handle_returns_the_owner() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(LOCKABLE).run().unwrap();
    space.create("plain", 1 << 20).features(Features::LAYERING).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let looking = space.open("foo").read_only(true).run().unwrap();
    assert_eq!(looking.exclusive_lock().owner().unwrap(), None);
    image.exclusive_lock().acquire().unwrap();
    assert_eq!(looking.exclusive_lock().owner().unwrap(), image.exclusive_lock().owner().unwrap());
    assert!(looking.exclusive_lock().owner().unwrap().is_some());
    assert_eq!(space.open("plain").run().unwrap().exclusive_lock().owner().unwrap(), None);
}

#[test]
fn the_list_of_locks_is_what_the_cluster_has_now() {
    let space = Space::new();
    space.create("foo", 1 << 20).features(LOCKABLE).run().unwrap();
    let other = builder().connect().unwrap();
    let theirs =
        other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap().open("foo").run().unwrap();
    let looking = space.open("foo").read_only(true).run().unwrap();
    let count = || looking.advisory_locks().list().unwrap().lockers.len();
    assert_eq!(count(), 0);
    theirs.exclusive_lock().acquire().unwrap();
    assert_eq!(count(), 1);
    theirs.exclusive_lock().release().unwrap();
    assert_eq!(count(), 0);
}
