//! The examples that are not a command of `rbd`. For `backup`: its files are compared with those of
//! `rbd export-diff`, and restored images with the originals.

use std::fs;

use rbd::{Cluster, Features, Image};
use rbd_testcluster::TestCluster;
use serde_json::Value;

use super::{Pool, Setting, rbd};
use crate::support::pattern;
use crate::support::program::output;

const MIB: usize = 1 << 20;

/// Both ways of asynchronous I/O read the whole image, including the short block at its end.
#[test]
fn aio_counts_zeros_by_futures_and_by_a_queue() {
    let pool = Pool::new();
    pool.ioctx.create("foo", (24 << 20) + 512).run().unwrap();
    let image = pool.ioctx.open("foo").run().unwrap();
    write(&image, 1, 3 * MIB, 7 * MIB);
    write(&image, 1, 24 * MIB, 512);
    let said = super::example_succeeds(&["aio", &pool.at("foo")]);
    assert_eq!(said.out, "futures: 17 MiB of zeros\nqueue: 17 MiB of zeros\n");
    let said = Setting::shared().example(&["aio", &pool.at("bar")]);
    assert_eq!(said.status, Some(2), "{said:?}");
}

fn backup(args: &[&str]) -> Result<(), String> {
    let mut command = Setting::shared().command(super::example("backup"), "");
    let output = output(command.args(args));
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Ok(()) } else { Err(said) }
}

fn write(image: &Image, seed: u8, offset: usize, len: usize) {
    image.write_all_at(&pattern(seed, len), offset as u64).unwrap();
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; image.size().unwrap() as usize];
    image.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_restored_image_is_the_one_that_was_saved_at_every_snapshot() {
    let pool = Pool::new();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (foo, bar) = (pool.at("foo"), pool.at("bar"));
    pool.ioctx.create("foo", 64 << 20).features(Features::LAYERING).run().unwrap();
    let image = pool.ioctx.open("foo").run().unwrap();

    // More pieces than can be in flight at once, some smaller than an object, and holes.
    write(&image, 1, 0, 41 * MIB + 4711);
    write(&image, 2, 60 * MIB, 5000);
    backup(&["save", &foo, &file("monday"), "--snap", "monday"]).unwrap();
    let monday = bytes(&image);

    // Other data, discarded data, and another size.
    write(&image, 3, 9 * MIB + 7, 3 * MIB);
    image.discard(20 << 20, 8 << 20).unwrap();
    image.resize(72 << 20).run().unwrap();
    write(&image, 4, 70 * MIB, 100);
    backup(&["save", &foo, &file("tuesday"), "--snap", "tuesday", "--since", "monday"]).unwrap();
    let tuesday = bytes(&image);
    image.resize(5 << 20).allow_shrink(true).run().unwrap();
    backup(&["save", &foo, &file("wednesday"), "--snap", "wednesday", "--since", "tuesday"]).unwrap();
    let size = |name: &str| fs::metadata(file(name)).unwrap().len();
    assert!((41 << 20..43 << 20).contains(&size("monday")), "holes are not saved: {}", size("monday"));
    assert!(size("tuesday") < 12 << 20, "only what changed: {}", size("tuesday"));

    backup(&["restore", &bar, &file("monday"), &file("tuesday"), &file("wednesday")]).unwrap();
    let restored = pool.ioctx.open("bar").run().unwrap();
    assert!(bytes(&restored.at_snapshot("monday").unwrap()) == monday);
    assert!(bytes(&restored.at_snapshot("tuesday").unwrap()) == tuesday);
    assert!(bytes(&restored) == tuesday[..5 << 20]);

    // The `rbd` command reads these files, and the example reads the command's files.
    let theirs = pool.at("theirs");
    rbd(&["create", "-s", "1", &theirs]);
    for name in ["monday", "tuesday"] {
        rbd(&["import-diff", "--no-progress", &file(name), &theirs]);
    }
    assert!(bytes(&pool.ioctx.open("theirs").run().unwrap()) == tuesday);
    let merged = file("merged");
    rbd(&["merge-diff", "--no-progress", &file("monday"), &file("tuesday"), &merged]);
    let exported = file("exported");
    rbd(&["export-diff", "--no-progress", &format!("{foo}@tuesday"), &exported]);
    for (name, path) in [("of-merged", merged), ("of-exported", exported)] {
        backup(&["restore", &pool.at(name), &path]).unwrap();
        assert!(bytes(&pool.ioctx.open(name).run().unwrap()) == tuesday, "{name}");
    }
}

