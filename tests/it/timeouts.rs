//! Dead and frozen daemons: an error within the timeout, never a hang. The tests have their own
//! clusters.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use rbd::Cluster;
use rbd_testcluster::{Daemon, ObjectStore, TestCluster};

use crate::support::alone;

fn builder(cluster: &TestCluster) -> rbd::ClusterBuilder {
    Cluster::builder().ignore_environment(true).conf_file(cluster.conf())
}

/// Runs `what`, and asserts that it ends within `limit`.
fn within<T: Send>(limit: Duration, what: impl FnOnce() -> T + Send) -> T {
    let start = Instant::now();
    let result = what();
    assert!(start.elapsed() < limit, "took {:?}", start.elapsed());
    result
}

#[test]
fn a_dead_osd_is_a_timeout_and_not_a_hang() {
    // BlueStore, because a killed OSD in memory loses its data.
    let daemons = TestCluster::builder().object_store(ObjectStore::Bluestore).mgr(false).start().unwrap();
    let cluster = builder(&daemons).osd_timeout(Duration::from_secs(5)).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    pool.create("foo", 8 << 20).run().unwrap();
    let image = pool.open("foo").run().unwrap();
    image.write_all_at(&[1; 4096], 0).unwrap();
    image.flush().unwrap();

    let error = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Reads that are in flight when the OSD dies. One of them never gets an answer.
            within(Duration::from_secs(60), || {
                loop {
                    if let Err(error) = image.read_exact_at(&mut [0; 4096], 0) {
                        return error;
                    }
                }
            })
        });
        std::thread::sleep(Duration::from_millis(200));
        daemons.kill_osd(0).unwrap();
        let killed = Instant::now();
        let error = reader.join().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(9), "{:?} after the kill", killed.elapsed());
        error
    });
    assert!(error.is_timed_out(), "{error}");
    assert!(
        error
            .to_string()
            .contains("cannot read 4096 bytes at offset 0 of image 'rbd/foo': no answer came in time"),
        "{error}"
    );

    daemons.start_osd(0).unwrap();
    // The client learns the OSD's new address with a new map, which takes a moment.
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(error) = image.read_exact_at(&mut [0; 4096], 0) {
        assert!(
            error.is_timed_out() && Instant::now() < until,
            "it serves again, on the same handle: {error}"
        );
    }
    image.close().unwrap();
}

#[test]
fn a_dead_and_a_frozen_monitor_are_timeouts_on_connecting() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let connect = || {
        within(Duration::from_secs(12), || {
            builder(&daemons).connect_timeout(Duration::from_secs(3)).connect().unwrap_err()
        })
    };
    daemons.pause(Daemon::Mon).unwrap();
    let error = connect();
    assert!(error.is_timed_out(), "{error}");
    daemons.resume(Daemon::Mon).unwrap();
    builder(&daemons).connect().unwrap();
    daemons.kill_daemon(Daemon::Mon).unwrap();
    let error = connect();
    assert!(error.is_timed_out(), "{error}");
    assert!(error.to_string().contains("no monitor answered in time; check mon_host"), "{error}");
}

/// librados has no timeout for some steps of connecting. Here its log is a pipe that nobody reads,
/// so that it waits for a reader. Later the connection is made, and is ended at once.
#[test]
fn connecting_that_librados_does_not_end_is_given_up() {
    if !alone("timeouts::connecting_that_librados_does_not_end_is_given_up") {
        return;
    }
    let daemons = rbd_testcluster::shared();
    let connect = || Cluster::builder().ignore_environment(true).conf_file(daemons.conf());
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let cluster = connect().connect().unwrap();
    cluster.ioctx("rbd").unwrap();
    drop(cluster);
    let before = threads();
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("log");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let stuck = connect().option("log_file", pipe.to_str().unwrap()).connect_timeout(Duration::from_secs(1));
    let start = Instant::now();
    let error = stuck.connect().unwrap_err();
    assert!((12..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(error.is_timed_out(), "{error}");
    assert!(error.to_string().contains("it did not complete within 12s; it continues in the"), "{error}");
    // Others are not disturbed. 20.2 can open its log again, so the reader stays. That librados has
    // closed its log shows in the end of the pipe.
    connect().connect().unwrap();
    let mut reader = std::fs::File::options();
    let mut reader = reader.read(true).custom_flags(libc::O_NONBLOCK).open(pipe).unwrap();
    crate::aio::eventually("the late connection ends", || {
        matches!(reader.read(&mut [0; 1 << 16]), Ok(0)) && threads() <= before
    });
}

#[test]
fn a_command_to_a_frozen_monitor_times_out() {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let cluster = builder(&daemons).mon_timeout(Duration::from_secs(3)).connect().unwrap();
    daemons.pause(Daemon::Mon).unwrap();
    let error =
        within(Duration::from_secs(12), || cluster.mon_command(r#"{"prefix": "fsid"}"#, &[]).unwrap_err());
    assert!(error.is_timed_out(), "{error}");
    daemons.resume(Daemon::Mon).unwrap();
}
