//! Diffs: the changed ranges, and whether they are known without querying objects.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rbd::{
    Cluster, ErrorKind, Features, Image,
    diff::{Extent, FastDiff},
    image::CloneFormat,
};

use crate::masks::{Mask, OBJECT, create, mask};
use crate::support::{Space, pattern, rados};

/// An image of 32 objects without data.
fn image(space: &Space) -> Image {
    create(space, "foo", 32 * OBJECT).run().unwrap();
    space.open("foo").run().unwrap()
}

fn write(image: &Image, seed: u8, offset: u64, len: u64) {
    image.write_all_at(&pattern(seed, len as usize), offset).unwrap();
}

/// Joins neighbouring extents, because librbd's division does not matter.
fn joined(extents: impl IntoIterator<Item = Extent>) -> Vec<(u64, u64, bool)> {
    let mut extents: Vec<Extent> = extents.into_iter().collect();
    extents.sort();
    let mut joined: Vec<(u64, u64, bool)> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some((offset, len, exists)) if *offset + *len == extent.offset && *exists == extent.exists => {
                *len += extent.len;
            }
            _ => joined.push((extent.offset, extent.len, extent.exists)),
        }
    }
    joined
}

/// Returns the bytes of the whole objects that a range touches, with the striping of the mask.
fn whole(offset: u64, len: u64) -> u64 {
    let row = if mask() == Mask::Everything { 2 * OBJECT } else { OBJECT };
    assert!(offset % row == 0);
    len.next_multiple_of(row)
}

#[test]
fn changes_since_a_snapshot_include_holes() {
    let space = Space::new();
    let image = image(&space);
    assert_eq!(image.diff().collect().unwrap(), []);
    write(&image, 1, 0, 4 * OBJECT);
    image.snapshots().create("s1").run().unwrap();
    write(&image, 2, 8 * OBJECT, 4096);
    image.discard(0, 2 * OBJECT).unwrap();
    image.snapshots().create("s2").run().unwrap();
    let changes = [(0, 2 * OBJECT, false), (8 * OBJECT, 4096, true)];
    assert_eq!(joined(image.diff().from_snapshot("s1").collect().unwrap()), changes);
    assert_eq!(image.diff().from_snapshot("s2").collect().unwrap(), []);
    let data = [(2 * OBJECT, 2 * OBJECT, true), (8 * OBJECT, 4096, true)];
    assert_eq!(joined(image.diff().collect().unwrap()), data);
    // On a handle of a snapshot, the diff ends at the snapshot, whatever is written meanwhile.
    write(&image, 3, 20 * OBJECT, OBJECT);
    let s2 = image.at_snapshot("s2").unwrap();
    assert_eq!(joined(s2.diff().from_snapshot("s1").collect().unwrap()), changes);
    let s1 = image.at_snapshot("s1").unwrap();
    assert_eq!(joined(s1.diff().collect().unwrap()), [(0, 4 * OBJECT, true)]);
    let error = s1.diff().from_snapshot("s2").collect().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn ranges_are_clamped_to_the_image() {
    let space = Space::new();
    let image = image(&space);
    write(&image, 1, 0, 32 * OBJECT);
    let ask = |offset, len| joined(image.diff().range(offset, len).collect().unwrap());
    assert_eq!(ask(4096, 8192), [(4096, 8192, true)]);
    assert_eq!(ask(31 * OBJECT + 1, u64::MAX), [(31 * OBJECT + 1, OBJECT - 1, true)]);
    assert_eq!(ask(32 * OBJECT, 1), []);
    assert_eq!(ask(u64::MAX, u64::MAX), []);
    assert_eq!(ask(0, 0), []);
    assert_eq!(ask(0, u64::MAX), [(0, 32 * OBJECT, true)]);
}

#[test]
fn the_iterator_gives_what_the_callback_gets_also_over_batches() {
    let space = Space::new();
    // 40000 objects of 4 KiB: three batches.
    space.create("foo", 40000 * 4096).features(Features::LAYERING).object_size(4096).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for object in [0, 1, 16383, 16384, 20000, 39999] {
        write(&image, 1, object * 4096, 4096);
    }
    let all = image.diff().collect().unwrap();
    assert_eq!(all.iter().map(|extent| extent.len).sum::<u64>(), 6 * 4096);
    let taken: Vec<Extent> = image.diff().extents().unwrap().map(Result::unwrap).collect();
    assert_eq!(joined(taken), joined(all));
    let first = image.diff().range(8192, u64::MAX).extents().unwrap().next().unwrap().unwrap();
    assert_eq!((first.offset, first.end()), (16383 * 4096, 16384 * 4096));
    let mut failing = image.diff().from_snapshot("nope").extents().unwrap();
    assert!(failing.next().unwrap().unwrap_err().is_not_found());
    assert!(failing.next().is_none());
}

#[test]
fn a_break_stops_and_a_panic_comes_back() {
    let space = Space::new();
    let image = image(&space);
    for object in 0..16 {
        write(&image, 1, 2 * object * OBJECT, 4096);
    }
    let mut calls = 0;
    let stopped = image.diff().for_each(|_| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(calls, 3);
    let panic = catch_unwind(AssertUnwindSafe(|| image.diff().for_each(|_| panic!("in the callback"))));
    assert_eq!(*panic.unwrap_err().downcast::<&str>().unwrap(), "in the callback");
    assert!(!image.diff().collect().unwrap().is_empty());
}

#[test]
fn whole_objects_and_parents_are_listed_on_request() {
    let space = Space::new();
    let image = image(&space);
    write(&image, 1, 0, 4096);
    write(&image, 1, 8 * OBJECT, 4096);
    image.snapshots().create("s1").run().unwrap();
    let objects = joined(image.diff().whole_objects(true).collect().unwrap());
    if mask() == Mask::Everything {
        assert!(objects.iter().all(|(_, len, exists)| *exists && *len > 4096), "{objects:?}");
    } else {
        assert_eq!(objects, [(0, OBJECT, true), (8 * OBJECT, OBJECT, true)]);
    }
    space.clone_image("foo", "s1", "bar").format(CloneFormat::V2).object_size(OBJECT).run().unwrap();
    let bar = space.open("bar").run().unwrap();
    write(&bar, 2, 16 * OBJECT, OBJECT);
    let own = (16 * OBJECT, OBJECT, true);
    assert_eq!(joined(bar.diff().include_parent(false).collect().unwrap()), [own]);
    let all = joined(bar.diff().collect().unwrap());
    assert_eq!(all.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), [0, 8 * OBJECT, 16 * OBJECT]);
}

#[test]
fn a_missing_base_is_named() {
    let space = Space::new();
    let error = image(&space).diff().from_snapshot("sunday").collect().unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("cannot list the changes since snapshot") && text.contains("@sunday"), "{text}");
}

