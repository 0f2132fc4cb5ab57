//! Surveys of 10,000 images: their memory and their operations do not grow faster than the images.

use std::future::Future as _;
use std::io::Read as _;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rbd::{Cluster, IoCtx, Result};
use rbd_testcluster::{Daemon, TestCluster};
use serde_json::Value;

use super::in_flight;
use crate::cli::example;

const IMAGES: usize = 10_000;
const SIZE: u64 = 1 << 30;

/// Consecutive images whose object maps would together exceed the limit: 512 KiB each.
const BIG: std::ops::Range<usize> = 5_000..5_064;
const BIG_SIZE: u64 = 8 << 40;

/// What a process may take.
const MEMORY: u64 = 64 << 20;

fn size(number: usize) -> u64 {
    if BIG.contains(&number) { BIG_SIZE } else { SIZE }
}

/// Encodes a text for a class call.
fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

/// Creates an image by class calls that librbd also makes, with the default features, in a quarter
/// of its time. Only the object that leads from its name to its id is missing, so librbd opens it
/// by its id.
fn create(pool: &IoCtx, name: &str) -> Result<()> {
    let (id, size) = (id(name), size(number(name)));
    let objects = pool.objects();
    let call =
        |object: &str, method, input: Vec<u8>| objects.execute(object, "rbd", method, &input).map(drop);
    call("rbd_directory", "dir_add_image", [text(name), text(&id)].concat())?;
    let (order, features, no_data_pool) = ([22], 61_u64.to_le_bytes(), (-1_i64).to_le_bytes());
    let prefix = text(&format!("rbd_data.{id}"));
    let header = [&size.to_le_bytes()[..], &order, &features, &prefix, &no_data_pool].concat();
    call(&format!("rbd_header.{id}"), "create", header)?;
    let (count, absent) = ((size >> 22).to_le_bytes(), [0]);
    call(&format!("rbd_object_map.{id}"), "object_map_resize", [&count[..], &absent].concat())
}

fn number(name: &str) -> usize {
    name.trim_start_matches("image").parse().unwrap()
}

fn id(name: &str) -> String {
    format!("5caf{:08x}", number(name))
}

/// Runs an example and returns its output, parsed, and its peak memory.
fn run(conf: &Path, program: &str, args: &[&str]) -> (Value, u64) {
    let mut child = Command::new(example(program))
        .env("CEPH_CONF", conf)
        .args(args)
        .args(["--format", "json", "--no-progress"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut said) = (child.stdout.take().unwrap(), vec![0]);
    // The output does not fit into the pipe. So after its first byte the program waits, with
    // everything in memory that it ever needs.
    out.read_exact(&mut said).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = peak.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10;
    out.read_to_end(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(said.len() > 1 << 17, "{} bytes do not fill the pipe", said.len());
    (serde_json::from_slice(&said).unwrap(), peak)
}

/// Returns how many operations that only read the OSD has carried out.
fn reads(cluster: &Cluster) -> u64 {
    let dump = cluster.osd_command(0, r#"{"prefix": "perf dump"}"#, b"").unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    dump["osd"]["op_r"].as_u64().unwrap()
}

#[test]
fn ten_thousand_images() {
    let own = TestCluster::builder().mgr(false).start().unwrap();
    let builder = || Cluster::builder().ignore_environment(true).conf_file(own.conf());
    let cluster = builder().connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let names: Vec<_> = (0..IMAGES).map(|number| format!("image{number:05}")).collect();
    let made = pool.batch(&names).max_in_flight(16).run(create).unwrap();
    assert!(made.is_complete(), "{:?}", made.failed.first());

    // librbd accepts what was made.
    let one = pool.open_by_id(&id("image05063")).run().unwrap();
    one.write_all_at(b"first", 0).unwrap();
    one.snapshots().create("snap").run().unwrap();
    one.write_all_at(b"second", BIG_SIZE / 2).unwrap();
    assert!(one.diff().whole_objects(true).fast_diff().unwrap().is_usable());
    one.close().unwrap();

    let before = reads(&cluster);
    let (listed, peak) = run(own.conf(), "ls", &["-l", "rbd"]);
    let ls = reads(&cluster) - before;
    let sizes = listed.as_array().unwrap().iter().filter(|row| row.get("snapshot").is_none());
    assert!(sizes.map(|row| row["size"].as_u64().unwrap()).eq((0..IMAGES).map(size)));
    assert!(peak < MEMORY, "ls -l took {peak} bytes");
    // One for an image; the others for the list, one for the snapshot.
    assert!(ls < IMAGES as u64 + 300, "ls -l took {ls} operations");

    let (measured, peak) = run(own.conf(), "du", &["-p", "rbd"]);
    let du = reads(&cluster) - before - ls;
    let used = measured["images"].as_array().unwrap().iter().map(|row| row["used_size"].as_u64().unwrap());
    assert_eq!(used.sum::<u64>(), 8 << 20);
    assert!(peak < MEMORY, "du took {peak} bytes");
    assert!(du < 2 * IMAGES as u64 + 300, "du took {du} operations");

    // An OSD that does not answer leaves as many images in flight as allowed.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let client = builder().option("admin_socket", socket.to_str().unwrap()).connect().unwrap();
    for most in [5, 64] {
        let pool = client.ioctx("rbd").unwrap();
        let survey = pool.survey().max_in_flight(most);
        let mut stream = survey.start().unwrap();
        let mut next = || pin!(stream.next()).poll(&mut Context::from_waker(Waker::noop()));
        let begun = Instant::now();
        let mut taken = 0;
        while taken < 500 {
            match next() {
                Poll::Ready(image) => taken += usize::from(image.unwrap().is_ok()),
                Poll::Pending => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{taken} images in a minute");
        }
        own.pause(Daemon::Osd(0)).unwrap();
        // What was known is taken, so that nothing but the limit holds the survey up.
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(500) {
            if next().is_pending() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let images = |op: &Value| op["object_id"].as_str().unwrap().starts_with("rbd_header.");
        assert_eq!(in_flight(&socket, images), most);
        own.resume(Daemon::Osd(0)).unwrap();
    }
}
