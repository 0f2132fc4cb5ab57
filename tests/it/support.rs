//! Help for all tests: a connection, and a separate namespace in the shared cluster.

pub(crate) mod child;
pub(crate) mod luks;
pub(crate) mod program;

use std::ops::Deref;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(crate) use child::alone;
use rbd::{Cluster, ClusterBuilder, Image, IoCtx};
use rbd_testcluster::TestCluster;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Returns a builder for the shared cluster, as `client.admin`.
pub(crate) fn builder() -> ClusterBuilder {
    Cluster::builder().ignore_environment(true).conf_file(rbd_testcluster::shared().conf())
}

/// Returns the connection that concurrent tests share. It is closed when the last test drops it: a
/// connection that is open while the process exits hides reports of LeakSanitizer, and can crash
/// under it.
pub(crate) fn cluster() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(builder().connect().expect("the shared cluster answers"));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// Starts a cluster that no other test uses, for changes of a pool's options. librbd tells them to
/// every client of the cluster, and a client of 16.2 that closes an image at that moment hangs
/// with its whole connection. It has no manager: images need none, and its start costs more than
/// the rest of the cluster.
pub(crate) fn own_cluster() -> (TestCluster, Cluster) {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let cluster = Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
    (daemons, cluster)
}

/// Waits until clients have heard of changed options of a pool, before images are closed.
pub(crate) fn wait_for_options() {
    std::thread::sleep(std::time::Duration::from_millis(500));
}

/// Returns a name that no other test uses, also in other runs.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A separate namespace in the pool `rbd`. Dropping it removes the namespace and its images.
pub(crate) struct Space {
    name: String,
    ioctx: IoCtx,
    /// Keeps the shared connection open for concurrent tests.
    shared: Option<Arc<Cluster>>,
}

impl Space {
    pub(crate) fn new() -> Space {
        let cluster = cluster();
        let mut space = Space::on(&cluster);
        space.shared = Some(cluster);
        space
    }

    pub(crate) fn on(cluster: &Cluster) -> Space {
        let (pool, name) = (cluster.ioctx("rbd").unwrap(), unique("test"));
        pool.namespaces().create(&name).unwrap();
        let ioctx = pool.with_namespace(&name).unwrap();
        Space { name, ioctx, shared: None }
    }
}

impl Deref for Space {
    type Target = IoCtx;

    fn deref(&self) -> &IoCtx {
        &self.ioctx
    }
}

impl Drop for Space {
    /// Removes the objects of the images. To remove the images instead takes librbd many times the
    /// processor time: it opens each, and each snapshot changes the monitor's maps. Data that only
    /// snapshots hold stays until the cluster ends.
    ///
    /// Ignores errors, because a failure here must not hide a failed test. After the first one the
    /// rest stays: the OSD may not answer at all.
    fn drop(&mut self) {
        let objects = self.ioctx.objects();
        let Ok(list) = objects.list().and_then(|list| list.collect::<rbd::Result<Vec<_>>>()) else { return };
        for object in list {
            if objects.remove(&object.name).is_err_and(|error| !error.is_not_found()) {
                return;
            }
        }
        if let Ok(pool) = self.ioctx.with_namespace("") {
            let _ = pool.namespaces().remove(&self.name);
        }
    }
}

/// Stops a process, and waits until all its threads stand still. Until then, on a busy machine,
/// they answer requests.
pub(crate) fn stop(process: &Child) {
    let id = Pid::from_child(process);
    kill_process(id, Signal::STOP).unwrap();
    let events = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(id), events).unwrap().expect("an event");
    assert!(status.stopped(), "the process has ended");
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Returns bytes that differ from each other and from zero, the same for the same seed.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed | 1).collect()
}

/// Returns whether an image has this data object. The data must be in the image's own pool.
pub(crate) fn has_object(image: &Image, object: u64) -> bool {
    let object = format!("{}.{object:016x}", image.block_name_prefix().unwrap());
    match image.ioctx().objects().stat(&object) {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => panic!("{error}"),
    }
}

/// Runs the `rados` command on a data object of an image, without librbd.
pub(crate) fn rados(image: &Image, object: u64, before: &[&str], after: &[&str]) {
    let pool = image.ioctx().cluster().pools().name(image.data_pool_id().unwrap()).unwrap();
    let object = format!("{}.{object:016x}", image.block_name_prefix().unwrap());
    let mut command = std::process::Command::new("rados");
    command
        .arg("--conf")
        .arg(rbd_testcluster::shared().conf())
        .args(["--pool", &pool, "--namespace", image.ioctx().namespace()])
        .args(before)
        .arg(&object)
        .args(after);
    let said = program::output(&mut command);
    assert!(said.status.success(), "{before:?} {object} {after:?}: {said:?}");
}
