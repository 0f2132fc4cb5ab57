//! Groups of images and their snapshots.

use rbd::{ErrorKind, Features, ObjectKind};

use crate::support::Space;

#[test]
fn images_join_and_leave_a_group() {
    let space = Space::new();
    space.create("foo", 4 << 20).run().unwrap();
    space.create("bar", 4 << 20).run().unwrap();
    assert!(space.groups().list().unwrap().is_empty());
    let group = space.groups().create("g").unwrap();
    assert!(space.groups().create("g").unwrap_err().is_already_exists());
    group.add(&space, "foo").unwrap();
    group.add(&space, "bar").unwrap();
    group.add(&space, "foo").expect("it is there already, and that is what was asked");
    let error = space.groups().create("other").unwrap().add(&space, "foo").unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("is in another group"), "{error}");
    let elsewhere = Space::new();
    elsewhere.create("foo", 1 << 20).run().unwrap();
    let error = group.add(&elsewhere, "foo").unwrap_err();
    assert!(error.to_string().contains("are in different namespaces"), "{error}");
    match space.trash().add("foo").run() {
        Err(error) => {
            assert!(error.is_busy() && error.to_string().contains("it belongs to group 'rbd/g'"), "{error}");
        }
        // Older releases move it. It stays in the group.
        Ok(()) => space.trash().restore(&space.trash().list().unwrap()[0].id).run().unwrap(),
    }
    let error = space.group("other").remove(&space, "foo").unwrap_err();
    assert!(error.to_string().contains("is in group 'rbd/g' and not in this one"), "{error}");
    space.groups().remove("other").expect("nothing is left of the image");
    let error = group.add(&space, "nope").unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("/nope' to group "), "{error}");
    let names: Vec<String> = group.list().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"foo".to_owned()) && names.contains(&"bar".to_owned()));
    let image = space.open("foo").run().unwrap();
    assert_eq!(image.group().unwrap().unwrap().name, "g");
    assert!(image.op_features().unwrap().contains(rbd::features::OpFeatures::GROUP));
    let id = space.open("bar").read_only(true).run().unwrap().id().unwrap();
    group.remove(&space, "foo").unwrap();
    group.remove_by_id(&space, &id).unwrap();
    assert_eq!(image.group().unwrap(), None);
    group.remove(&space, "foo").expect("it is out already, and that is what was asked");
    space.groups().create("taken").unwrap();
    let error = space.groups().rename("g", "taken").unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("/taken' already exists"), "{error}");
    space.groups().remove("taken").unwrap();
    space.groups().rename("g", "h").unwrap();
    assert_eq!(space.groups().list().unwrap(), ["h"]);
    space.groups().remove("h").unwrap();
    let error = space.group("h").list().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Group }, "{error}");
}

#[test]
fn a_snapshot_of_a_group_brings_all_its_images_back() {
    let space = Space::new();
    let group = space.groups().create("g").unwrap();
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    let images = ["foo", "bar"].map(|name| {
        space.create(name, 4 << 20).features(features).run().unwrap();
        group.add(&space, name).unwrap();
        space.open(name).run().unwrap()
    });
    let write = |byte: u8| images.iter().for_each(|image| image.write_all_at(&[byte; 4096], 0).unwrap());
    let read = |image: &rbd::Image| {
        let mut buffer = [0; 4096];
        image.read_exact_at(&mut buffer, 0).unwrap();
        buffer[4095]
    };
    write(1);
    group.snapshots().create("s1").run().unwrap();
    assert!(group.snapshots().create("s1").run().unwrap_err().is_already_exists());
    write(2);
    group.snapshots().create("s2").skip_quiesce(true).run().unwrap();
    group.snapshots().rename("s2", "s3").unwrap();
    let snapshots = group.snapshots().list().unwrap();
    let mut names: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["s1", "s3"]);
    assert!(snapshots.iter().all(|snapshot| snapshot.complete));

    let mut told = 0;
    let progress = |_, _| {
        told += 1;
        std::ops::ControlFlow::Continue(())
    };
    group.snapshots().rollback("s1").progress(progress).run().unwrap();
    assert!(told > 0);
    assert_eq!([read(&images[0]), read(&images[1])], [1, 1]);
    let error = group.snapshots().rollback("nope").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::GroupSnapshot }, "{error}");
    group.snapshots().remove("s1").unwrap();
    group.snapshots().remove("s3").unwrap();
    assert!(group.snapshots().remove("s1").unwrap_err().is_not_found());
}

