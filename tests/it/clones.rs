//! Clones: parents, children, chains, flattening; across namespaces and formats.

use std::ops::ControlFlow;

use rbd::{
    Cluster, ErrorKind, Features, Image, ObjectKind,
    image::{CloneFormat, LinkedImage},
    snapshot::{SnapshotKind, SnapshotOrigin},
};

use crate::masks::{OBJECT, create, features};
use crate::support::{Space, pattern};

/// Creates `foo@s1` with four objects of data.
fn parent(space: &Space) -> Image {
    create(space, "foo", 8 * OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&pattern(1, 4 * OBJECT as usize), 0).unwrap();
    image.snapshots().create("s1").run().unwrap();
    image
}

fn clone(space: &Space, name: &str, format: CloneFormat) {
    space.clone_image("foo", "s1", name).format(format).run().unwrap();
}

fn names(images: &[LinkedImage]) -> Vec<&str> {
    images.iter().map(|image| &*image.name).collect()
}

fn has_newer_calls() -> bool {
    Cluster::librbd_version().minor >= 20
}

#[test]
fn a_clone_reads_its_parent_and_writes_its_own() {
    let (space, other) = (Space::new(), Space::new());
    let parent = parent(&space);
    space
        .clone_image("foo", "s1", "bar")
        .format(CloneFormat::V2)
        .into_ioctx(&other)
        .features(features())
        .object_size(2 * OBJECT)
        .run()
        .unwrap();
    let clone = other.open("bar").run().unwrap();
    assert_eq!(clone.stat().unwrap().object_size, 2 * OBJECT);
    let mut data = vec![0; 4 * OBJECT as usize];
    clone.read_exact_at(&mut data, 0).unwrap();
    assert!(data == pattern(1, data.len()));
    clone.write_all_at(&pattern(2, 4096), 0).unwrap();
    parent.read_exact_at(&mut data, 0).unwrap();
    assert!(data == pattern(1, data.len()));

    let from = clone.parent().unwrap().unwrap();
    assert_eq!((&*from.image.name, &*from.snapshot, from.overlap), ("foo", "s1", 8 * OBJECT));
    assert_eq!(from.to_string(), format!("rbd/{}/foo@s1", space.namespace()));
    assert_eq!(from.snapshot_id, parent.snapshots().id("s1").unwrap());
    assert_eq!(from.snapshot_kind, SnapshotKind::User);
    assert_eq!((from.image.pool_id, from.image.in_trash), (space.pool_id(), false));
    assert_eq!(from.image.id, parent.id().unwrap());
    let children = parent.children().unwrap();
    assert_eq!(children[0].to_string(), format!("rbd/{}/bar", other.namespace()));
    assert_eq!(parent.parent().unwrap(), None);
    drop(clone);
    other.remove("bar").run().unwrap();
    assert!(parent.children().unwrap().is_empty());
}

#[test]
fn chains_are_walked_up_and_down() {
    let space = Space::new();
    let image = parent(&space);
    for (from, to) in [("foo", "one"), ("one", "two"), ("two", "three")] {
        if from != "foo" {
            space.open(from).run().unwrap().snapshots().create("s1").run().unwrap();
        }
        space.clone_image(from, "s1", to).format(CloneFormat::V2).run().unwrap();
    }
    let last = space.open("three").read_only(true).run().unwrap();
    let chain: Vec<String> = last.ancestors().unwrap().into_iter().map(|parent| parent.image.name).collect();
    assert_eq!(chain, ["two", "one", "foo"]);
    assert!(image.ancestors().unwrap().is_empty());
    assert_eq!(names(&image.children().unwrap()), ["one"]);
    let mut all = image.descendants().unwrap();
    all.sort();
    assert_eq!(names(&all), ["one", "three", "two"]);
}

#[test]
fn children_can_be_asked_of_one_snapshot() {
    let space = Space::new();
    let image = parent(&space);
    image.snapshots().create("s2").run().unwrap();
    clone(&space, "a", CloneFormat::V2);
    space.clone_image("foo", "s2", "b").format(CloneFormat::V2).run().unwrap();
    assert_eq!(names(&image.children().unwrap()), ["a", "b"]);
    assert_eq!(names(&image.at_snapshot("s1").unwrap().children().unwrap()), ["a"]);
    assert_eq!(names(&image.at_snapshot("s2").unwrap().children().unwrap()), ["b"]);
}

