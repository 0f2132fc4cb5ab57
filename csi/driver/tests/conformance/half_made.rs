//! Creations, removals and renamings that ended between two operations of librbd. The repeated
//! request makes one complete object, and nothing is left of the first attempt.

use rbd::IoCtx;
use rbd::image::CloneFormat;
use rbd_csi::proto::csi::{CreateVolumeGroupSnapshotRequest, CreateVolumeRequest};

use super::driver::{Driver, create, from_snapshot, from_volume, secrets};

/// Calls a method of the OSDs' class, with texts.
fn call(pool: &IoCtx, object: &str, method: &str, texts: &[&str]) {
    let text = |text: &&str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let input: Vec<u8> = texts.iter().flat_map(text).collect();
    pool.objects().execute(object, "rbd", method, &input).unwrap();
}

/// The id of the image of a name.
fn id(pool: &IoCtx, name: &str) -> String {
    pool.open(name).read_only(true).run().unwrap().id().unwrap()
}

/// The objects and the entries of directories that belong to names or ids like this one.
fn objects(pool: &IoCtx, part: &str) -> Vec<String> {
    let names: Vec<String> = pool.objects().list().unwrap().map(|object| object.unwrap().name).collect();
    let directories = ["rbd_directory", "rbd_trash", "rbd_group_directory"];
    let entries = directories.iter().flat_map(|directory| {
        let keys = pool.objects().omap(directory).unwrap_or_default().into_keys();
        keys.map(move |key| format!("{directory}: {}", String::from_utf8_lossy(&key)))
    });
    let mut found: Vec<String> =
        names.into_iter().chain(entries).filter(|name| name.contains(part)).collect();
    found.sort();
    found
}

/// Makes the request, checks the volume, and deletes it. Nothing may be left.
async fn works(driver: &Driver, what: &str, request: CreateVolumeRequest, content: &[u8]) {
    let image = format!("csi-vol-{}", request.name);
    let volume = driver.create(request.clone()).await.unwrap_or_else(|status| panic!("{what}: {status}"));
    assert_eq!(driver.create(request).await.unwrap(), volume, "{what}");
    let opened = driver.pool.open(&image).run().unwrap();
    assert!(volume.volume_id.ends_with(&opened.id().unwrap()), "{what}");
    let mut found = vec![0; content.len()];
    opened.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, content, "{what}");
    // The object map exists and is valid.
    opened.write_all_at(b"new", 1 << 20).unwrap();
    assert!(opened.flags().unwrap().is_empty(), "{what}: {:?}", opened.flags());
    opened.close().unwrap();
    assert_eq!(objects(&driver.pool, &format!("rbd_id.{image}")).len(), 1, "{what}");
    driver.delete(&volume.volume_id).await.unwrap();
    assert_eq!(objects(&driver.pool, &image), [""; 0], "{what}");
}

/// librbd creates an image in these steps: the entry in the directory, the object with the id, the
/// header, the striping, the object map.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_librbd_did_not_end_is_made_anew() {
    let driver = Driver::start().await;
    let (pool, objects) = (&driver.pool, driver.pool.objects());
    let name = "csi-vol-a";
    for (what, created, gone) in [
        ("the entry", false, &["rbd_id.csi-vol-a", "rbd_header.", "rbd_object_map."][..]),
        ("the id", true, &["rbd_header.", "rbd_object_map."][..]),
        ("the header", true, &["rbd_object_map."][..]),
    ] {
        pool.create(name, 16 << 20).run().unwrap();
        let id = id(pool, name);
        for object in gone {
            let object = if object.ends_with('.') { format!("{object}{id}") } else { (*object).to_owned() };
            objects.remove(&object).unwrap();
        }
        assert_eq!(objects.stat("rbd_id.csi-vol-a").is_ok(), created, "{what}");
        works(&driver, what, create("a", 16), &[]).await;
        assert_eq!(self::objects(pool, &id), [""; 0], "{what}");
    }

    // Without the stripes, the data would lie elsewhere.
    let mut request = create("a", 16);
    for (key, value) in [("objectSize", "1048576"), ("stripeUnit", "65536"), ("stripeCount", "4")] {
        request.parameters.insert(key.into(), value.into());
    }
    pool.create(name, 16 << 20).object_size(1 << 20).striping(65536, 4).run().unwrap();
    let header = format!("rbd_header.{}", id(pool, name));
    objects.remove_omap(&header, &[b"stripe_unit", b"stripe_count"]).unwrap();
    let volume = driver.create(request).await.unwrap();
    let image = pool.open(name).read_only(true).run().unwrap();
    assert_eq!((image.stripe_unit().unwrap(), image.stripe_count().unwrap()), (65536, 4));
    drop(image);
    driver.delete(&volume.volume_id).await.unwrap();
}

