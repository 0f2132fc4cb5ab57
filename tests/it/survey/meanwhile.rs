//! Images that are created, removed and changed while a survey runs, and images that cannot be
//! queried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rbd::Cluster;
use rbd::features::OpFeatures;
use rbd::image::CloneFormat;
use rbd::survey::Source;
use rbd::trash::TrashSource;
use rbd_testcluster::TestCluster;
use serde_json::{Value, json};

use super::{Pool, SIZE, in_flight, survey_of};
use crate::support::{Space, block_on};

#[test]
fn half_removed_and_vanished_images() {
    let space = Space::new();
    for number in 0..40 {
        space.create(&format!("image{number:02}"), SIZE).run().unwrap();
    }
    let id = space.list().unwrap()[3].id.clone();
    space.objects().remove(&format!("rbd_header.{id}")).unwrap();
    let mut found = space.survey().max_in_flight(1).run().unwrap();
    assert_eq!(found.total(), 40);
    assert_eq!(found.next().unwrap().unwrap().name, "image00");
    drop(found);
    // Other images are created and removed meanwhile.
    let ioctx = space.with_namespace(space.namespace()).unwrap();
    let changes = std::thread::spawn(move || {
        for number in 20..40 {
            ioctx.remove(&format!("image{number:02}")).run().unwrap();
        }
    });
    for _ in 0..10 {
        for image in space.survey().snapshots(true).run().unwrap() {
            let image = image.unwrap();
            if *image.name < *"image20" {
                assert_eq!(image.half_removed, image.name == "image03", "{image:?}");
                assert_eq!(image.size, if image.half_removed { 0 } else { SIZE });
            }
        }
    }
    changes.join().unwrap();
    let left = survey_of(space.survey());
    assert_eq!(left.len(), 20);
    assert_eq!(left.iter().filter(|image| image.half_removed).count(), 1);
    // The rest can be removed.
    let _ = space.remove("image03").run();
}

/// librbd moves an image to the trash before it removes it, and records that there.
#[test]
fn a_removal_that_was_stopped() {
    let space = Space::new();
    for name in ["a", "b"] {
        space.create(name, SIZE).object_size(1 << 20).run().unwrap();
    }
    let id = space.list().unwrap().remove(0).id;
    space.trash().add("a").run().unwrap();
    let trashed = survey_of(space.survey().trash(true));
    assert!(trashed.len() == 1 && !trashed[0].half_removed, "{trashed:?}");
    // The version of the struct, its length, and the source that moved the image there.
    let key = format!("id_{id}").into_bytes();
    let mut entry = space.objects().omap("rbd_trash").unwrap().remove(&key).unwrap();
    entry[6] = 3;
    space.objects().set_omap("rbd_trash", &[(&key[..], &entry[..])]).unwrap();
    assert_eq!(space.trash().get(&id).unwrap().source, TrashSource::Removing);
    let found = survey_of(space.survey().snapshots(true).usage(true).watchers(true));
    let half: Vec<_> = found.iter().map(|image| (&*image.name, image.half_removed)).collect();
    assert_eq!(half, [("a", true), ("b", false)]);
    assert_eq!((found[0].size, found[1].used), (SIZE, Some(0)));
    space.trash().remove(&id).force(true).run().unwrap();
}

