//! Surveys of pools: they agree with librbd and the `rbd` command.

mod agree;
mod census;
mod generated;
mod kinds;
mod meanwhile;
mod older;
mod quiet;
mod scale;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};

use rbd::image::CloneFormat;
use rbd::survey::{Source, Survey, SurveyedImage};
use rbd::{ErrorKind, Features, IoCtx};
use serde_json::Value;

use self::agree::{same_as_du, same_everywhere};
use crate::support::program::output;
use crate::support::{Space, block_on, cluster, pattern, unique};

fn all(pool: &IoCtx) -> Survey<'_> {
    let survey = pool.survey().snapshots(true).parent(true).times(true).locks(true).usage(true);
    survey.group(true).metadata(true).watchers(true)
}

fn survey(pool: &IoCtx) -> Vec<SurveyedImage> {
    all(pool).run().unwrap().map(Result::unwrap).collect()
}

/// Writes, takes snapshots, discards and grows.
fn history(pool: &IoCtx, name: &str) {
    let image = pool.open(name).run().unwrap();
    let (object, data) = (image.stat().unwrap().object_size, pattern(7, 4096));
    let write = |objects: &[u64]| {
        for number in objects {
            image.write_all_at(&data, number * object).unwrap();
        }
        image.flush().unwrap();
    };
    write(&[0, 1, 5]);
    image.snapshots().create("one").run().unwrap();
    write(&[1, 2]);
    image.discard(5 * object, object).unwrap();
    image.snapshots().create("two").run().unwrap();
    image.resize(9 * object + 100).run().unwrap();
    image.snapshots().create("three").run().unwrap();
    image.resize(3 * object + 4096).allow_shrink(true).run().unwrap();
    write(&[1]);
    image.snapshots().create("four").run().unwrap();
    image.resize(10 * object + 5000).run().unwrap();
    write(&[0, 7, 10]);
    image.close().unwrap();
}

const SIZE: u64 = 8 << 20;

/// A separate pool. Dropping it removes the pool.
struct Pool(IoCtx);

impl Pool {
    fn new() -> Pool {
        let name = unique("survey");
        rbd_testcluster::shared().create_pool(&name).unwrap();
        cluster().wait_for_latest_osdmap().unwrap();
        Pool(cluster().ioctx(&name).unwrap())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = cluster().pools().remove(self.0.pool());
    }
}

/// Returns how many of these operations a client waits for at the moment.
fn in_flight(socket: &Path, which: impl Fn(&Value) -> bool) -> usize {
    let ran = output(Command::new("ceph").arg("--admin-daemon").arg(socket).arg("objecter_requests"));
    assert!(ran.status.success(), "{ran:?}");
    let requests: Value = serde_json::from_slice(&ran.stdout).unwrap();
    requests["ops"].as_array().unwrap().iter().filter(|op| which(op)).count()
}

#[test]
fn images_of_every_kind() {
    let space = Space::new();
    let plain = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    space.create("default", SIZE).object_size(1 << 20).run().unwrap();
    space.create("striped", SIZE).object_size(1 << 20).striping(64 << 10, 3).run().unwrap();
    space.create("no map", SIZE).object_size(1 << 20).features(Features::LAYERING).run().unwrap();
    space.create("journal", SIZE).object_size(1 << 20).features(plain | Features::JOURNALING).run().unwrap();
    space.create("ünïcode \"quoted\"", SIZE).run().unwrap();
    space.create("empty", 0).run().unwrap();
    for name in ["default", "striped", "no map", "journal"] {
        history(&space, name);
    }
    let parent = space.open("default").run().unwrap();
    parent.snapshots().protect("one").unwrap();
    let group = space.groups().create("group").unwrap();
    group.add(&space, "striped").unwrap();
    group.snapshots().create("of the group").run().unwrap();
    for number in 0..130 {
        parent.metadata().set(&format!("key {number}"), &format!("välue {number}")).unwrap();
    }
    parent.config().set("rbd_qos_iops_limit", "500").unwrap();
    space.create("clone source", SIZE).object_size(1 << 20).run().unwrap();
    history(&space, "clone source");
    let source = space.open("clone source").run().unwrap();
    let other = Space::new();
    parent.snapshots().create("goes").run().unwrap();
    space.clone_image("default", "one", "clone 1").format(CloneFormat::V1).run().unwrap();
    space.clone_image("default", "two", "clone 2").into_ioctx(&other).format(CloneFormat::V2).run().unwrap();
    space
        .clone_image("default", "goes", "clone of trashed")
        .into_ioctx(&other)
        .format(CloneFormat::V2)
        .run()
        .unwrap();
    space
        .clone_image("clone source", "one", "clone of image in trash")
        .into_ioctx(&other)
        .format(CloneFormat::V2)
        .run()
        .unwrap();
    // A snapshot and an image in the trash.
    parent.snapshots().remove("goes").run().unwrap();
    source.close().unwrap();
    space.trash().add("clone source").run().unwrap();
    let clone = other.open("clone 2").run().unwrap();
    clone.write_all_at(b"own", 0).unwrap();
    clone.snapshots().create("own").run().unwrap();
    let locked = space.open("default").run().unwrap();
    locked.write_all_at(b"locked", 0).unwrap();
    locked.flush().unwrap();

    same_everywhere(&[&space, &other]);
    let ways: BTreeMap<_, _> = survey(&space)
        .into_iter()
        .map(|image| (image.name, (image.source, image.usage_source.unwrap())))
        .collect();
    assert_eq!(ways["default"], (Source::Osds, Source::Osds));
    assert_eq!(ways["striped"], (Source::Osds, Source::Osds));
    assert_eq!(ways["no map"], (Source::Osds, Source::Librbd));
    let trashed = survey_of(all(&space).trash(true));
    assert_eq!(trashed.len(), 1);
    assert_eq!((&*trashed[0].name, trashed[0].snapshots.len()), ("clone source", 4));
    let parent = &survey(&other)[1].parent.clone().unwrap();
    assert!(parent.image.in_trash && parent.image.name == "clone source", "{parent:?}");
    let found = &survey(&space)[1];
    assert_eq!((&*found.name, found.metadata.len()), ("default", 131));
    assert_eq!(found.watchers.len(), 2, "{:?}", found.watchers);
    group.remove(&space, "striped").unwrap();
    space.groups().remove("group").unwrap();
    other.remove("clone of image in trash").run().unwrap();
    let id = &trashed[0].id;
    space.trash().restore(id).run().unwrap();
}