/// librbd clones in these steps: the image, the link to its parent, the parent's link to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_librbd_did_not_end_is_made_anew() {
    let driver = Driver::start().await;
    let pool = &driver.pool;
    let source = driver.volume("source").await.volume_id;
    let image = pool.open("csi-vol-source").run().unwrap();
    image.write_all_at(b"content", 0).unwrap();
    image.close().unwrap();
    let snapshot = driver.snapshot("snap", &source).await.unwrap().snapshot_id;
    for (start, taken) in
        [(from_snapshot(&snapshot), "csi-snap-snap"), (from_volume(&source), "csi-clone-csi-vol-a")]
    {
        let mut request = create("a", 16);
        request.volume_content_source = start;
        for linked in [false, true] {
            let parent = pool.open("csi-vol-source").run().unwrap();
            if taken.starts_with("csi-clone") {
                parent.snapshots().create(taken).run().unwrap();
            }
            let number = parent.snapshots().id(taken).unwrap();
            if linked {
                pool.clone_image("csi-vol-source", taken, "csi-vol-a").format(CloneFormat::V2).run().unwrap();
                // The snapshot's number, then the child: the head of its encoding, pool, id,
                // namespace.
                let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
                let child = [
                    &pool.pool_id().to_le_bytes()[..],
                    &text(&id(pool, "csi-vol-a")),
                    &text(pool.namespace()),
                ]
                .concat();
                let len = (child.len() as u32).to_le_bytes();
                let input = [&number.to_le_bytes()[..], &[2, 1], &len, &child].concat();
                let header = format!("rbd_header.{}", parent.id().unwrap());
                pool.objects().execute(&header, "rbd", "child_detach", &input).unwrap();
            } else {
                pool.create("csi-vol-a", 16 << 20).run().unwrap();
            }
            parent.close().unwrap();
            works(&driver, &format!("{taken}, linked: {linked}"), request.clone(), b"content").await;
        }
    }
    driver.delete_snapshot(&snapshot).await.unwrap();
    driver.delete(&source).await.unwrap();
    driver.until("the trash is empty", |pool| pool.trash().list().unwrap().is_empty()).await;
}

/// librbd renames in these steps: a second object with the id, the directory, removal of the first
/// object.
#[tokio::test(flavor = "multi_thread")]
async fn a_renaming_that_librbd_did_not_end_is_ended() {
    let driver = Driver::start().await;
    let pool = &driver.pool;
    let source = driver.volume("source").await.volume_id;
    let image = pool.open("csi-vol-source").run().unwrap();
    image.write_all_at(b"content", 0).unwrap();
    image.close().unwrap();
    let part = group(&driver, "g", &source).await;
    let mut request = create("a", 16);
    request.volume_content_source = from_snapshot(&part);
    for renamed in [false, true] {
        driver.create(request.clone()).await.unwrap();
        let (from, to) = ("csi-vol-a~part", "csi-vol-a");
        let id = id(pool, to);
        call(pool, &format!("rbd_header.{id}"), "metadata_remove", &["csi.name"]);
        // The object contains the image's id as text.
        pool.objects().write_full(&format!("rbd_id.{from}"), &[]).unwrap();
        call(pool, &format!("rbd_id.{from}"), "set_id", &[&id]);
        if !renamed {
            call(pool, "rbd_directory", "dir_rename_image", &[to, from, &id]);
        }
        works(&driver, &format!("renamed: {renamed}"), request.clone(), b"content").await;
    }
    // Of this copy, only the name exists.
    pool.create("csi-vol-a~part", 16 << 20).run().unwrap();
    let id = id(pool, "csi-vol-a~part");
    pool.objects().remove(&format!("rbd_header.{id}")).unwrap();
    pool.objects().remove("rbd_id.csi-vol-a~part").unwrap();
    works(&driver, "the name", request, b"content").await;
}

/// librbd moves an image to the trash in these steps: the entry in the trash, the object with the
/// id, the directory, the state of the entry.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_the_trash_that_librbd_did_not_end_is_ended() {
    let driver = Driver::start().await;
    let pool = &driver.pool;
    for cloned in [false, true] {
        for named in [false, true] {
            let what = format!("cloned: {cloned}, named: {named}");
            let volume = driver.volume("a").await.volume_id;
            let id = id(pool, "csi-vol-a");
            let mut clone = create("clone", 16);
            clone.volume_content_source = from_volume(&volume);
            let clone = if cloned { Some(driver.create(clone).await.unwrap()) } else { None };
            if cloned {
                driver.delete(&volume).await.unwrap();
            } else {
                pool.trash().add("csi-vol-a").run().unwrap();
                let (key, objects) = (format!("id_{id}").into_bytes(), pool.objects());
                let mut entry = objects.omap("rbd_trash").unwrap()[&key].clone();
                // The byte after the head of the encoding is the source of the entry: 3 means a
                // removal.
                entry[6] = 3;
                objects.set_omap("rbd_trash", &[(&key[..], &entry[..])]).unwrap();
            }
            let state = [&(id.len() as u32).to_le_bytes()[..], id.as_bytes(), &[1, 0]].concat();
            pool.objects().execute("rbd_trash", "rbd", "trash_state_set", &state).unwrap();
            call(pool, "rbd_directory", "dir_add_image", &["csi-vol-a", &id]);
            if named {
                pool.objects().write_full("rbd_id.csi-vol-a", &[]).unwrap();
                call(pool, "rbd_id.csi-vol-a", "set_id", &[&id]);
            }
            // A new volume can get the name before the old one is deleted again, and afterwards.
            if !named {
                works(&driver, &what, create("a", 16), &[]).await;
            }
            driver.delete(&volume).await.unwrap();
            works(&driver, &what, create("a", 16), &[]).await;
            if let Some(clone) = clone {
                driver.delete(&clone.volume_id).await.unwrap();
            }
            driver.until(&what, |pool| objects(pool, &id).is_empty()).await;
        }
    }
}

/// Takes a group snapshot, and returns the id of its part.
async fn group(driver: &Driver, name: &str, volume: &str) -> String {
    let request = CreateVolumeGroupSnapshotRequest {
        name: name.into(),
        source_volume_ids: vec![volume.into()],
        secrets: secrets(),
        ..CreateVolumeGroupSnapshotRequest::default()
    };
    let taken = driver.groups.clone().create_volume_group_snapshot(request).await.unwrap();
    taken.into_inner().group_snapshot.unwrap().snapshots[0].snapshot_id.clone()
}
