//! Images of rare kinds, compared with the `rbd` command.

use std::process::Command;
use std::time::{Duration, Instant};

use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::image::CloneFormat;
use rbd::survey::Source;
use rbd::{Features, IoCtx};

use super::agree::{same_as_du, same_as_ls, same_as_status, same_everywhere};
use super::{Pool, SIZE, history, survey, survey_of};
use crate::support::program::output;
use crate::support::{Space, cluster, pattern};

fn create<'a>(pool: &'a IoCtx, name: &'a str) -> rbd::ioctx::CreateImage<'a> {
    pool.create(name, SIZE).object_size(1 << 20)
}

#[test]
fn pools_namespaces_and_kinds() {
    let (pool, other, data) = (Pool::new(), Pool::new(), Pool::new());
    let plain = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    create(&pool.0, "plain").run().unwrap();
    create(&pool.0, "data pool").data_pool(data.0.pool()).run().unwrap();
    create(&pool.0, "journal").features(plain | Features::JOURNALING).run().unwrap();
    for name in ["-rf", "a=b,c", "name with  blanks ", "ends.in.dots...", "\u{1f980}"] {
        create(&pool.0, name).run().unwrap();
    }
    create(&pool.0, "encrypted").run().unwrap();
    let encrypted = pool.0.open("encrypted").run().unwrap();
    encrypted
        .encryption()
        .format(EncryptionFormat::Luks1, Cipher::Aes128, &Passphrase::new("secret"))
        .unwrap();
    encrypted.write_all_at(&pattern(3, 4096), 0).unwrap();
    encrypted.close().unwrap();
    for name in ["plain", "data pool", "journal"] {
        history(&pool.0, name);
    }
    let spec = |name: &str| format!("{}/{name}", pool.0.pool());
    for args in [
        &["mirror", "pool", "enable", pool.0.pool(), "image"][..],
        &["mirror", "pool", "peer", "add", pool.0.pool(), "client.nobody@nowhere"],
        &["mirror", "image", "enable", &spec("plain"), "snapshot"],
        &["mirror", "image", "snapshot", &spec("plain")],
    ] {
        let conf = rbd_testcluster::shared().conf();
        let ran = output(Command::new("rbd").arg("--conf").arg(conf).args(args));
        assert!(ran.status.success(), "{args:?}: {ran:?}");
    }
    pool.0.namespaces().create("inner").unwrap();
    let inner = pool.0.with_namespace("inner").unwrap();
    pool.0.open("plain").run().unwrap().snapshots().protect("two").unwrap();
    pool.0.clone_image("plain", "two", "v1").into_ioctx(&other.0).format(CloneFormat::V1).run().unwrap();
    pool.0.clone_image("plain", "two", "v2").into_ioctx(&inner).format(CloneFormat::V2).run().unwrap();
    history(&other.0, "v1");
    let open = pool.0.open("data pool").run().unwrap();
    same_everywhere(&[&pool.0, &inner, &other.0]);
    open.close().unwrap();
    // All values except the watchers are answered without opening images.
    assert!(survey(&pool.0).iter().all(|image| image.source == Source::Osds));
}

#[test]
fn a_parent_whose_pool_is_gone() {
    let (pool, other) = (Pool::new(), Pool::new());
    create(&pool.0, "parent").run().unwrap();
    history(&pool.0, "parent");
    pool.0.clone_image("parent", "one", "clone").into_ioctx(&other.0).format(CloneFormat::V2).run().unwrap();
    let id = pool.0.pool_id();
    drop(pool);
    // The monitor may publish the map without the pool somewhat later.
    let end = Instant::now() + Duration::from_secs(30);
    let found = loop {
        cluster().wait_for_latest_osdmap().unwrap();
        let found = survey_of(other.0.survey().parent(true).snapshots(true));
        let parent = found[0].parent.as_ref().unwrap();
        if parent.image.pool.is_empty() || Instant::now() > end {
            break found;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let parent = found[0].parent.as_ref().unwrap();
    assert_eq!((parent.image.pool_id, &*parent.image.pool, &*parent.image.name), (id, "", ""));
    assert_eq!((&*found[0].name, found[0].size), ("clone", SIZE));
}

#[test]
fn a_migration_under_way() {
    let (space, other) = (Space::new(), Space::new());
    space.create("source", SIZE).object_size(1 << 20).run().unwrap();
    history(&space, "source");
    space.prepare_migration("source", &other, "target").object_size(2 << 20).run().unwrap();
    same_everywhere(&[&other]);
    let found = survey(&other).remove(0);
    assert_eq!((found.source, found.usage_source), (Source::Librbd, Some(Source::Librbd)));
    let listed = space.list().unwrap();
    assert_eq!(survey_of(space.survey()).len(), listed.len());
    other.migration("target").abort().run().unwrap();
    same_everywhere(&[&space, &other]);
}

#[test]
fn images_of_format_1() {
    let pool = Pool::new();
    let conf = rbd_testcluster::shared().conf();
    let spec = format!("{}/old", pool.0.pool());
    let mut create = Command::new("rbd");
    create.env("RBD_FORCE_ALLOW_V1", "1").arg("--conf").arg(conf);
    let ran = output(create.args(["create", "--image-format", "1", "-s", "8", &spec]));
    assert!(ran.status.success(), "{ran:?}");
    pool.0.create("new", SIZE).run().unwrap();
    let image = pool.0.open("old").run().unwrap();
    image.write_all_at(&pattern(1, 4096), 4 << 20).unwrap();
    image.snapshots().create("snap").run().unwrap();
    image.write_all_at(&pattern(2, 4096), 0).unwrap();
    image.close().unwrap();
    let found = survey(&pool.0);
    assert_eq!((found.len(), &*found[1].name, found[1].source), (2, "old", Source::Librbd));
    let old = &found[1];
    assert!(old.old_format && old.id.is_empty(), "{old:?}");
    assert_eq!((old.size, old.snapshots.len(), &*old.snapshots[0].name), (SIZE, 1, "snap"));
    same_as_ls(&pool.0);
    same_as_du(&pool.0);
    same_as_status(&pool.0);
}
