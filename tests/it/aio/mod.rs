//! Asynchronous operations: their results, and the cases in which other bindings crash.

mod close;
mod deadline;
mod drops;
pub(crate) mod events;
mod hints;
mod io;
mod open;
mod stream;
mod submit;
mod unblock;
mod wakers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rbd_testcluster::{Daemon, TestCluster};

/// A cluster whose OSD can be frozen, so that operations get stuck. One test at a time uses it.
pub(crate) struct Freezer(TestCluster);

impl Freezer {
    pub(crate) fn get() -> MutexGuard<'static, Freezer> {
        static FREEZER: OnceLock<Mutex<Freezer>> = OnceLock::new();
        let start = || {
            let cluster = TestCluster::builder().mgr(false).start().expect("a cluster to freeze");
            Mutex::new(Freezer(cluster))
        };
        FREEZER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn conf(&self) -> &std::path::Path {
        self.0.conf()
    }

    /// Returns a separate connection, on which no operation times out by default.
    pub(crate) fn connect(&self) -> rbd::Cluster {
        let builder = rbd::Cluster::builder().ignore_environment(true).conf_file(self.0.conf());
        builder.osd_timeout(Duration::from_secs(600)).connect().unwrap()
    }

    /// Creates and opens an image of 8 MiB.
    pub(crate) fn image(&self) -> rbd::Image {
        let pool = self.connect().ioctx("rbd").unwrap();
        let name = crate::support::unique("frozen");
        pool.create(&name, 8 << 20).run().unwrap();
        pool.open(&name).run().unwrap()
    }

    /// Freezes the OSD: operations are stuck until the guard is dropped.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        self.0.pause(Daemon::Osd(0)).unwrap();
        Frozen(&self.0)
    }
}

pub(crate) struct Frozen<'a>(&'a TestCluster);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.resume(Daemon::Osd(0)).unwrap();
    }
}

/// A buffer that records when it is freed.
#[derive(Clone, Default)]
pub(crate) struct Tracked(Arc<AtomicBool>);

impl Tracked {
    pub(crate) fn bytes(&self, len: usize) -> Bytes {
        struct Owner(Vec<u8>, Tracked);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Owner {
            fn drop(&mut self) {
                self.0.fill(0xDD);
                self.1.0.store(true, Ordering::SeqCst);
            }
        }
        Bytes::from_owner(Owner(vec![0x77; len], self.clone()))
    }

    pub(crate) fn is_freed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails instead of hanging.
pub(crate) fn within<T: Send + 'static>(limit: Duration, what: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(what()));
    let result = receiver.recv_timeout(limit);
    if thread.is_finished() || result.is_ok() {
        let _ = thread.join();
    }
    result.expect("it neither hangs nor panics")
}
