//! A process ends whatever is in flight. A child tries each way to end while the OSD is frozen.
//!
//! There is no test harness: the child ends by returning from `main`, which a test in a harness
//! cannot do.

#![allow(missing_docs, clippy::pedantic)]

mod connecting;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::{Cluster, IoCtx, Queue};
use rbd_testcluster::{Daemon, TestCluster};
use rustix::process::{Resource, Rlimit, setrlimit};

const LIMIT: Duration = Duration::from_secs(20);

fn main() {
    // A variable, not an argument: the name of a way may also be a filter for tests.
    if let Some(conf) = std::env::var_os(CONF) {
        return child(&std::env::args().nth(1).unwrap(), Path::new(&conf));
    }
    let cluster = TestCluster::builder().mgr(false).start().unwrap();
    let pool = Cluster::builder().ignore_environment(true).conf_file(cluster.conf()).connect().unwrap();
    let pool = pool.ioctx("rbd").unwrap();
    for image in ["foo", "bar"] {
        pool.create(image, 8 << 20).run().unwrap();
    }
    for (way, wanted) in LIVE {
        for run in 0..30 {
            let status = Command::new(std::env::current_exe().unwrap())
                .arg(way)
                .env(CONF, cluster.conf())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(*wanted), "{way}, run {run}: {status:?}");
        }
        println!("test {way} ... ok");
    }
    connecting::all(cluster.conf());
    for (way, byte, _) in SLOW {
        // Each child has its own image, because the exclusive lock of a process that has ended
        // stays for a while.
        pool.create(way, 8 << 20).run().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.arg(way).env(CONF, cluster.conf()).status().unwrap();
        assert_eq!(status.code(), Some(7), "{way}: {status:?}");
        let image = pool.open(way).read_only(true).run().unwrap();
        for n in 0..SLOW_WRITES {
            let mut written = [0; 512];
            image.read_exact_at(&mut written, n * 4096).unwrap();
            assert!(written == [*byte; 512], "{way}: the process did not wait for the write number {n}");
        }
        println!("test {way} ... ok");
    }
    for (way, wanted) in BUSY {
        for run in 0..10 {
            let image = locked(&pool, cluster.conf(), &format!("{way}-{run}"));
            let status = Command::new(std::env::current_exe().unwrap())
                .args([*way, &image])
                .env(CONF, cluster.conf())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(*wanted), "{way}, run {run}: {status:?}");
        }
        println!("test {way} ... ok");
    }
    for (way, wanted) in WAYS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(way)
            .env(CONF, cluster.conf())
            .spawn()
            .unwrap();
        // The child creates a file when it is about to submit its operations.
        let ready = cluster.directory().join(format!("ready-{}", child.id()));
        let end = Instant::now() + LIMIT;
        while !ready.exists() {
            assert!(Instant::now() < end, "{way}: the child does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
        cluster.pause(Daemon::Osd(0)).unwrap();
        std::fs::remove_file(&ready).unwrap();
        let end = Instant::now() + LIMIT;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        cluster.resume(Daemon::Osd(0)).unwrap();
        assert_eq!(status.and_then(|status: ExitStatus| status.code()), Some(*wanted), "{way}: {status:?}");
        println!("test {way} ... ok");
    }
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored",
        WAYS.len() + LIVE.len() + connecting::CONNECTING.len() + SLOW.len() + BUSY.len()
    );
}

/// If set, this process is a child, and the value names the cluster's configuration file.
const CONF: &str = "RBD_EXIT_CONF";

/// Ways for which nothing is frozen, and the exit code of each. In the first four, the last
/// reference to the connection was just passed to another thread, which closes it, or to an image
/// whose closing has just begun. In the last, threads go on with blocking calls.
const LIVE: &[(&str, i32)] = &[
    ("returns_while_the_connection_is_closed", 0),
    ("returns_while_an_image_is_closed", 0),
    ("returns_while_it_is_opened", 0),
    ("returns_while_a_call_is_awaited", 0),
    ("exits_while_other_threads_submit", 7),
];

/// Ways, each with the byte that is written and a limit of writes per second that delays them. A
/// process that ends meanwhile waits for the writes: librbd's threads crash if they run while its
/// statics are destroyed. On a thread of librbd the wait is shorter.
const SLOW: &[(&str, u8, u32)] = &[
    ("exits_with_futures_under_way", 3, 40),
    ("exits_with_a_queue_under_way", 4, 40),
    ("exits_in_a_wake_with_futures_under_way", 5, 200),
];
const SLOW_WRITES: u64 = 20;