#[test]
fn images_are_created_and_renamed_meanwhile() {
    let space = Space::new();
    let stays = |name: &str| name.starts_with("stays");
    for number in 0..10 {
        space.create(&format!("stays{number}"), SIZE).run().unwrap();
    }
    let (ioctx, over) = (space.with_namespace(space.namespace()).unwrap(), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&over);
    let changes = std::thread::spawn(move || {
        for round in 0..30 {
            let names = [format!("comes{round}"), format!("goes{round}")];
            ioctx.create(&names[0], SIZE).run().unwrap();
            ioctx.rename(&names[0], &names[1]).unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
    while !over.load(Ordering::Relaxed) {
        let found = survey_of(super::all(&space));
        assert_eq!(found.iter().filter(|image| stays(&image.name)).count(), 10);
        // An image that is being created is not reported as an interrupted removal.
        assert!(found.iter().all(|image| !image.half_removed && image.size == SIZE), "{found:?}");
        assert!(found.iter().all(|image| image.source == Source::Osds), "{found:?}");
    }
    changes.join().unwrap();
    assert_eq!(survey_of(space.survey()).len(), 40);
}

#[test]
fn one_error_does_not_end_the_rest() {
    let space = Space::new();
    for name in ["a", "b", "c"] {
        space.create(name, SIZE).run().unwrap();
    }
    let id = space.list().unwrap().remove(1).id;
    space.objects().set_omap(&format!("rbd_header.{id}"), &[(&b"size"[..], &b"x"[..])]).unwrap();
    let found: Vec<_> = super::all(&space).run().unwrap().collect();
    assert_eq!(found.len(), 3);
    let error = found[1].as_ref().unwrap_err();
    assert!(error.to_string().contains("/b'"), "{error}");
    assert_eq!(error.errno(), Some(rbd::Errno::EIO), "{error}");
    assert!(found[0].is_ok() && found[2].is_ok(), "{found:?}");
    space.objects().remove(&format!("rbd_header.{id}")).unwrap();
}

/// librbd cannot open a clone whose parent has no header, and reports the clone as missing. The
/// clone exists, so it is not left out.
#[test]
fn a_clone_of_a_damaged_parent_is_not_left_out() {
    let pool = Pool::new();
    let pool = &pool.0;
    pool.create("parent", SIZE).run().unwrap();
    let parent = pool.open("parent").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.close().unwrap();
    pool.clone_image("parent", "s", "child").format(CloneFormat::V2).run().unwrap();
    let id = pool.list().unwrap().into_iter().find(|image| image.name == "parent").unwrap().id;
    pool.objects().remove(&format!("rbd_header.{id}")).unwrap();
    let found: Vec<_> = pool.survey().watchers(true).run().unwrap().collect();
    assert_eq!(found.len(), 2, "{found:?}");
    let error = found[0].as_ref().unwrap_err();
    assert_eq!(error.errno(), Some(rbd::Errno::ENOENT), "{error}");
    assert!(error.to_string().contains("parent"), "{error}");
    assert!(found[1].as_ref().unwrap().half_removed, "{found:?}");
}

/// The second snapshot marks the objects of the current map as clean. Compared with the map of the
/// first snapshot, the object that was written on both sides of it would not be counted.
///
/// Between the header of a clone and its maps, a survey asks for the name of the parent. In a pool
/// with fewer replicas than its minimum, no OSD answers.
#[test]
fn a_snapshot_between_the_header_and_the_maps() {
    const OBJECT: u64 = 1 << 20;
    let own = TestCluster::builder().mgr(false).pools(["rbd", "parents"]).start().unwrap();
    let set = |name: &str, value: &str| {
        let set = json!({ "pool": "parents", "var": name, "val": value });
        own.mon_query("osd pool set", set).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let builder = || Cluster::builder().ignore_environment(true).conf_file(own.conf());
    let changes = builder().connect().unwrap();
    let surveys = builder().option("admin_socket", socket.to_str().unwrap()).connect().unwrap();
    let (parents, pool) = (changes.ioctx("parents").unwrap(), changes.ioctx("rbd").unwrap());
    parents.create("parent", SIZE).object_size(OBJECT).run().unwrap();
    let parent = parents.open("parent").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.close().unwrap();
    let clone = parents.clone_image("parent", "s", "clone").into_ioctx(&pool);
    clone.format(CloneFormat::V2).run().unwrap();
    let clone = pool.open("clone").run().unwrap();
    let write = |objects: [u64; 2]| {
        for object in objects {
            clone.write_all_at(b"some", object * OBJECT).unwrap();
        }
        clone.flush().unwrap();
    };
    write([0, 1]);
    clone.snapshots().create("one").run().unwrap();
    write([1, 2]);

    set("size", "2");
    set("min_size", "2");
    surveys.wait_for_latest_osdmap().unwrap();
    let surveyed = surveys.ioctx("rbd").unwrap();
    let survey = surveyed.survey().snapshots(true).parent(true).usage(true);
    let mut stream = survey.start().unwrap();
    let asks = |op: &Value| op["object_locator"] == format!("@{}", parents.pool_id());
    let begun = Instant::now();
    while in_flight(&socket, asks) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the survey does not ask for the parent");
    }
    clone.snapshots().create("two").run().unwrap();
    set("min_size", "1");

    let image = block_on(stream.next()).unwrap().unwrap();
    assert_eq!(image.parent.unwrap().image.name, "parent");
    assert_eq!((image.source, image.usage_source), (Source::Osds, Some(Source::Osds)));
    let snapshots = image.snapshots.iter().map(|snapshot| (&*snapshot.name, snapshot.used));
    let used: Vec<_> = snapshots.chain([("", image.used)]).collect();
    assert_eq!(used, [("one", Some(2 * OBJECT)), ("two", Some(2 * OBJECT)), ("", Some(0))]);
}

/// The first image with operation features, and the first clone, change the calls about all
/// images. Others are in flight then.
#[test]
fn rare_images_among_many() {
    let space = Space::new();
    for number in 0..200 {
        space.create(&format!("image{number:03}"), SIZE).run().unwrap();
    }
    let rare = |number: &usize| [0, 1, 70, 71, 199].contains(number);
    for number in (0..200).filter(rare) {
        let name = format!("image{number:03}");
        let parent = space.open(&name).run().unwrap();
        parent.snapshots().create("s").run().unwrap();
        parent.close().unwrap();
        space.clone_image(&name, "s", &format!("{name}x")).format(CloneFormat::V2).run().unwrap();
    }
    for (parents, flight) in [(true, 1), (false, 1), (true, 64), (false, 64)] {
        let survey = space.survey().snapshots(true).parent(parents).locks(true).max_in_flight(flight);
        let found = survey_of(survey);
        assert_eq!(found.len(), 205);
        for image in found {
            let number: usize = image.name[5..8].parse().unwrap();
            let clone = image.name.ends_with('x');
            let is_parent = rare(&number) && !clone;
            assert_eq!(image.source, Source::Osds);
            assert_eq!(image.op_features.contains(OpFeatures::CLONE_PARENT), is_parent, "{image:?}");
            assert_eq!(image.op_features.contains(OpFeatures::CLONE_CHILD), clone, "{image:?}");
            assert_eq!(image.parent.is_some(), clone && parents, "{image:?}");
            assert_eq!(image.snapshots.len(), usize::from(is_parent));
            assert!(image.locks.is_some());
        }
    }
}
