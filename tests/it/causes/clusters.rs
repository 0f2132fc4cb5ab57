//! Handles of two clusters in one process: impossible calls are refused before anything is touched.

use rbd::image::CloneFormat;
use rbd::{Cluster, ErrorKind, Image, IoCtx, Result};
use rbd_testcluster::TestCluster;

use crate::support::{builder, pattern, unique};

const MIB: u64 = 1 << 20;

fn content(image: &Image) -> Vec<u8> {
    let mut data = vec![0; MIB as usize];
    image.read_exact_at(&mut data, 0).unwrap();
    data
}

#[test]
fn what_needs_one_cluster_is_refused_and_copies_work() {
    let daemons = [(); 2].map(|()| TestCluster::builder().mgr(false).start().unwrap());
    let [a, b] = daemons.each_ref().map(|daemons| {
        let cluster =
            Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
        cluster.ioctx("rbd").unwrap()
    });
    for pool in [&a, &b] {
        pool.create("x", MIB).run().unwrap();
        let image = pool.open("x").run().unwrap();
        image.write_all_at(&pattern(1, MIB as usize), 0).unwrap();
        image.snapshots().create("s").run().unwrap();
        pool.clone_image("x", "s", "clone").format(CloneFormat::V2).run().unwrap();
    }
    let group = a.groups().create("g").unwrap();
    let image = a.open("x").run().unwrap();
    let clone = a.open("clone").run().unwrap();
    let id = b.open("x").read_only(true).run().unwrap().id().unwrap();

    // Every public call that takes a second handle.
    let refused: [(&str, Result<()>); 6] = [
        ("Group::add", group.add(&b, "x")),
        ("Group::remove", group.remove(&b, "x")),
        ("Group::remove_by_id", group.remove_by_id(&b, &id)),
        ("CloneImage", a.clone_image("x", "s", "new").format(CloneFormat::V2).into_ioctx(&b).run()),
        ("PrepareMigration", a.prepare_migration("x", &b, "new").run()),
        ("DeepCopyImage of a clone", clone.deep_copy_to(&b, "new").run()),
    ];
    for (call, result) in refused {
        let error = result.expect_err(call);
        assert!(error.to_string().contains("another cluster"), "{call}: {error}");
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{call}: {error}");
    }
    let names = |pool: &IoCtx| pool.list().unwrap().into_iter().map(|image| image.name).collect::<Vec<_>>();
    assert_eq!([names(&a), names(&b)], [["clone", "x"], ["clone", "x"]].map(Vec::from));

    image.copy_to(&b, "copy").run().unwrap();
    image.deep_copy_to(&b, "deep").run().unwrap();
    clone.deep_copy_to(&b, "flat").flatten(true).run().unwrap();
    b.create("over", MIB).run().unwrap();
    image.copy_over(&b.open("over").run().unwrap()).run().unwrap();
    for name in ["copy", "deep", "flat", "over"] {
        let copy = b.open(name).read_only(true).run().unwrap();
        assert!(content(&copy) == pattern(1, MIB as usize), "{name}");
        assert!(copy.parent().unwrap().is_none(), "{name}");
    }
    assert_eq!(b.open("deep").read_only(true).run().unwrap().snapshots().list().unwrap().len(), 1);
}

#[test]
fn two_connections_to_one_cluster_work_together() {
    let space = crate::support::Space::new();
    let other = builder().connect().unwrap();
    let other = other.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    space.create("x", MIB).run().unwrap();
    space.open("x").run().unwrap().snapshots().create("s").run().unwrap();
    let name = unique("group");
    let group = space.groups().create(&name).unwrap();
    group.add(&other, "x").unwrap();
    assert_eq!(group.list().unwrap().len(), 1);
    group.remove(&other, "x").unwrap();
    space.groups().remove(&name).unwrap();
    space.clone_image("x", "s", "clone").format(CloneFormat::V2).into_ioctx(&other).run().unwrap();
    assert!(space.open("clone").read_only(true).run().unwrap().parent().unwrap().is_some());
}
