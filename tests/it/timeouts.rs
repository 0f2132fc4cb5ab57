//! Dead and frozen daemons: an error within the timeout, never a hang. The tests have their own
//! clusters.

use std::time::{Duration, Instant};

use rbd::Cluster;
use rbd_testcluster::{Daemon, ObjectStore, TestCluster};

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
