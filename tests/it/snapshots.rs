//! Snapshots, and the errors of their operations.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use rbd::{
    Errno, ErrorKind, Image, ObjectKind,
    image::CloneFormat,
    snapshot::{SnapshotKind, SnapshotOrigin},
};

use crate::masks::{OBJECT, create};
use crate::support::{Space, builder, pattern, unique};

fn image(space: &Space) -> Image {
    create(space, "foo", 8 * OBJECT).run().unwrap();
    space.open("foo").run().unwrap()
}

fn names(image: &Image) -> Vec<String> {
    image.snapshots().list().unwrap().into_iter().map(|snapshot| snapshot.name).collect()
}

#[test]
fn a_snapshot_keeps_the_data_and_is_found_by_name_and_id() {
    let space = Space::new();
    let image = image(&space);
    let (old, new) = (pattern(1, 4096), pattern(2, 4096));
    image.write_all_at(&old, 0).unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.write_all_at(&new, 0).unwrap();
    image.resize(16 * OBJECT).run().unwrap();
    image.snapshots().create("s2").skip_quiesce(true).run().unwrap();
    image.snapshots().create("s3").ignore_quiesce_error(true).run().unwrap();

    let snapshots = image.snapshots().list().unwrap();
    assert_eq!(names(&image), ["s1", "s2", "s3"]);
    assert_eq!(snapshots.iter().map(|s| s.id).collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(snapshots.iter().map(|s| s.size / OBJECT).collect::<Vec<_>>(), [8, 16, 16]);
    for snapshot in &snapshots {
        assert_eq!(snapshot.origin, SnapshotOrigin::User);
        assert!(!snapshot.protected);
        let age = SystemTime::now().duration_since(snapshot.created).unwrap_or_default();
        assert!(age < Duration::from_secs(300), "{age:?}");
        assert_eq!(image.snapshots().id(&snapshot.name).unwrap(), snapshot.id);
        assert_eq!(image.snapshots().name(snapshot.id).unwrap(), snapshot.name);
        assert_eq!(image.snapshots().created(snapshot.id).unwrap(), snapshot.created);
    }
    assert!(image.snapshots().exists("s1").unwrap());
    assert!(!image.snapshots().exists("s4").unwrap());

    let mut now = vec![0; 4096];
    let mut then = vec![0; 4096];
    for at in [image.at_snapshot("s1").unwrap(), image.at_snapshot(snapshots[0].id).unwrap()] {
        at.read_exact_at(&mut then, 0).unwrap();
        image.read_exact_at(&mut now, 0).unwrap();
        assert!(then == old && now == new);
        assert_eq!((at.size().unwrap(), at.snapshot(), at.is_read_only()), (8 * OBJECT, Some("s1"), true));
        assert!(at.write_all_at(&new, 0).unwrap_err().is_read_only());
        assert!(at.snapshots().create("s4").run().unwrap_err().is_read_only());
    }
    let by_id = space.open("foo").snapshot(snapshots[0].id).run().unwrap();
    assert_eq!(by_id.snapshot(), Some("s1"));
}

#[test]
fn many_snapshots_are_listed_whole() {
    let space = Space::new();
    let image = image(&space);
    let expected: Vec<String> = (0..70).map(|n| format!("snapshot-{n:02}")).collect();
    for name in &expected {
        image.snapshots().create(name).run().unwrap();
    }
    assert_eq!(names(&image), expected);
}

#[test]
fn what_is_missing_is_the_snapshot_and_not_the_image() {
    let space = Space::new();
    let image = image(&space);
    let missing = ErrorKind::NotFound { what: ObjectKind::Snapshot };
    let spec = space_spec(&space, "foo@nope");
    for error in [
        image.snapshots().id("nope").unwrap_err(),
        image.snapshots().remove("nope").run().unwrap_err(),
        image.snapshots().rename("nope", "yes").unwrap_err(),
        image.snapshots().protect("nope").unwrap_err(),
        image.snapshots().unprotect("nope").unwrap_err(),
        image.snapshots().is_protected("nope").unwrap_err(),
        image.snapshots().rollback("nope").run().unwrap_err(),
        image.at_snapshot("nope").unwrap_err(),
        image.diff().from_snapshot("nope").collect().unwrap_err(),
        space.open("foo").snapshot("nope").run().unwrap_err(),
    ] {
        assert_eq!(*error.kind(), missing, "{error}");
        assert_eq!((error.object_kind(), error.object_name()), (ObjectKind::Snapshot, &*spec), "{error}");
    }
    for error in [
        image.snapshots().name(4711).unwrap_err(),
        image.snapshots().created(4711).unwrap_err(),
        image.snapshots().origin(4711).unwrap_err(),
        image.snapshots().remove_by_id(4711).unwrap_err(),
        image.at_snapshot(4711).unwrap_err(),
        space.open("foo").snapshot(4711).run().unwrap_err(),
    ] {
        assert_eq!(*error.kind(), missing, "{error}");
        assert!(error.to_string().contains("@id 4711"), "{error}");
    }
    let error = space.open("gone").snapshot(1).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image });
}

