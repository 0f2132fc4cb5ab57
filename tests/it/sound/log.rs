//! The client's log in memory.

use std::time::{Duration, Instant};

use super::test;
use crate::support::{Space, alone, builder};

/// Returns the memory of this process's anonymous files, in bytes.
fn memory_of_logs() -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:ceph-client-log") {
            use std::os::unix::fs::MetadataExt;
            sum = sum.max(std::fs::metadata(entry.path()).unwrap().blocks() * 512);
        }
    }
    sum
}

/// Asynchronous I/O makes no call that reads the log.
#[test]
fn the_log_is_bounded_whatever_is_written_to_it() {
    if !alone(test!("log::the_log_is_bounded_whatever_is_written_to_it")) {
        return;
    }
    let space = Space::new();
    space.create("foo", 8 << 20).run().unwrap();
    let cluster = builder()
        .option("debug_rbd", "20/20")
        .option("debug_rados", "20/20")
        .option("debug_objecter", "20/20")
        .option("debug_ms", "20/20")
        .connect()
        .unwrap();
    let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = pool.open("foo").run().unwrap();
    let (mut most, end) = (0, Instant::now() + Duration::from_secs(6));
    while Instant::now() < end {
        let writes: Vec<_> =
            (0..16).map(|n| image.aio().write(n * 4096, bytes::Bytes::from_static(&[7; 4096]))).collect();
        for write in writes {
            write.wait().unwrap();
        }
        most = most.max(memory_of_logs());
    }
    assert!(most > 0, "there is a log");
    assert!(most < 64 << 20, "{most} bytes");
    std::thread::sleep(Duration::from_secs(2));
    let rest = memory_of_logs();
    assert!(rest < 4 << 20, "{rest} bytes when nothing happens any more");
    // A failed call reads only the end of the log.
    let error = pool.open("nothing").run().unwrap_err();
    assert!(error.log().len() <= 16, "{}", error.log().len());
}