#[test]
fn a_snapshot_id_works_or_names_the_release() {
    let space = Space::new();
    let image = image(&space);
    image.snapshots().create("s1").run().unwrap();
    write(&image, 1, 0, OBJECT);
    let changes = image.diff().from_snapshot(image.snapshots().id("s1").unwrap()).collect();
    if Cluster::librbd_version().minor >= 18 {
        assert_eq!(joined(changes.unwrap()), [(0, OBJECT, true)]);
        let error = image.diff().from_snapshot(4711).collect().unwrap_err();
        assert!(error.is_not_found(), "{error}");
    } else {
        let error = changes.unwrap_err();
        let ErrorKind::LibraryTooOld { symbol, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(*symbol, "rbd_diff_iterate3");
    }
}

#[test]
fn fast_diff_is_said_to_be_usable_exactly_when_librbd_uses_it() {
    let space = Space::new();
    let image = image(&space);
    image.snapshots().create("s1").run().unwrap();
    write(&image, 1, 0, whole(0, OBJECT));
    image.flush().unwrap();
    image.snapshots().create("s2").run().unwrap();
    let s2 = image.at_snapshot("s2").unwrap();
    let diff = s2.diff().from_snapshot("s1");
    assert_eq!(diff.fast_diff().unwrap(), FastDiff::NotWholeObject);
    let diff = diff.whole_objects(true);
    if mask() == Mask::Layering {
        let image = format!("rbd/{}/foo", space.namespace());
        assert_eq!(diff.fast_diff().unwrap(), FastDiff::FeatureOff { image });
        assert!(!diff.fast_diff().unwrap().is_usable());
        return;
    }
    assert!(diff.fast_diff().unwrap().is_usable());
    let all = vec![(0, whole(0, OBJECT), true)];
    assert_eq!(joined(diff.collect().unwrap()), all);

    // The snapshot's map still contains objects that a query does not find.
    write(&image, 2, 4 * OBJECT, whole(0, OBJECT));
    image.snapshots().create("s3").run().unwrap();
    let number = 4;
    rados(&image, number, &["rm"], &[]);
    let s3 = image.at_snapshot("s3").unwrap();
    let diff = s3.diff().from_snapshot("s2").whole_objects(true);
    assert!(diff.fast_diff().unwrap().is_usable());
    let by_map = joined(diff.collect().unwrap());
    assert_eq!(by_map, [(4 * OBJECT, whole(0, OBJECT), true)]);

    // Without a valid map, every object is queried.
    let maps = Features::OBJECT_MAP | Features::FAST_DIFF;
    image.disable_features(maps).unwrap();
    let image_spec = format!("rbd/{}/foo", space.namespace());
    let again = image.at_snapshot("s3").unwrap();
    let diff = again.diff().from_snapshot("s2").whole_objects(true);
    assert_eq!(diff.fast_diff().unwrap(), FastDiff::FeatureOff { image: image_spec.clone() });
    assert_ne!(joined(diff.collect().unwrap()), by_map);
    image.enable_features(maps).unwrap();
    let again = image.at_snapshot("s3").unwrap();
    let diff = again.diff().from_snapshot("s2").whole_objects(true);
    let version = format!("{image_spec}@s3");
    assert_eq!(diff.fast_diff().unwrap(), FastDiff::Invalid { version });
    assert_ne!(joined(diff.collect().unwrap()), by_map);

    // The map of the end is rebuilt, but that of the start is still invalid.
    space.open("foo").snapshot("s3").run().unwrap().object_map().rebuild().run().unwrap();
    let again = image.at_snapshot("s3").unwrap();
    let diff = again.diff().from_snapshot("s2").whole_objects(true);
    let version = format!("{image_spec}@s2");
    assert_eq!(diff.fast_diff().unwrap(), FastDiff::Invalid { version });
}

#[test]
fn a_parent_without_fast_diff_makes_its_clones_slow() {
    if mask() == Mask::Layering {
        return;
    }
    let space = Space::new();
    space.create("foo", 8 * OBJECT).features(Features::LAYERING).object_size(OBJECT).run().unwrap();
    space.open("foo").run().unwrap().snapshots().create("s1").run().unwrap();
    space.clone_image("foo", "s1", "bar").features(Features::DEFAULT).format(CloneFormat::V2).run().unwrap();
    let bar = space.open("bar").run().unwrap();
    let diff = bar.diff().whole_objects(true);
    let image = format!("rbd/{}/foo", space.namespace());
    assert_eq!(diff.fast_diff().unwrap(), FastDiff::FeatureOff { image });
    assert!(diff.include_parent(false).fast_diff().unwrap().is_usable());
}

/// Returns which objects a diff covers, one flag each.
fn covered(diff: rbd::diff::Diff<'_>) -> Vec<bool> {
    let mut objects = vec![false; 32];
    for extent in diff.collect().unwrap() {
        for object in extent.offset / OBJECT..extent.end().div_ceil(OBJECT) {
            objects[object as usize] = true;
        }
    }
    objects
}

#[test]
fn a_shrink_between_two_snapshots_is_not_missed() {
    let space = Space::new();
    let image = image(&space);
    write(&image, 1, 0, 32 * OBJECT);
    image.snapshots().create("a").run().unwrap();
    image.resize(8 * OBJECT).allow_shrink(true).run().unwrap();
    image.snapshots().create("b").run().unwrap();
    image.resize(32 * OBJECT).run().unwrap();
    image.snapshots().create("c").run().unwrap();
    for end in [image.at_snapshot("c").unwrap(), image.at_snapshot("c").unwrap()] {
        let diff = end.diff().from_snapshot("a").whole_objects(true);
        if mask() != Mask::Layering {
            let version = format!("rbd/{}/foo@b", space.namespace());
            assert_eq!(diff.fast_diff().unwrap(), FastDiff::Shrunk { version });
        }
        assert_eq!(covered(diff), [vec![false; 8], vec![true; 24]].concat());
    }
    // Also up to the image itself, and if the shrink was the last change.
    let diff = image.diff().from_snapshot("a").whole_objects(true);
    assert_eq!(covered(diff), [vec![false; 8], vec![true; 24]].concat());
    image.resize(4 * OBJECT).allow_shrink(true).run().unwrap();
    image.resize(32 * OBJECT).run().unwrap();
    let diff = image.diff().from_snapshot("a").whole_objects(true);
    assert_eq!(covered(diff), [vec![false; 4], vec![true; 28]].concat());
    // Without a shrink in between, the maps are sufficient.
    if mask() != Mask::Layering {
        let diff = image.diff().from_snapshot("b").whole_objects(true);
        assert!(diff.fast_diff().unwrap().is_usable());
    }
}

#[test]
fn a_rollback_is_not_missed() {
    let space = Space::new();
    let image = image(&space);
    write(&image, 1, 0, 2 * OBJECT);
    for snapshot in ["a", "b"] {
        image.snapshots().create(snapshot).run().unwrap();
    }
    write(&image, 2, 0, 2 * OBJECT);
    image.snapshots().create("c").run().unwrap();
    image.snapshots().rollback("b").run().unwrap();
    let changed = [vec![true; 2], vec![false; 30]].concat();
    assert_eq!(covered(image.diff().from_snapshot("c")), changed);
    assert_eq!(covered(image.diff().from_snapshot("c").whole_objects(true)), changed);
    image.snapshots().create("d").run().unwrap();
    let d = image.at_snapshot("d").unwrap();
    assert_eq!(covered(d.diff().from_snapshot("c").whole_objects(true)), changed);
}