fn space_spec(space: &Space, image: &str) -> String {
    format!("rbd/{}/{image}", space.namespace())
}

#[test]
fn names_that_are_taken_or_impossible_are_refused() {
    let space = Space::new();
    let image = image(&space);
    image.snapshots().create("s1").run().unwrap();
    image.snapshots().create("s2").run().unwrap();
    assert!(image.snapshots().create("s1").run().unwrap_err().is_already_exists());
    let error = image.snapshots().rename("s1", "s2").unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("'s2'"), "{error}");
    for bad in ["", "a/b", "a@b", "a\0b"] {
        assert_eq!(*image.snapshots().create(bad).run().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(*image.snapshots().rename("s1", bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    image.snapshots().rename("s1", "s3").unwrap();
    assert_eq!(names(&image), ["s3", "s2"]);
}

#[test]
fn the_limit_is_a_quota() {
    let space = Space::new();
    let image = image(&space);
    assert_eq!(image.snapshots().limit().unwrap(), None);
    image.snapshots().set_limit(2).unwrap();
    assert_eq!(image.snapshots().limit().unwrap(), Some(2));
    image.snapshots().create("s1").run().unwrap();
    image.snapshots().create("s2").run().unwrap();
    let error = image.snapshots().create("s3").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.to_string().contains("limit of 2 snapshots"), "{error}");
    image.snapshots().set_limit(None).unwrap();
    image.snapshots().create("s3").run().unwrap();
}

#[test]
fn protection_keeps_a_snapshot() {
    let space = Space::new();
    let image = image(&space);
    image.snapshots().create("s1").run().unwrap();
    image.snapshots().protect("s1").unwrap();
    assert!(image.snapshots().is_protected("s1").unwrap());
    assert!(image.snapshots().list().unwrap()[0].protected);
    let error = image.snapshots().protect("s1").unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("already protected"), "{error}");
    let error = image.snapshots().remove("s1").run().unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("set `unprotect(true)` on"), "{error}");
    image.snapshots().unprotect("s1").unwrap();
    let error = image.snapshots().unprotect("s1").unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(error.to_string().contains("it is not protected"), "{error}");
    image.snapshots().protect("s1").unwrap();
    image.snapshots().remove("s1").unprotect(true).run().unwrap();
    assert!(names(&image).is_empty());
}

#[test]
fn rollback_restores_data_and_size_and_reports_progress() {
    let space = Space::new();
    let image = image(&space);
    let (old, new) = (pattern(1, 4 * OBJECT as usize), pattern(2, 4 * OBJECT as usize));
    image.write_all_at(&old, 0).unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.write_all_at(&new, 0).unwrap();
    image.resize(20 * OBJECT).run().unwrap();
    let mut steps = Vec::new();
    let progress = |done, total| {
        steps.push((done, total));
        ControlFlow::Continue(())
    };
    image.snapshots().rollback("s1").progress(progress).run().unwrap();
    assert_eq!(image.size().unwrap(), 8 * OBJECT);
    let mut now = vec![0; old.len()];
    image.read_exact_at(&mut now, 0).unwrap();
    assert!(now == old);
    assert!(steps.iter().all(|(done, total)| done <= total), "{steps:?}");
    assert!(!steps.is_empty());
}

#[test]
fn an_image_with_snapshots_is_not_removed_and_says_which() {
    let space = Space::new();
    let image = image(&space);
    for name in ["keep", "too"] {
        image.snapshots().create(name).run().unwrap();
    }
    image.snapshots().protect("keep").unwrap();
    let id = image.id().unwrap();
    image.close().unwrap();
    let error = space.remove("foo").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::HasSnapshots);
    assert!(
        error.to_string().contains("it has snapshots: keep (protected), too; remove them first"),
        "{error}"
    );
    space.trash().add("foo").run().unwrap();
    let error = space.trash().remove(&id).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::HasSnapshots);
    assert!(error.to_string().contains("too; open it with `IoCtx::open_by_id` and remove them"), "{error}");
}

