//! Comparisons of surveys: with the `rbd` command, and with the opened images.

use std::collections::BTreeSet;
use std::process::Command;

use rbd::image::{LinkedImage, Parent};
use rbd::snapshot::SnapshotKind;
use rbd::survey::SurveyedImage;
use rbd::{Image, IoCtx};
use serde_json::{Value, json};

use super::{all, survey, survey_of};
use crate::support::program::output;

/// Compares everything that both know about the images of these places and of their trashes. The
/// children of their images must be in these places, too.
#[track_caller]
pub(super) fn same_everywhere(places: &[&IoCtx]) {
    for place in places {
        same_as_opened(place, &survey(place));
        same_as_opened(place, &survey_of(all(place).trash(true)));
        same_as_list(place);
        same_as_ls(place);
        same_as_du(place);
        same_as_status(place);
    }
    same_as_children(places);
}

/// Runs the `rbd` command, which must succeed unless it `may_fail` after its output. A signal may
/// end it, because librbd sometimes aborts when it closes an image (`rbd du`, seen with 16.2 and
/// 18.2). Then it runs again.
#[track_caller]
fn rbd(args: &[&str], may_fail: bool) -> Value {
    let mut attempts = (0..5).map(|_| {
        let conf = rbd_testcluster::shared().conf();
        output(Command::new("rbd").arg("--conf").arg(conf).args(args).args(["--format", "json"]))
    });
    let ran = attempts.find(|ran| ran.status.code().is_some());
    let ran = ran.unwrap_or_else(|| panic!("a signal ended `rbd` five times, for {args:?}"));
    assert!(ran.status.success() || may_fail, "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Runs a command about an image, or about the whole place if the name is empty.
#[track_caller]
fn rbd_at(place: &IoCtx, command: &[&str], image: &str) -> Value {
    let place = ["--pool", place.pool(), "--namespace", place.namespace(), "--image", image];
    rbd(&[command, if image.is_empty() { &place[..4] } else { &place }].concat(), false)
}

/// Returns the images of a survey that the `rbd` command can open.
fn usable(place: &IoCtx) -> impl Iterator<Item = SurveyedImage> {
    survey(place).into_iter().filter(|image| !image.half_removed)
}

/// Compares names and ids with `rbd ls` and `rbd trash ls`.
#[track_caller]
fn same_as_list(place: &IoCtx) {
    let ours: Vec<_> = survey(place).into_iter().map(|image| image.name).collect();
    assert_eq!(json!(ours), rbd_at(place, &["ls"], ""), "the survey on the left, rbd ls on the right");
    let ids = |entries: Vec<(String, String)>| entries.into_iter().collect::<BTreeSet<_>>();
    let ours = survey_of(place.survey().trash(true)).into_iter().map(|image| (image.id, image.name));
    let theirs = rbd_at(place, &["trash", "ls", "--all"], "");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let theirs = theirs.as_array().unwrap().iter().map(|entry| (text(entry, "id"), text(entry, "name")));
    assert_eq!(ids(ours.collect()), ids(theirs.collect()), "in the trash");
}

/// Compares with `rbd ls -l`.
#[track_caller]
pub(super) fn same_as_ls(place: &IoCtx) {
    let mut rows = Vec::new();
    for image in usable(place) {
        let row = |size: u64, parent: Option<Parent>| {
            let format = if image.old_format { 1 } else { 2 };
            let mut row = json!({ "image": image.name, "id": image.id, "size": size, "format": format });
            if let Some(Parent { image, snapshot, .. }) = parent {
                row["parent"] = json!({
                    "pool": image.pool, "pool_namespace": image.namespace, "image": image.name,
                    "snapshot": snapshot,
                });
            }
            row
        };
        let mut own = row(image.size, image.parent.clone());
        if let Some(locks) = image.locks.as_ref().filter(|locks| !locks.lockers.is_empty()) {
            own["lock_type"] = if locks.exclusive { "exclusive".into() } else { "shared".into() };
        }
        rows.push(own);
        for snapshot in image.snapshots.iter().filter(|snapshot| snapshot.kind == SnapshotKind::User) {
            let mut row = row(snapshot.size, snapshot.parent.clone());
            row["snapshot"] = json!(snapshot.name);
            row["snapshot_id"] = json!(snapshot.id);
            row["protected"] = json!(snapshot.protected.to_string());
            rows.push(row);
        }
    }
    // The command leaves an image out that it cannot open. The last image decides its status.
    let half = survey(place).iter().any(|image| image.half_removed);
    let args = ["ls", "-l", "--pool", place.pool(), "--namespace", place.namespace()];
    let mut theirs = rbd(&args, half);
    // The command shows images of format 1 first.
    theirs.as_array_mut().unwrap().sort_by_key(|row| row["image"].as_str().unwrap().to_owned());
    assert_eq!(json!(rows), theirs, "the survey on the left, rbd ls -l on the right");
}

/// Compares the used space with `rbd du`, which aborts on an image or snapshot of size 0 in 16.2.
#[track_caller]
pub(super) fn same_as_du(place: &IoCtx) {
    let never_empty =
        |image: &SurveyedImage| image.size > 0 && image.snapshots.iter().all(|snapshot| snapshot.size > 0);
    for image in usable(place).filter(never_empty) {
        let mut rows = Vec::new();
        for snapshot in image.snapshots.iter().filter(|snapshot| snapshot.kind == SnapshotKind::User) {
            rows.push(json!({
                "name": image.name, "id": image.id, "snapshot": snapshot.name, "snapshot_id": snapshot.id,
                "provisioned_size": snapshot.size, "used_size": snapshot.used.unwrap(),
            }));
        }
        rows.push(json!({
            "name": image.name, "id": image.id, "provisioned_size": image.size,
            "used_size": image.used.unwrap(),
        }));
        let theirs = rbd_at(place, &["du"], &image.name);
        assert_eq!(json!(rows), theirs["images"], "the survey on the left, rbd du on the right");
    }
}

/// Compares the watchers with `rbd status`.
#[track_caller]
pub(super) fn same_as_status(place: &IoCtx) {
    for image in usable(place) {
        let theirs = rbd_at(place, &["status"], &image.name);
        let ours = image.watchers.iter().map(|watcher| {
            json!({
                "address": watcher.address.to_string(), "client": watcher.client, "cookie": watcher.cookie,
            })
        });
        assert_eq!(Value::from(ours.collect::<Vec<_>>()), theirs["watchers"], "{}", image.name);
    }
}

/// A child: its pool, namespace, id, and whether it is in the trash.
type Child = (String, String, String, bool);

/// Compares parents, read backwards, with `rbd children`. The command cannot name an image in the
/// trash, so librbd lists the children of these.
#[track_caller]
fn same_as_children(places: &[&IoCtx]) {
    let in_trash = |place: &IoCtx| survey_of(all(place).trash(true));
    let images: Vec<(&IoCtx, SurveyedImage, bool)> = places
        .iter()
        .flat_map(|place| {
            let usable = usable(place).map(|image| (*place, image, false));
            usable.chain(in_trash(place).into_iter().map(|image| (*place, image, true)))
        })
        .collect();
    for (place, image, trashed) in &images {
        // The clone of an empty snapshot has no parent.
        for snapshot in image.snapshots.iter().filter(|snapshot| snapshot.size > 0) {
            let id = snapshot.id.to_string();
            let theirs: BTreeSet<Child> = if *trashed {
                let opened = place.open_by_id(&image.id).read_only(true).run().unwrap();
                let children = opened.at_snapshot(snapshot.id).unwrap().children().unwrap();
                children
                    .into_iter()
                    .map(|LinkedImage { pool, namespace, id, in_trash, .. }| (pool, namespace, id, in_trash))
                    .collect()
            } else {
                let theirs = rbd_at(place, &["children", "--all", "--snap-id", &id], &image.name);
                let text = |child: &Value, key: &str| child[key].as_str().unwrap().to_owned();
                theirs
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|child| {
                        let trash = child["trash"].as_bool().unwrap();
                        (text(child, "pool"), text(child, "pool_namespace"), text(child, "id"), trash)
                    })
                    .collect()
            };
            let of_this = |parent: &Option<Parent>| {
                parent.as_ref().is_some_and(|parent| {
                    parent.image.id == image.id
                        && parent.image.pool_id == place.pool_id()
                        && parent.snapshot_id == snapshot.id
                })
            };
            let ours: BTreeSet<Child> = images
                .iter()
                // A flattened clone stays a child as long as one of its snapshots needs the parent.
                .filter(|(_, child, _)| {
                    of_this(&child.parent) || child.snapshots.iter().any(|version| of_this(&version.parent))
                })
                .map(|(place, child, trashed)| {
                    (place.pool().to_owned(), place.namespace().to_owned(), child.id.clone(), *trashed)
                })
                .collect();
            assert_eq!(ours, theirs, "the children of {}@{}", image.name, snapshot.name);
        }
    }
}

/// Compares each field with the opened image.
#[track_caller]
pub(super) fn same_as_opened(place: &IoCtx, images: &[SurveyedImage]) {
    for found in images.iter().filter(|image| !image.half_removed) {
        let name = &found.name;
        let image = place.open_by_id(&found.id).read_only(true).run().unwrap();
        let stat = image.stat().unwrap();
        assert_eq!((found.size, found.object_size), (stat.size, stat.object_size), "{name}");
        assert_eq!(found.features, image.features().unwrap(), "{name}");
        assert_eq!(found.op_features, image.op_features().unwrap(), "{name}");
        assert_eq!(found.flags, image.flags().unwrap(), "{name}");
        assert_eq!(found.parent, image.parent().unwrap(), "{name}");
        assert_eq!(found.created, Some(image.created().unwrap()), "{name}");
        assert_eq!(found.modified, Some(image.modified().unwrap()), "{name}");
        assert_eq!(found.accessed, Some(image.accessed().unwrap()), "{name}");
        assert_eq!(found.group, image.group().unwrap(), "{name}");
        assert_eq!(found.metadata, image.metadata().list().unwrap(), "{name}");
        assert_eq!(found.watchers, image.watchers().unwrap(), "{name}");
        let (ours, theirs) = (found.locks.as_ref().unwrap(), image.advisory_locks().list().unwrap());
        assert_eq!(ours.lockers, theirs.lockers, "{name}");
        if !ours.lockers.is_empty() {
            assert_eq!((ours.exclusive, &ours.tag), (theirs.exclusive, &theirs.tag), "{name}");
        }
        same_snapshots(found, &image);
    }
}

#[track_caller]
fn same_snapshots(found: &SurveyedImage, image: &Image) {
    let name = &found.name;
    let snapshots = image.snapshots().list().unwrap();
    assert_eq!(found.snapshots.len(), snapshots.len(), "{name}");
    for (ours, theirs) in found.snapshots.iter().zip(snapshots) {
        let at_snapshot = image.at_snapshot(theirs.id).unwrap();
        assert_eq!((ours.id, &ours.name, ours.size), (theirs.id, &theirs.name, theirs.size), "{name}");
        assert_eq!(ours.kind, theirs.origin.kind(), "{name}");
        assert_eq!((ours.created, ours.protected), (theirs.created, theirs.protected), "{name}");
        assert_eq!(ours.flags, at_snapshot.flags().unwrap(), "{name}");
        assert_eq!(ours.parent, at_snapshot.parent().unwrap(), "{name}");
    }
}