#[test]
fn a_failed_save_or_restore_leaves_nothing_or_reports_it() {
    let pool = Pool::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (foo, bar) = (pool.at("foo"), pool.at("bar"));
    pool.ioctx.create("foo", 8 << 20).run().unwrap();
    let image = pool.ioctx.open("foo").run().unwrap();
    write(&image, 1, 0, MIB);
    let names =
        || image.snapshots().list().unwrap().into_iter().map(|snapshot| snapshot.name).collect::<Vec<_>>();

    let said = backup(&["save", &foo, &path("x"), "--snap", "x", "--since", "no"]).unwrap_err();
    assert!(said.contains("@no") && said.contains("does not exist"), "{said}");
    assert!(names().is_empty(), "the snapshot is no base for a next save");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);

    backup(&["save", &foo, &path("full"), "--snap", "one"]).unwrap();
    let before = fs::read(path("full")).unwrap();
    let said = backup(&["save", &foo, &path("full"), "--snap", "two"]).unwrap_err();
    assert!(said.contains("(17) File exists"), "{said}");
    assert!(fs::read(path("full")).unwrap() == before && names() == ["one"]);
    backup(&["save", &foo, &path("more"), "--snap", "two", "--since", "one"]).unwrap();

    // Refused before the image is created.
    for (files, why) in [
        (vec![path("more")], "starts from snapshot 'one', not from an empty image"),
        (vec![path("full"), path("full")], "starts from an empty image, not from snapshot 'one'"),
        (vec![path("full"), path("absent")], "No such file"),
    ] {
        let files = files.iter().map(String::as_str);
        let said = backup(&["restore", &bar].into_iter().chain(files).collect::<Vec<_>>()).unwrap_err();
        assert!(said.contains(why), "{said}");
        assert!(pool.ioctx.open("bar").run().unwrap_err().is_not_found());
    }

    fs::write(path("cut"), &before[..before.len() - 1]).unwrap();
    let said = backup(&["restore", &bar, &path("cut")]).unwrap_err();
    assert!(said.contains("ends too early") && said.contains("not complete: remove it"), "{said}");

    let said = backup(&["restore", &bar, &path("full")]).unwrap_err();
    assert!(said.contains("already exists"), "{said}");
}

/// Returns how many messages the OSD has received. Its counters of operations leave out those on
/// objects that do not exist.
fn received(cluster: &Cluster) -> u64 {
    let dump = cluster.osd_command(0, r#"{"prefix": "perf dump"}"#, b"").unwrap();
    let dump: Value = serde_json::from_slice(&dump).unwrap();
    let parts = dump.as_object().unwrap().iter();
    let workers = parts.filter(|(name, _)| name.starts_with("AsyncMessenger::Worker"));
    workers.map(|(_, counters)| counters["msgr_recv_messages"].as_u64().unwrap()).sum()
}

/// Images of 2048 objects, three of which exist. The object map says which. Without a map, the OSD
/// is asked about each: so the counter sees it.
#[test]
fn a_save_reads_no_holes() {
    let own = TestCluster::builder().start().unwrap();
    let cluster = Cluster::builder().ignore_environment(true).conf_file(own.conf()).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let map = Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    for (name, features) in [("with", Features::LAYERING | map), ("without", Features::LAYERING)] {
        pool.create(name, 8 << 30).features(features).run().unwrap();
        let image = pool.open(name).run().unwrap();
        for object in [0, 700, 2047] {
            write(&image, 1, object * (4 << 20) + MIB, 2 * MIB);
        }
        image.close().unwrap();
        let file = folder.path().join(name);
        let before = received(&cluster);
        let spec = format!("rbd/{name}");
        let args = ["backup", "save", &spec, file.to_str().unwrap(), "--snap", "snap"];
        let said = Setting { conf: own.conf(), ceph_args: "" }.example(&args);
        assert_eq!(said.status, Some(0), "{said:?}");
        let received = received(&cluster) - before;
        match name {
            // The reads, and those for opening images and making the snapshot.
            "with" => assert!((6..600).contains(&received), "{received} messages"),
            _ => assert!(received > 2045, "{received} messages"),
        }
        let len = fs::metadata(&file).unwrap().len();
        assert!((6 << 20..7 << 20).contains(&len), "{len} bytes");
    }
}