/// Ways for which nothing is frozen. Operations are in flight, and librbd first has to acquire the
/// lock of a dead client. Without a wait, about one child in ten crashes there.
const BUSY: &[(&str, i32)] = &[
    ("busy_futures_and_exit", 7),
    ("busy_futures_and_return", 0),
    ("busy_futures_and_panic", 101),
    ("busy_queue_and_exit", 7),
    ("busy_queue_and_return", 0),
    ("busy_queue_and_panic", 101),
    ("busy_waker_and_exit", 7),
];

/// Creates an image whose exclusive lock belongs to a dead client, which has no watch any more.
fn locked(pool: &IoCtx, conf: &Path, name: &str) -> String {
    pool.create(name, 4 << 20).run().unwrap();
    let header = format!("rbd_header.{}", pool.open(name).read_only(true).run().unwrap().id().unwrap());
    let lock = ["lock", "get", &header, "rbd_lock", "--lock-cookie", "auto 1", "--lock-tag", "internal"];
    let status = Command::new("rados").arg("-c").arg(conf).args(["-p", "rbd"]).args(lock).status().unwrap();
    assert!(status.success(), "{status:?}");
    name.to_owned()
}

/// Submits 64 operations and ends at once.
fn busy(way: &str, pool: &IoCtx, image: &str) {
    const LEN: u64 = 4096;
    let image = pool.open(image).run().unwrap();
    let data = || Bytes::from_static(&[7; LEN as usize]);
    let (what, end) = way.strip_prefix("busy_").unwrap().split_once("_and_").unwrap();
    match what {
        "futures" => {
            for n in (0..64).step_by(2) {
                std::mem::forget(image.aio().read(n * LEN, LEN as usize));
                std::mem::forget(image.aio().write((n + 1) * LEN, data()));
            }
            std::mem::forget(image);
        }
        "queue" => {
            let mut queue = Queue::new(image, 64).unwrap();
            for n in (0..64).step_by(2) {
                queue.read(n, n * LEN, LEN as usize, BytesMut::new()).unwrap();
                queue.write(n, (n + 1) * LEN, data()).unwrap();
            }
            std::mem::forget(queue);
        }
        "waker" => {
            // librbd's own thread ends the process.
            let waker = Waker::from(Arc::new(Exit));
            for n in (0..64).step_by(2) {
                let mut read = image.aio().read(n * LEN, LEN as usize);
                std::mem::forget(image.aio().write((n + 1) * LEN, data()));
                if n == 4 {
                    let _ = Pin::new(&mut read).poll(&mut Context::from_waker(&waker));
                }
                std::mem::forget(read);
            }
            std::thread::sleep(LIMIT);
        }
        other => unreachable!("{other}"),
    }
    match end {
        "exit" => std::process::exit(7),
        "panic" => std::panic::resume_unwind(Box::new("operations are in flight")),
        _ => {}
    }
}

struct Exit;

impl Wake for Exit {
    fn wake(self: Arc<Self>) {
        std::process::exit(7);
    }
}

/// The ways to end, and the exit code of each.
const WAYS: &[(&str, i32)] = &[
    ("returns_with_futures_in_flight", 0),
    ("returns_with_a_queue_in_flight", 0),
    ("returns_while_opening_and_closing", 0),
    ("returns_with_alarms_set", 0),
    ("returns_where_no_thread_is_to_be_had", 0),
    ("exits", 7),
    ("panics", 101),
];

