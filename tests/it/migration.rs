//! Live migration.

use std::ops::ControlFlow;

use rbd::{ErrorKind, Features, Image, ObjectKind, migration::MigrationState, trash::TrashSource};

use crate::masks::{OBJECT, create};
use crate::support::{Space, pattern};

fn source(space: &Space) {
    create(space, "foo", 8 * OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&pattern(1, 4 * OBJECT as usize), 0).unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.close().unwrap();
}

fn content(image: &Image) -> Vec<u8> {
    let mut data = vec![0; 4 * OBJECT as usize];
    image.read_exact_at(&mut data, 0).unwrap();
    data
}

#[test]
fn an_image_moves_while_it_is_used() {
    let (space, other) = (Space::new(), Space::new());
    source(&space);
    space.prepare_migration("foo", &other, "bar").object_size(2 * OBJECT).run().unwrap();
    let migration = other.migration("bar");
    let status = migration.status().unwrap();
    assert_eq!((status.state, status.state.to_string()), (MigrationState::Prepared, "prepared".to_owned()));
    assert_eq!((&*status.source.name, &*status.destination.name), ("foo", "bar"));
    assert_eq!((&*status.source.namespace, status.source.pool_id), (space.namespace(), space.pool_id()));
    assert_eq!(status.destination.namespace, other.namespace());

    let image = other.open("bar").run().unwrap();
    assert!(image.features().unwrap().contains(Features::MIGRATING));
    assert!(content(&image) == pattern(1, 4 * OBJECT as usize));
    let spec: serde_json::Value = serde_json::from_str(&image.migration_source_spec().unwrap()).unwrap();
    assert_eq!(spec["type"], "native");
    assert_eq!(spec["image_name"], "foo");

    let mut steps = 0;
    let count = |_, _| {
        steps += 1;
        ControlFlow::Continue(())
    };
    migration.execute().progress(count).run().unwrap();
    assert!(steps > 0);
    assert_eq!(migration.status().unwrap().state, MigrationState::Executed);
    image.close().unwrap();
    migration.commit().run().unwrap();
    assert_eq!(space.list().unwrap(), []);
    let image = other.open("bar").run().unwrap();
    assert!(content(&image) == pattern(1, 4 * OBJECT as usize));
    assert_eq!(image.stat().unwrap().object_size, 2 * OBJECT);
    assert!(!image.features().unwrap().contains(Features::MIGRATING));
    assert_eq!(image.snapshots().list().unwrap()[0].name, "s1");
    assert!(image.migration_source_spec().is_err());
}

#[test]
fn a_handle_for_writing_stays_open_during_the_commit() {
    let (space, other) = (Space::new(), Space::new());
    source(&space);
    space.prepare_migration("foo", &other, "bar").run().unwrap();
    let image = other.open("bar").run().unwrap();
    let migration = other.migration("bar");
    migration.execute().run().unwrap();
    migration.commit().run().unwrap();
    assert_eq!(space.list().unwrap(), []);
    assert!(content(&image) == pattern(1, 4 * OBJECT as usize));
    image.write_all_at(&[7; 512], OBJECT).unwrap();
    image.close().unwrap();
    let mut read = [0; 512];
    let image = other.open("bar").run().unwrap();
    image.read_exact_at(&mut read, OBJECT).unwrap();
    assert_eq!(read, [7; 512]);
    assert!(!image.features().unwrap().contains(Features::MIGRATING));
}

#[test]
fn a_migrating_image_is_kept_out_of_the_trash() {
    let (space, other) = (Space::new(), Space::new());
    source(&space);
    space.prepare_migration("foo", &other, "bar").run().unwrap();
    let refused = |step: &str| {
        let error = other.trash().add("bar").run().expect_err(step);
        assert!(
            error.to_string().contains("it is being migrated; commit or abort the migration first"),
            "{step}: {error}"
        );
        let names: Vec<_> = other.list().unwrap().into_iter().map(|image| image.name).collect();
        assert_eq!((names, other.trash().list().unwrap()), (vec!["bar".to_owned()], vec![]), "{step}");
        // The source is in the trash, and stays there.
        let source = space.trash().list().unwrap().remove(0);
        assert_eq!((&*source.name, source.source), ("foo", TrashSource::Migration), "{step}");
        let error = space.trash().restore(&source.id).run().expect_err(step);
        assert!(error.to_string().contains("Current trash source 'migration'"), "{step}: {error}");
        space.trash().purge().run().unwrap();
        assert_eq!(space.trash().list().unwrap().len(), 1, "{step}");
        let image = other.open("bar").run().unwrap();
        assert!(content(&image) == pattern(1, 4 * OBJECT as usize), "{step}");
    };
    refused("prepared");
    let source = space.trash().list().unwrap().remove(0);
    assert!(space.trash().remove(&source.id).force(true).run().is_err());
    other.migration("bar").execute().run().unwrap();
    refused("executed");
    other.migration("bar").commit().run().unwrap();
    other.trash().add("bar").run().unwrap();
    assert_eq!(other.list().unwrap(), []);
}

#[test]
fn an_aborted_migration_gives_the_source_back() {
    let (space, other) = (Space::new(), Space::new());
    source(&space);
    space.prepare_migration("foo", &other, "bar").run().unwrap();
    other.migration("bar").abort().run().unwrap();
    assert_eq!(other.list().unwrap(), []);
    let image = space.open("foo").run().unwrap();
    assert!(content(&image) == pattern(1, 4 * OBJECT as usize));
    assert!(!image.features().unwrap().contains(Features::MIGRATING));
}

#[test]
fn obstacles_of_a_migration_are_named() {
    let (space, other) = (Space::new(), Space::new());
    source(&space);
    create(&other, "bar", OBJECT).run().unwrap();
    let error = space.prepare_migration("foo", &other, "bar").run().unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("/bar' already exists"), "{error}");
    let error = space.prepare_migration("nope", &other, "new").run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Image }, "{error}");
    let open = space.open("foo").run().unwrap();
    let error = space.prepare_migration("foo", &other, "new").run().unwrap_err();
    let ErrorKind::Busy { holders } = error.kind() else { panic!("{error}") };
    assert_eq!(holders.len(), 1, "{error}");
    open.close().unwrap();
    for error in [
        space.migration("foo").status().unwrap_err(),
        space.migration("foo").execute().run().unwrap_err(),
        space.migration("foo").commit().run().unwrap_err(),
        space.migration("foo").abort().run().unwrap_err(),
    ] {
        assert_eq!(error.object_kind(), ObjectKind::Image, "{error}");
        assert!(error.object_name().ends_with("/foo"), "{error}");
    }
}

#[test]
fn an_image_is_imported_from_a_file() {
    let space = Space::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = pattern(3, 4 * OBJECT as usize);
    std::fs::write(file.path(), &data).unwrap();
    let source = serde_json::json!({
        "type": "raw",
        "stream": {"type": "file", "file_path": file.path()},
    });
    let source = source.to_string();
    space.prepare_import(&source, "foo").features(Features::DEFAULT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    assert!(content(&image) == data);
    image.close().unwrap();
    space.migration("foo").execute().run().unwrap();
    space.migration("foo").commit().run().unwrap();
    drop(file);
    assert!(content(&space.open("foo").run().unwrap()) == data);
    assert!(space.prepare_import("no JSON", "bar").run().is_err());
}
