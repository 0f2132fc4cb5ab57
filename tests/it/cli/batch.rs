//! The example `batch`, which the `rbd` command does not have.

use rbd::image::CloneFormat;

use super::{Pool, Setting, example, example_succeeds};
use crate::support::program::output;

/// Returns the names of the images in the pool.
fn left(pool: &Pool) -> Vec<String> {
    pool.ioctx.list().unwrap().into_iter().map(|image| image.name).collect()
}

#[test]
fn many_are_snapshotted_flattened_trashed_and_removed() {
    let pool = Pool::new();
    let names: Vec<_> = (0..12).map(|number| format!("old-{number:02}")).collect();
    let create = |pool: &rbd::IoCtx, name: &str| pool.create(name, 1 << 20).run();
    assert!(pool.ioctx.batch(&names).run(create).unwrap().is_complete());
    pool.ioctx.create("new", 1 << 20).run().unwrap();
    let batch = |args: &[&str]| example_succeeds(&[&["batch", "-p", &pool.name][..], args].concat());

    let said = batch(&["snapshot", "--snap", "monday", "--prefix", "old-"]);
    assert!(said.out.is_empty() && said.messages.ends_with("Images: 100% complete...done.\n"), "{said:?}");
    let snapshots = pool.ioctx.survey().snapshots(true).run().unwrap().map(Result::unwrap);
    let snapshots: Vec<_> = snapshots.map(|image| (image.name, image.snapshots.len())).collect();
    assert_eq!(snapshots.len(), 13);
    assert!(snapshots.iter().all(|(name, count)| *count == usize::from(name != "new")), "{snapshots:?}");

    let clone = pool.ioctx.clone_image("old-00", "monday", "clone");
    clone.format(CloneFormat::V2).run().unwrap();
    batch(&["flatten", "clone", "--no-progress"]);
    assert!(pool.ioctx.open("clone").run().unwrap().parent().unwrap().is_none());

    let said = batch(&["trash", "--prefix", "old-0", "--no-progress", "--in-flight", "3"]);
    assert_eq!((&*said.out, &*said.messages), ("", ""));
    assert_eq!(pool.ioctx.trash().list().unwrap().len(), 10);
    batch(&["remove", "clone", "new"]);
    assert_eq!(left(&pool), ["old-10", "old-11"]);
}

#[test]
fn a_failure_of_some_is_reported_and_decides_the_status() {
    let pool = Pool::new();
    for name in ["a", "b", "c"] {
        pool.ioctx.create(name, 1 << 20).run().unwrap();
    }
    let b = pool.ioctx.open("b").run().unwrap();
    b.snapshots().create("kept").run().unwrap();
    b.close().unwrap();
    let batch = |args: &[&str]| Setting::shared().example(&[&["batch", "-p", &pool.name][..], args].concat());

    let said = batch(&["remove", "a", "none", "b", "c"]);
    assert_eq!(said.status, Some(39), "{said:?}");
    for line in [
        "rbd: none: failed: (2) No such file or directory\n",
        "rbd: b: failed: (39) Directory not empty\n",
        "Images: 100% complete...failed.\n",
        "rbd: 2 of 4 images failed\n",
    ] {
        assert!(said.messages.contains(line), "{line} is not in {said:?}");
    }
    assert_eq!(left(&pool), ["b"]);

    let said = batch(&["remove", "--prefix", "nothing-"]);
    assert_eq!((said.status, &*said.messages), (Some(0), "rbd: no image begins with 'nothing-'\n"));
    let said = batch(&["remove"]);
    assert_eq!(said.status, Some(22), "{said:?}");
    assert!(said.messages.contains("no images: name some"), "{said:?}");
    let said = batch(&["remove", "b", &pool.at("b")]);
    let message =
        format!("rbd: '{}' is not the name of an image; use --pool and --namespace\n", pool.at("b"));
    assert_eq!((said.status, said.messages), (Some(22), message));
    for wrong in ["0", "1025", "-1", "x"] {
        let said = batch(&["remove", "b", &format!("--in-flight={wrong}")]);
        assert_eq!(said.status, Some(1), "{wrong}: {said:?}");
        assert!(said.messages.contains("for option '--in-flight' is invalid"), "{wrong}: {said:?}");
    }
    let said = batch(&["snapshot", "b"]);
    assert_ne!(said.status, Some(0), "a snapshot needs a name: {said:?}");
    assert_eq!(left(&pool), ["b"]);
}

/// librbd's log lines do not name the image, so they stand at one only if no other was in flight.
#[test]
fn log_lines_are_shown_only_if_one_action_is_in_flight() {
    let pool = Pool::new();
    let in_use = ["a", "b"].map(|name| {
        pool.ioctx.create(name, 1 << 20).run().unwrap();
        pool.ioctx.open(name).run().unwrap()
    });
    let lines = |args: &[&str]| {
        let mut command = Setting::shared().command(example("batch"), "");
        let output = output(command.args(["-p", &pool.name, "remove", "--no-progress"]).args(args));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("why: cannot remove").count(), args.len().min(2), "{said}");
        said.matches("why: ceph: ").count()
    };
    assert_eq!(lines(&["a", "b"]), 0);
    assert!(lines(&["a", "b", "--in-flight=1"]) >= 2);
    assert!(lines(&["a"]) >= 1);
    assert_eq!(left(&pool), ["a", "b"]);
    drop(in_use);
}