fn child(way: &str, conf: &Path) {
    if way.starts_with("connecting_") {
        return connecting::child(way, conf);
    }
    if let Some((_, byte, limit)) = SLOW.iter().find(|(slow, ..)| *slow == way) {
        let slow = Cluster::builder().option("rbd_qos_iops_limit", limit.to_string());
        let slow = slow.option("rbd_qos_iops_burst", "0");
        let pool = slow.ignore_environment(true).conf_file(conf).connect().unwrap().ioctx("rbd").unwrap();
        let (image, data) = (pool.open(way).run().unwrap(), Bytes::from(vec![*byte; 512]));
        if way.contains("queue") {
            let mut queue = Queue::new(image, SLOW_WRITES as usize).unwrap();
            (0..SLOW_WRITES).for_each(|n| queue.write(n, n * 4096, data.clone()).unwrap());
            std::mem::forget(queue);
        } else {
            let mut first = image.aio().write(0, data.clone());
            (1..SLOW_WRITES).for_each(|n| drop(image.aio().write(n * 4096, data.clone())));
            if way.contains("wake") {
                let waker = Waker::from(Arc::new(Exit));
                assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
                std::thread::sleep(LIMIT);
            }
            std::mem::forget(image);
        }
        std::process::exit(7)
    }
    let cluster = Cluster::builder().ignore_environment(true).conf_file(conf).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    match way {
        "returns_while_the_connection_is_closed" => {
            drop(cluster);
            let opening = pool.open("nothing").start();
            drop(pool);
            let error = opening.wait().unwrap_err();
            assert!(error.is_not_found(), "{error}");
            return;
        }
        "returns_while_an_image_is_closed" => {
            let image = pool.open("foo").start().wait().unwrap();
            drop((cluster, pool));
            return drop(image);
        }
        "returns_while_it_is_opened" => {
            let opening = pool.open("foo").start();
            drop((cluster, pool));
            return drop(opening);
        }
        "returns_while_a_call_is_awaited" => {
            drop(cluster);
            let mut call = Box::pin(rbd::unblock(move || pool.open("foo").run()));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            std::thread::sleep(Duration::from_millis(2));
            return;
        }
        "exits_while_other_threads_submit" => {
            let image = Arc::new(pool.open("foo").read_only(true).run().unwrap());
            for n in 0..4 {
                let image = image.clone();
                std::thread::spawn(move || {
                    let mut data = [0; 4096];
                    while image.read_exact_at(&mut data, n * 4096).is_ok() {}
                });
            }
            std::thread::sleep(Duration::from_millis(50));
            std::process::exit(7);
        }
        _ => {}
    }
    if way.starts_with("busy_") {
        std::mem::forget(cluster);
        let image = std::env::args().nth(2).unwrap();
        busy(way, &pool, &image);
        // The connection stays open, as after an exit.
        return std::mem::forget(pool);
    }
    let mut image = pool.open("foo").run().unwrap();
    image.set_close_in_background(true);
    let mut queue = Queue::new(pool.open("bar").run().unwrap(), 4).unwrap();
    let ready = conf.parent().unwrap().join(format!("ready-{}", std::process::id()));
    std::fs::write(&ready, "").unwrap();
    while ready.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let reads: Vec<_> = (0..4).map(|n| image.aio().read(n * 4096, 4096)).collect();
    for n in 0..4 {
        queue.read(n, n * 4096, 4096, BytesMut::new()).unwrap();
    }
    // Values whose drop waits for their operations are leaked, because here the process must end
    // without waiting.
    match way {
        "returns_with_futures_in_flight" => {
            std::mem::forget(queue);
            drop((image, reads));
        }
        "returns_with_a_queue_in_flight" => std::mem::forget((image, reads, queue)),
        "returns_while_opening_and_closing" => {
            std::mem::forget(queue);
            drop(pool.open("foo").start());
            drop(image.start_close());
            std::mem::forget(pool.open("bar").start());
        }
        "returns_with_alarms_set" => {
            let alarm = |n: u64| {
                let mut read = image.aio().read(n * 4096, 4096).timeout(Duration::from_secs(3600));
                assert!(Pin::new(&mut read).poll(&mut Context::from_waker(Waker::noop())).is_pending());
                std::mem::forget(read);
            };
            // Stuck operations use no threads. Ceph may start a thread meanwhile.
            let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
            alarm(0);
            let with_one = threads();
            (1..=200).for_each(alarm);
            let with_all = threads();
            assert!(with_all < with_one + 20, "{with_one} threads with one alarm, {with_all} with 201");
            std::mem::forget((image, reads, queue));
        }
        "returns_where_no_thread_is_to_be_had" => {
            // No memory for a stack.
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
            let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
            let limit = Rlimit { current: Some((kib << 10) + (1 << 20)), maximum: None };
            setrlimit(Resource::As, limit).unwrap();
            let mut read = image.aio().read(0, 4096).timeout(Duration::from_secs(3600));
            let Poll::Ready(Err(error)) = Pin::new(&mut read).poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("nobody will wake it")
            };
            assert!(error.to_string().contains("no thread can be started for its timeout"), "{error}");
            std::mem::forget((image, reads, queue));
        }
        "exits" => std::process::exit(7),
        "panics" => {
            std::mem::forget((image, reads, queue));
            std::panic::resume_unwind(Box::new("operations are in flight"));
        }
        other => unreachable!("{other}"),
    }
}
