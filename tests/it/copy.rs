//! Copies, and maintenance of objects and object maps.

use std::ops::ControlFlow;

use rbd::{ErrorKind, Features, Image, features::Flags, image::CloneFormat};

use crate::masks::{Mask, OBJECT, create, features, mask};
use crate::support::{Space, pattern, rados};

/// Creates `foo` with two objects of data, then `s1`, then other data.
fn source(space: &Space) -> Image {
    create(space, "foo", 8 * OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&pattern(1, 2 * OBJECT as usize), 0).unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.write_all_at(&pattern(2, 2 * OBJECT as usize), OBJECT).unwrap();
    image
}

fn content(image: &Image) -> Vec<u8> {
    let mut data = vec![0; image.size().unwrap() as usize];
    image.read_exact_at(&mut data, 0).unwrap();
    data
}

#[test]
fn a_copy_equals_the_version_of_the_handle() {
    let (space, other) = (Space::new(), Space::new());
    let image = source(&space);
    let mut steps = Vec::new();
    let progress = |done, total| {
        steps.push((done, total));
        ControlFlow::Continue(())
    };
    let options = image.copy_to(&other, "bar").features(Features::LAYERING).object_size(2 * OBJECT);
    options.progress(progress).run().unwrap();
    let bar = other.open("bar").run().unwrap();
    assert!(content(&bar) == content(&image));
    assert_eq!(bar.stat().unwrap().object_size, 2 * OBJECT);
    assert!(bar.features().unwrap().contains(Features::LAYERING));
    assert!(bar.snapshots().list().unwrap().is_empty());
    assert!(!steps.is_empty());

    let then = image.at_snapshot("s1").unwrap();
    then.copy_to(&space, "old").sparse_size(OBJECT / 2).run().unwrap();
    let old = space.open("old").read_only(true).run().unwrap();
    assert!(content(&old) == content(&then) && content(&old) != content(&image));
}

#[test]
fn a_sparse_copy_takes_no_space_for_zeros() {
    let space = Space::new();
    create(&space, "foo", 8 * OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&vec![0; 4 * OBJECT as usize], 0).unwrap();
    image.write_all_at(&pattern(1, OBJECT as usize), 0).unwrap();
    image.flush().unwrap();
    let used = |name: &str| -> u64 {
        let image = space.open(name).read_only(true).run().unwrap();
        image.diff().collect().unwrap().iter().filter(|extent| extent.exists).map(|extent| extent.len).sum()
    };
    image.copy_to(&space, "sparse").run().unwrap();
    assert_eq!(used("sparse"), OBJECT);
    assert_eq!(used("foo"), 4 * OBJECT);
    image.sparsify(4096).run().unwrap();
    assert_eq!(used("foo"), OBJECT);
}

#[test]
fn a_deep_copy_has_the_snapshots_too() {
    let (space, other) = (Space::new(), Space::new());
    let image = source(&space);
    image.snapshots().create("s2").run().unwrap();
    image.deep_copy_to(&other, "bar").run().unwrap();
    let bar = other.open("bar").run().unwrap();
    assert!(content(&bar) == content(&image));
    let names: Vec<_> = bar.snapshots().list().unwrap().into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["s1", "s2"]);
    assert!(content(&bar.at_snapshot("s1").unwrap()) == content(&image.at_snapshot("s1").unwrap()));

    image.at_snapshot("s1").unwrap().deep_copy_to(&other, "old").run().unwrap();
    let old = other.open("old").run().unwrap();
    let names: Vec<_> = old.snapshots().list().unwrap().into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["s1"]);
}

#[test]
fn a_deep_copy_of_a_clone_is_one_unless_it_is_flattened() {
    let space = Space::new();
    let image = source(&space);
    space.clone_image("foo", "s1", "clone").format(CloneFormat::V2).run().unwrap();
    let clone = space.open("clone").run().unwrap();
    clone.deep_copy_to(&space, "still").run().unwrap();
    clone.deep_copy_to(&space, "flat").flatten(true).run().unwrap();
    let open = |name: &str| space.open(name).read_only(true).run().unwrap();
    assert!(open("still").parent().unwrap().is_some());
    assert_eq!(open("flat").parent().unwrap(), None);
    let then = content(&image.at_snapshot("s1").unwrap());
    assert!(content(&open("still")) == then && content(&open("flat")) == then);
}

#[test]
fn copying_over_another_image_keeps_the_data_after_the_range() {
    let space = Space::new();
    let image = source(&space);
    for (name, size) in [("big", 10 * OBJECT), ("small", 7 * OBJECT)] {
        create(&space, name, size).run().unwrap();
    }
    let (big, small) = (space.open("big").run().unwrap(), space.open("small").run().unwrap());
    big.write_all_at(&pattern(9, 10 * OBJECT as usize), 0).unwrap();
    image.copy_over(&big).run().unwrap();
    let (head, tail) = (content(&big)[..8 * OBJECT as usize].to_vec(), &content(&big)[8 * OBJECT as usize..]);
    assert!(head == content(&image));
    assert!(tail == &pattern(9, 10 * OBJECT as usize)[8 * OBJECT as usize..]);
    let error = image.copy_over(&small).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn copies_that_cannot_be_are_refused() {
    let space = Space::new();
    let image = source(&space);
    assert!(image.copy_to(&space, "foo").run().unwrap_err().is_already_exists());
    assert!(image.deep_copy_to(&space, "foo").run().unwrap_err().is_already_exists());
    let invalid = |result: rbd::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    };
    invalid(image.copy_to(&space, "a/b").run());
    for size in [1, 4097, 2048, 2 * OBJECT] {
        invalid(image.sparsify(size).run());
        invalid(image.copy_to(&space, "bar").sparse_size(size).run());
    }
    // librbd ignores the break while it copies, so the copy is complete.
    image.copy_to(&space, "bar").progress(|_, _| ControlFlow::Break(())).run().unwrap();
    assert!(content(&space.open("bar").run().unwrap()) == content(&image));
}