#[test]
fn functions_of_newer_libraries_work_or_name_the_release() {
    let space = Space::new();
    let group = space.groups().create("g").unwrap();
    space.create("foo", 4 << 20).run().unwrap();
    space.create("bar", 4 << 20).run().unwrap();
    group.add(&space, "foo").unwrap();
    group.snapshots().create("s1").run().unwrap();
    group.add(&space, "bar").unwrap();
    group.snapshots().create("s2").run().unwrap();
    if rbd::Cluster::librbd_version().minor < 20 {
        for (result, symbol) in [
            (group.id().map(drop), "rbd_group_get_id"),
            (group.snapshots().info("s1").map(drop), "rbd_group_snap_get_info"),
            (group.snapshots().infos().map(drop), "rbd_group_snap_list2"),
        ] {
            let error = result.unwrap_err();
            let ErrorKind::LibraryTooOld { symbol: missing, needs, .. } = error.kind() else {
                panic!("{error}")
            };
            assert_eq!((*missing, *needs), (symbol, "Ceph 20.2"));
        }
        return;
    }
    let id = group.id().unwrap();
    assert!(!id.is_empty() && id != group.name());
    space.groups().rename("g", "h").unwrap();
    assert_eq!(space.group("h").id().unwrap(), id, "a name changes, an id does not");
    assert!(group.id().unwrap_err().is_not_found());

    let renamed = space.group("h");
    let snapshots = renamed.snapshots();
    let mut infos = snapshots.infos().unwrap();
    infos.sort_by(|one, other| one.name.cmp(&other.name));
    let [s1, s2] = &infos[..] else { panic!("{infos:?}") };
    assert_eq!((s1, s2), (&snapshots.info("s1").unwrap(), &snapshots.info("s2").unwrap()));
    assert!(s1.complete && s1.id != s2.id);
    assert_eq!((s1.images.len(), s2.images.len()), (1, 2), "the images of then");
    assert_eq!((s1.images[0].pool_id, &*s1.images[0].name), (space.pool_id(), "foo"));
    let image = space.open("foo").read_only(true).run().unwrap();
    assert_eq!(image.snapshots().name(s1.images[0].snapshot_id).unwrap(), s1.image_snapshot);
    let error = snapshots.info("nope").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::GroupSnapshot }, "{error}");
}

#[test]
fn a_rollback_of_a_group_that_was_stopped_can_be_repeated() {
    let space = Space::new();
    let group = space.groups().create("g").unwrap();
    let images = ["foo", "bar"].map(|name| {
        space.create(name, 64 << 20).features(Features::LAYERING).run().unwrap();
        group.add(&space, name).unwrap();
        let image = space.open(name).run().unwrap();
        image.write_same(0, 64 << 20, &[1; 512]).unwrap();
        image
    });
    group.snapshots().create("s").run().unwrap();
    images.iter().for_each(|image| image.write_same(0, 64 << 20, &[2; 512]).unwrap());
    let mut told = 0;
    let stop = |_, _| {
        told += 1;
        std::ops::ControlFlow::Break(())
    };
    let error = group.snapshots().rollback("s").progress(stop).run().unwrap_err();
    assert_eq!(*error.kind(), rbd::ErrorKind::Stopped, "{error}");
    assert!(told > 0);
    group.snapshots().rollback("s").run().unwrap();
    for image in &images {
        let mut found = vec![0; 64 << 20];
        image.read_exact_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn a_diff_does_not_miss_what_a_rollback_of_the_group_has_changed() {
    let space = Space::new();
    let group = space.groups().create("g").unwrap();
    space.create("foo", 64 << 20).features(Features::DEFAULT).run().unwrap();
    group.add(&space, "foo").unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&[1; 4096], 0).unwrap();
    // In the map of the second snapshot, the object counts as unchanged.
    for snapshot in ["s1", "s2"] {
        group.snapshots().create(snapshot).run().unwrap();
    }
    image.write_all_at(&[2; 4096], 0).unwrap();
    image.snapshots().create("later").run().unwrap();
    group.snapshots().rollback("s2").run().unwrap();
    let diff = image.diff().from_snapshot("later").whole_objects(true);
    assert_eq!(diff.collect().unwrap().len(), 1, "{:?}", diff.fast_diff());
}
