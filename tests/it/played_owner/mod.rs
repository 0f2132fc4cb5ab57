//! Requests to the owner of the exclusive lock. The test plays the owner, and answers as it likes.

mod raw;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rbd::Image;

use crate::support::Space;
pub(crate) use raw::Watcher;

const MIB: u64 = 1 << 20;

/// The kinds of notifications.
pub(crate) const ACQUIRED: u32 = 0;
const RELEASED: u32 = 1;
const REQUEST_LOCK: u32 = 2;
const HEADER_UPDATE: u32 = 3;
const COMPLETE: u32 = 5;
const RESIZE: u32 = 7;

/// What the owner was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    Lock,
    Resize { size: u64, id: [u64; 3], allow_shrink: bool },
}

/// What the owner says to a request for the lock.
#[derive(Clone, Copy, PartialEq)]
enum Lock {
    Kept,
    Released,
}

struct Owner {
    watcher: Arc<Watcher>,
    lock: Arc<Mutex<Lock>>,
    requests: Receiver<Request>,
}

/// Encodes a structure of this version, which version 1 can decode.
pub(crate) fn framed(version: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    [&[version, 1][..], &(fields.len() as u32).to_le_bytes(), &fields].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn request(message: &[u8]) -> Option<Request> {
    let (kind, fields) = message.get(6..)?.split_first_chunk().unwrap();
    match u32::from_le_bytes(*kind) {
        REQUEST_LOCK => Some(Request::Lock),
        RESIZE => Some(Request::Resize {
            size: number(fields, 0),
            id: [8, 16, 24].map(|at| number(fields, at)),
            allow_shrink: fields[32] != 0,
        }),
        _ => None,
    }
}

/// A client that watches the header of an image.
pub(crate) fn watcher(image: &Image) -> Watcher {
    let text = |text: &str| CString::new(text).unwrap();
    let conf = text(rbd_testcluster::shared().conf().to_str().unwrap());
    let header = text(&format!("rbd_header.{}", image.id().unwrap()));
    Watcher::new(&conf, &text(image.ioctx().namespace()), &header)
}

impl Owner {
    fn new(image: &Image, lock: Lock) -> Owner {
        let watcher = Arc::new(watcher(image));
        let (lock, (asked, requests)) = (Arc::new(Mutex::new(lock)), channel());
        let owner = Owner { watcher: Arc::clone(&watcher), lock: Arc::clone(&lock), requests };
        owner.lock();
        let weak = Arc::downgrade(&watcher);
        watcher.answer(move |message| {
            let Some(request) = request(message) else { return Vec::new() };
            asked.send(request).unwrap();
            let mut code = 0;
            if request == Request::Lock {
                match *lock.lock().unwrap() {
                    Lock::Kept => code = -libc::EROFS,
                    Lock::Released => {
                        let watcher = weak.upgrade().unwrap();
                        std::thread::spawn(move || unlock(&watcher));
                    }
                }
            }
            framed(1, &[&code.to_le_bytes()])
        });
        owner
    }

    fn lock(&self) {
        const EXCLUSIVE: u8 = 1;
        let cookie = text(&cookie(&self.watcher));
        let (name, tag, none) = (text("rbd_lock"), text("internal"), text(""));
        let lock = framed(1, &[&name, &[EXCLUSIVE], &cookie, &tag, &none, &[0; 8], &[0]]);
        self.watcher.execute(c"lock", c"lock", &lock);
        announce(&self.watcher, ACQUIRED);
    }

    /// Changes the size of the image, as after a request.
    fn set_size(&self, size: u64) {
        self.watcher.execute(c"rbd", c"set_size", &size.to_le_bytes());
        self.watcher.notify(&framed(6, &[&HEADER_UPDATE.to_le_bytes()]));
    }

    /// Announces the end of a change.
    fn complete(&self, id: [u64; 3]) {
        let id = id.map(u64::to_le_bytes).concat();
        self.watcher.notify(&framed(6, &[&COMPLETE.to_le_bytes(), &id, &0_i32.to_le_bytes()]));
    }

    /// Waits for a request to resize.
    fn resize(&self) -> (u64, [u64; 3]) {
        loop {
            match self.requests.recv_timeout(Duration::from_secs(60)).unwrap() {
                Request::Lock => {}
                Request::Resize { size, id, allow_shrink } => {
                    assert!(allow_shrink);
                    return (size, id);
                }
            }
        }
    }
}

fn cookie(watcher: &Watcher) -> String {
    format!("auto {}", watcher.cookie())
}

/// Releases the lock and says so.
fn unlock(watcher: &Watcher) {
    watcher.execute(c"lock", c"unlock", &framed(1, &[&text("rbd_lock"), &text(&cookie(watcher))]));
    announce(watcher, RELEASED);
}

/// Says that the owner has acquired or released the lock.
fn announce(watcher: &Watcher, what: u32) {
    let client = [watcher.client(), watcher.cookie()].map(u64::to_le_bytes).concat();
    watcher.notify(&framed(6, &[&what.to_le_bytes(), &client]));
}

fn create(space: &Space) -> Image {
    space.create("foo", 8 * MIB).run().unwrap();
    space.open("foo").run().unwrap()
}

/// Shrinks the image on another thread while `owner` acts.
fn shrink(image: &Image, size: u64, owner: impl FnOnce()) {
    std::thread::scope(|scope| {
        let shrink = scope.spawn(move || image.resize(size).allow_shrink(true).run());
        owner();
        shrink.join().unwrap().unwrap();
    });
}

/// An owner does not know the requests that an earlier owner has carried out. librados sends a
/// request again when an OSD restarts. So a shrink can be repeated after a later growth.
#[test]
fn the_next_owner_carries_out_a_request_again() {
    let space = Space::new();
    let (first, second) = (create(&space), space.open("foo").run().unwrap());
    first.write_all_at(&[1; 4096], 4 * MIB).unwrap();
    let requester = watcher(&first);
    let id = [requester.client(), requester.cookie(), 1].map(u64::to_le_bytes).concat();
    let shrink = framed(6, &[&RESIZE.to_le_bytes(), &MIB.to_le_bytes(), &id, &[1]]);
    requester.notify(&shrink);
    wait_for_size(&first, MIB);
    // The owner itself does not repeat it.
    first.resize(8 * MIB).run().unwrap();
    requester.notify(&shrink);
    first.write_all_at(&[2; 4096], 4 * MIB).unwrap();
    assert_eq!(first.size().unwrap(), 8 * MIB);
    second.flush().unwrap();
    assert!(second.exclusive_lock().is_owner().unwrap());
    requester.notify(&shrink);
    wait_for_size(&second, MIB);
}

fn wait_for_size(image: &Image, size: u64) {
    let end = Instant::now() + Duration::from_secs(60);
    while image.size().unwrap() != size {
        assert!(Instant::now() < end, "{}", image.size().unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_shrink_acquires_the_lock_first() {
    let space = Space::new();
    let image = create(&space);
    let owner = Owner::new(&image, Lock::Released);
    shrink(&image, MIB, || ());
    assert_eq!(image.size().unwrap(), MIB);
    assert!(image.exclusive_lock().is_owner().unwrap());
    let requests: Vec<_> = owner.requests.try_iter().collect();
    assert!(!requests.is_empty() && requests.iter().all(|one| *one == Request::Lock), "{requests:?}");
}

#[test]
fn an_owner_that_keeps_the_lock_shrinks() {
    let space = Space::new();
    let image = create(&space);
    let owner = Owner::new(&image, Lock::Kept);
    shrink(&image, MIB, || {
        let (size, id) = owner.resize();
        assert_eq!(size, MIB);
        owner.set_size(size);
        owner.complete(id);
    });
    assert_eq!(image.size().unwrap(), MIB);
    assert!(!image.exclusive_lock().is_owner().unwrap());
}

/// A real owner that has not heard of a shrink, because it lost its watch at the time, has nothing
/// to do when it is asked for the size that it knows. It says that it has resized the image.
#[test]
fn an_owner_that_knows_an_old_size() {
    for keeps in [false, true] {
        let space = Space::new();
        let owner = create(&space);
        owner.write_all_at(&[1; 512], 0).unwrap();
        assert!(owner.exclusive_lock().is_owner().unwrap());
        if keeps {
            owner.exclusive_lock().acquire().unwrap();
        }
        watcher(&owner).execute(c"rbd", c"set_size", &MIB.to_le_bytes());
        let image = space.open("foo").run().unwrap();
        assert_eq!(image.size().unwrap(), MIB);
        image.resize(8 * MIB).run().unwrap();
        let size = space.open("foo").read_only(true).run().unwrap().size().unwrap();
        assert_eq!(size, 8 * MIB, "the owner keeps the lock: {keeps}");
    }
}

/// This client does not shrink again: it cannot know whether the image has grown since.
#[test]
fn an_owner_that_does_nothing() {
    let space = Space::new();
    let image = create(&space);
    let owner = Owner::new(&image, Lock::Kept);
    std::thread::scope(|scope| {
        let shrink = scope.spawn(|| image.resize(MIB).allow_shrink(true).run());
        let (_, id) = owner.resize();
        owner.complete(id);
        let error = shrink.join().unwrap().unwrap_err();
        assert_eq!(error.errno(), Some(rbd::Errno::ESTALE), "{error}");
        assert!(error.to_string().contains("resize it again"), "{error}");
    });
    assert_eq!(image.size().unwrap(), 8 * MIB);
}

/// The numbers tell the requests of all handles of a connection apart: a later handle can have the
/// watch number of an earlier one, which is an address.
#[test]
fn request_numbers_are_not_used_again() {
    let space = Space::new();
    let owner = Owner::new(&create(&space), Lock::Kept);
    let (mut clients, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for size in (1..8).rev().map(|size| size * MIB) {
        let image = space.open("foo").run().unwrap();
        shrink(&image, size, || {
            let (asked, id) = owner.resize();
            assert_eq!(asked, size);
            assert!(numbers.insert(id[2]), "{id:?}");
            clients.insert(id[0]);
            owner.set_size(size);
            owner.complete(id);
        });
        image.close().unwrap();
        // A request can be sent twice.
        owner.requests.try_iter().for_each(drop);
    }
    assert_eq!(clients.len(), 1);
}

/// The owner accepts the request, makes the change, and never announces it.
#[test]
fn the_answer_is_lost() {
    let space = Space::new();
    let image = create(&space);
    let owner = Owner::new(&image, Lock::Kept);
    shrink(&image, MIB, || {
        let (size, _) = owner.resize();
        *owner.lock.lock().unwrap() = Lock::Released;
        owner.set_size(size);
    });
    assert_eq!(image.size().unwrap(), MIB);
}

/// The image never has the requested size while this client looks.
#[test]
fn the_answer_is_lost_and_the_size_changes_again() {
    let space = Space::new();
    let image = create(&space);
    let owner = Owner::new(&image, Lock::Kept);
    shrink(&image, MIB, || {
        owner.resize();
        *owner.lock.lock().unwrap() = Lock::Released;
        owner.set_size(16 * MIB);
    });
    assert_eq!(image.size().unwrap(), MIB);
}