fn survey_of(survey: Survey<'_>) -> Vec<SurveyedImage> {
    survey.run().unwrap().map(Result::unwrap).collect()
}

#[test]
fn an_invalid_object_map_is_not_believed() {
    let space = Space::new();
    space.create("foo", SIZE).object_size(1 << 20).run().unwrap();
    history(&space, "foo");
    let id = space.list().unwrap().remove(0).id;
    assert_eq!(survey(&space)[0].usage_source, Some(Source::Osds));
    let flags = 3_u64.to_le_bytes();
    space.objects().set_omap(&format!("rbd_header.{id}"), &[(&b"flags"[..], &flags[..])]).unwrap();
    let image = survey(&space).remove(0);
    assert_eq!((image.flags.bits(), image.usage_source), (3, Some(Source::Librbd)));
    same_as_du(&space);
}

#[test]
fn all_namespaces_and_a_stream() {
    let (space, other) = (Space::new(), Space::new());
    for name in ["c", "a", "b"] {
        space.create(name, SIZE).run().unwrap();
    }
    other.create("z", 2 * SIZE).run().unwrap();
    let pool = space.with_namespace("").unwrap();
    let own = |image: &SurveyedImage| [space.namespace(), other.namespace()].contains(&&*image.namespace);
    // Other tests damage images in their namespaces of this pool.
    let found: Vec<_> = pool.survey().all_namespaces(true).run().unwrap().filter_map(Result::ok).collect();
    let names: Vec<_> = found.iter().filter(|image| own(image)).map(|image| &*image.name).collect();
    assert_eq!(names, ["a", "b", "c", "z"]);

    let mut streamed = block_on(async {
        let mut stream = space.survey().sorted(false).max_in_flight(2).start().unwrap();
        let mut names = Vec::new();
        while let Some(image) = stream.next().await {
            names.push(image.unwrap().name);
        }
        assert!(stream.next().await.is_none());
        names
    });
    streamed.sort();
    assert_eq!(streamed, ["a", "b", "c"]);

    let nowhere = space.with_namespace("no-such-namespace").unwrap();
    let error = nowhere.survey().run().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    let error = block_on(async { nowhere.survey().start().unwrap().next().await }).unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
}

/// The panic would end the survey, and the images without an error.
#[test]
fn a_waker_that_panics_ends_no_survey() {
    struct Panics(Sender<()>);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
            resume_unwind(Box::new("this goes no further"));
        }
    }
    let space = Space::new();
    for number in 0..20 {
        space.create(&format!("image{number}"), SIZE).run().unwrap();
    }
    let mut stream = space.survey().usage(true).max_in_flight(1).start().unwrap();
    let (woken, wakes) = channel();
    let waker = Waker::from(Arc::new(Panics(woken)));
    let polled = pin!(stream.next()).poll(&mut Context::from_waker(&waker));
    // The answer may be there before the poll.
    let first = if polled.is_pending() { wakes.recv().map_or(0, |()| 0) } else { 1 };
    let streamed = block_on(async {
        let mut images = 0;
        while let Some(image) = stream.next().await {
            image.unwrap();
            images += 1;
        }
        images
    });
    assert_eq!(first + streamed, 20);
}