#[test]
fn format_1_needs_protection_and_keeps_it() {
    let space = Space::new();
    let image = parent(&space);
    let error = space.clone_image("foo", "s1", "bar").format(CloneFormat::V1).run().unwrap_err();
    assert!(error.to_string().contains("is not protected"), "{error}");
    image.snapshots().protect("s1").unwrap();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        clone(&space, name, CloneFormat::V1);
    }
    let error = image.snapshots().unprotect("s1").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::HasClones, "{error}");
    let ns = space.namespace();
    assert!(error.to_string().contains(&format!("clones: rbd/{ns}/a, rbd/{ns}/b")), "{error}");
    assert!(error.to_string().contains("and 2 more"), "{error}");
    let error = image.snapshots().remove("s1").run().unwrap_err();
    assert!(error.is_busy(), "{error}");
    image.snapshots().remove("s1").flatten(true).unprotect(true).run().unwrap();
    assert_eq!(space.open("g").run().unwrap().parent().unwrap(), None);
}

#[test]
fn a_removed_snapshot_lives_on_in_the_trash_for_format_2() {
    let space = Space::new();
    let image = parent(&space);
    clone(&space, "bar", CloneFormat::V2);
    image.snapshots().remove("s1").run().unwrap();
    let snapshots = image.snapshots().list().unwrap();
    let SnapshotOrigin::Trash { original_name, original_kind } = &snapshots[0].origin else {
        panic!("{snapshots:?}");
    };
    assert_eq!(original_name, "s1");
    assert_eq!(*original_kind, has_newer_calls().then_some(SnapshotKind::User));
    let bar = space.open("bar").run().unwrap();
    assert_eq!(bar.parent().unwrap().unwrap().snapshot_kind, SnapshotKind::Trash);
    assert_eq!(bar.ancestors().unwrap().len(), 1);
    image.close().unwrap();
    let error = space.remove("foo").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::HasClones, "{error}");
    assert!(error.to_string().contains("/bar"), "{error}");
    bar.flatten().run().unwrap();
    space.remove("foo").run().unwrap();
    let mut data = vec![0; 4 * OBJECT as usize];
    bar.read_exact_at(&mut data, 0).unwrap();
    assert!(data == pattern(1, data.len()));
}

#[test]
fn flatten_reports_progress_can_be_stopped_and_needs_a_clone() {
    let space = Space::new();
    let image = parent(&space);
    clone(&space, "bar", CloneFormat::V2);
    let bar = space.open("bar").run().unwrap();
    let error = bar.flatten().progress(|_, _| ControlFlow::Break(())).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Stopped, "{error}");
    assert!(bar.parent().unwrap().is_some());
    let mut steps = 0;
    let count = |_, total| {
        assert_eq!(total, 8);
        steps += 1;
        ControlFlow::Continue(())
    };
    bar.flatten().progress(count).run().unwrap();
    assert!(steps > 0);
    assert_eq!(bar.parent().unwrap(), None);
    for image in [&bar, &image] {
        let error = image.flatten().run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not a clone"), "{error}");
    }
}

#[test]
fn obstacles_of_a_clone_are_named() {
    let space = Space::new();
    drop(parent(&space));
    let missing = |what| ErrorKind::NotFound { what };
    let error = space.clone_image("nope", "s1", "bar").run().unwrap_err();
    assert_eq!(*error.kind(), missing(ObjectKind::Image), "{error}");
    assert!(error.to_string().contains("/nope' does not exist"), "{error}");
    let error = space.clone_image("foo", "nope", "bar").format(CloneFormat::V2).run().unwrap_err();
    assert_eq!(*error.kind(), missing(ObjectKind::Snapshot), "{error}");
    assert!(error.to_string().contains("/foo@nope' does not exist"), "{error}");
    let nowhere = space.with_namespace("nowhere").unwrap();
    let into = space.clone_image("foo", "s1", "bar").format(CloneFormat::V2).into_ioctx(&nowhere);
    let error = into.run().unwrap_err();
    assert_eq!(*error.kind(), missing(ObjectKind::Namespace), "{error}");
    let clone = || space.clone_image("foo", "s1", "bar").format(CloneFormat::V2);
    let error = clone().data_pool("nope").run().unwrap_err();
    assert!(error.is_not_found() || *error.kind() == ErrorKind::Other, "{error}");
    let error = clone().features(Features::FAST_DIFF).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    clone().run().unwrap();
    assert!(clone().run().unwrap_err().is_already_exists());
}

#[test]
fn a_clone_of_a_snapshot_id_works_or_names_the_release() {
    let space = Space::new();
    let image = parent(&space);
    let id = image.snapshots().id("s1").unwrap();
    let made = space.clone_image("foo", id, "bar").format(CloneFormat::V2).run();
    if has_newer_calls() {
        made.unwrap();
        assert_eq!(names(&image.children().unwrap()), ["bar"]);
        let error = space.clone_image("foo", 4711, "baz").run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Snapshot }, "{error}");
    } else {
        let error = made.unwrap_err();
        let ErrorKind::LibraryTooOld { symbol, needs, found } = error.kind() else { panic!("{error}") };
        assert_eq!((*symbol, *needs), ("rbd_clone4", "Ceph 20.2"));
        assert!(found.starts_with("librbd 1."), "{found}");
    }
}