#[test]
fn the_snapshots_of_groups_are_distinguished() {
    let space = Space::new();
    let image = image(&space);
    space.groups().create("g").unwrap();
    let group = space.group("g");
    group.add(&space, "foo").unwrap();
    group.snapshots().create("gs").run().unwrap();
    let snapshots = image.snapshots().list().unwrap();
    let [snapshot] = &snapshots[..] else { panic!("{snapshots:?}") };
    let expected =
        SnapshotOrigin::Group { pool_id: space.pool_id(), group: "g".to_owned(), snapshot: "gs".to_owned() };
    assert_eq!((&snapshot.origin, snapshot.origin.kind()), (&expected, SnapshotKind::Group));
    let at = image.at_snapshot(snapshot.id).unwrap();
    assert_eq!(at.snapshot(), Some(&*snapshot.name));
    group.snapshots().remove("gs").unwrap();
    space.groups().remove("g").unwrap();
}

#[test]
fn a_user_with_read_caps_sees_snapshots_and_changes_none() {
    let space = Space::new();
    image(&space).snapshots().create("s1").run().unwrap();
    let name = unique("reader");
    let access = rbd_testcluster::shared();
    let user = access.user(&name, &[("mon", "profile rbd"), ("osd", "profile rbd-read-only")]).unwrap();
    let reader = builder().user(&name).keyring(&user.keyring).connect().unwrap();
    let pool = reader.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = pool.open("foo").read_only(true).run().unwrap();
    assert_eq!(names(&image), ["s1"]);
    let at = image.at_snapshot("s1").unwrap();
    assert_eq!(at.diff().collect().unwrap(), []);
    for error in [
        image.snapshots().create("s2").run().unwrap_err(),
        image.snapshots().remove("s1").run().unwrap_err(),
        image.snapshots().rename("s1", "s2").unwrap_err(),
        image.snapshots().protect("s1").unwrap_err(),
        image.snapshots().rollback("s1").run().unwrap_err(),
        image.snapshots().set_limit(1).unwrap_err(),
        image.metadata().set("a", "b").unwrap_err(),
        image.sparsify(4096).run().unwrap_err(),
    ] {
        assert!(error.is_read_only(), "{error}");
    }
    let clone = pool.clone_image("foo", "s1", "bar").format(CloneFormat::V2).run().unwrap_err();
    assert!(clone.is_permission_denied(), "{clone}");
    assert!(pool.metadata().set("a", "b").unwrap_err().is_permission_denied());
    assert_eq!(names(&image), ["s1"]);
}

/// librbd says that it has no bytes, and copies nothing.
#[test]
fn a_removed_snapshot_is_missing_and_not_empty() {
    let space = Space::new();
    let image = image(&space);
    image.write_all_at(&[1; 4096], 0).unwrap();
    image.snapshots().create("monday").run().unwrap();
    let monday = space.open("foo").snapshot("monday").run().unwrap();
    assert_eq!(monday.read_at(&mut [0; 4096], 0).unwrap(), 4096);
    let extents = monday.diff().extents().unwrap();
    image.snapshots().remove("monday").run().unwrap();
    let missing = |what: &str, error: Option<rbd::Error>| {
        assert!(error.as_ref().is_some_and(rbd::Error::is_not_found), "{what}: {error:?}");
    };
    missing("extents", extents.map(Result::err).next().flatten());
    missing("size", monday.size().err());
    missing("stat", monday.stat().err());
    missing("read", monday.read_at(&mut [0; 4096], 0).err());
    missing("read exactly", monday.read_exact_at(&mut [0; 4096], 0).err());
    missing("aio", monday.aio().read(0, 4096).wait().err());
    missing("diff", monday.diff().collect().err());
    missing("copy", monday.copy_to(&space, "copy").run().err());
    missing("copy over", monday.copy_over(&image).run().err());
    missing("deep copy", monday.deep_copy_to(&space, "deep").run().err());
    let names: Vec<_> = space.list().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["foo"]);
    let error = monday.size().unwrap_err();
    assert!(error.to_string().contains("foo@monday"), "{error}");
    // An empty image is none that is missing.
    image.resize(0).allow_shrink(true).run().unwrap();
    assert_eq!((image.size().unwrap(), image.read_at(&mut [0; 1], 0).unwrap()), (0, 0));
}