#[test]
fn an_object_map_that_is_invalid_can_be_rebuilt() {
    let space = Space::new();
    let image = source(&space);
    if mask() == Mask::Layering {
        let error = image.object_map().rebuild().run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        return;
    }
    let maps = Features::OBJECT_MAP | Features::FAST_DIFF;
    image.disable_features(maps).unwrap();
    assert!(features().contains(maps));
    // After maps were enabled again, none knows the existing objects.
    image.enable_features(maps).unwrap();
    let invalid = Flags::OBJECT_MAP_INVALID | Flags::FAST_DIFF_INVALID;
    let at_snapshot = || space.open("foo").snapshot("s1").run().unwrap();
    assert_eq!((image.flags().unwrap(), at_snapshot().flags().unwrap()), (invalid, invalid));
    let mut steps = 0;
    let count = |_, _| {
        steps += 1;
        ControlFlow::Continue(())
    };
    image.object_map().rebuild().progress(count).run().unwrap();
    assert_eq!((image.flags().unwrap(), at_snapshot().flags().unwrap()), (Flags::empty(), invalid));
    assert!(steps > 0);
    let error = image.object_map().check().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("foo@s1' is invalid; rebuild it first"), "{error}");
    at_snapshot().object_map().rebuild().run().unwrap();
    assert_eq!(at_snapshot().flags().unwrap(), Flags::empty());
}

#[test]
fn an_object_map_that_is_wrong_is_found_out() {
    let space = Space::new();
    let image = source(&space);
    image.flush().unwrap();
    if mask() == Mask::Layering {
        let error = image.object_map().check().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("is off; enable it first"), "{error}");
        return;
    }
    assert_eq!(image.object_map().check().unwrap(), []);
    assert_eq!(image.at_snapshot("s1").unwrap().object_map().check().unwrap(), []);
    create(&space, "bar", 8 * OBJECT).run().unwrap();
    let bar = space.open("bar").run().unwrap();
    bar.write_all_at(&pattern(1, 4 * OBJECT as usize), 0).unwrap();
    bar.flush().unwrap();
    assert_eq!(bar.object_map().check().unwrap(), []);
    let faults = || -> Vec<(u64, bool)> {
        bar.object_map().check().unwrap().iter().map(|fault| (fault.object, fault.exists)).collect()
    };
    // Without librbd: one object more, one less.
    rados(&bar, 6, &["put"], &["/proc/version"]);
    assert_eq!(faults(), [(6, true)]);
    rados(&bar, 1, &["rm"], &[]);
    assert_eq!(faults(), [(1, false), (6, true)]);
    // The removed object stays in the map of the image itself, because a client might just be
    // writing it.
    bar.object_map().rebuild().run().unwrap();
    assert_eq!(faults(), [(1, false)]);
}

#[test]
fn what_is_read_only_is_not_worked_on() {
    let space = Space::new();
    let image = source(&space);
    let then = image.at_snapshot("s1").unwrap();
    for error in [
        image.copy_over(&then).run().unwrap_err(),
        then.sparsify(4096).run().unwrap_err(),
        then.snapshots().rollback("s1").run().unwrap_err(),
        then.metadata().set("a", "b").unwrap_err(),
        then.snapshots().protect("s1").unwrap_err(),
    ] {
        assert!(error.is_read_only(), "{error}");
    }
    if mask() != Mask::Layering {
        let error = then.object_map().rebuild().run().unwrap_err();
        assert!(error.is_read_only(), "{error}");
    }
    space.clone_image("foo", "s1", "clone").format(CloneFormat::V2).run().unwrap();
    let error = space.open("clone").read_only(true).run().unwrap().flatten().run().unwrap_err();
    assert!(error.is_read_only(), "{error}");
}

/// librbd fails late if only a snapshot of the image has a parent.
#[test]
fn a_flattened_clone_whose_snapshot_has_a_parent_is_copied_flat() {
    let space = Space::new();
    space.create("parent", 8 << 20).features(Features::LAYERING).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.write_all_at(&[1; 4096], 0).unwrap();
    parent.snapshots().create("s").run().unwrap();
    space
        .clone_image("parent", "s", "clone")
        .format(CloneFormat::V2)
        .features(Features::LAYERING)
        .run()
        .unwrap();
    let clone = space.open("clone").run().unwrap();
    clone.snapshots().create("before").run().unwrap();
    clone.flatten().run().unwrap();
    let error = clone.deep_copy_to(&space, "copy").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error:#}");
    assert!(error.to_string().contains("'before' still has a parent"), "{error}");
    assert!(space.open("copy").run().unwrap_err().is_not_found(), "nothing was made");
    clone.deep_copy_to(&space, "copy").flatten(true).run().unwrap();
    let mut found = [0; 4096];
    space.open("copy").snapshot("before").run().unwrap().read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [1; 4096]);
}
