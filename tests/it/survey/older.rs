//! OSDs of another release, whose object class lacks a call.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rbd::Cluster;
use rbd::survey::Source;
use rbd_testcluster::TestCluster;

use super::agree::same_as_opened;
use super::{SIZE, history, survey};

/// Returns the folder of the OSDs' object classes.
fn classes() -> PathBuf {
    let lib = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut folders = lib.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join("rados-classes"));
    folders.find(|folder| folder.join("libcls_rbd.so").exists()).expect("the OSD is installed")
}

/// The survey asks librbd, which has another call for it.
#[test]
fn an_osd_that_lacks_a_call() {
    let folder = tempfile::tempdir().unwrap();
    for entry in classes().read_dir().unwrap() {
        let (entry, link) = (entry.as_ref().unwrap().path(), folder.path().join(entry.unwrap().file_name()));
        symlink(entry, link).unwrap();
    }
    let class = folder.path().join("libcls_rbd.so");
    let mut code = std::fs::read(&class).unwrap();
    let name = b"parent_get\0";
    let at = code.windows(name.len()).position(|part| part == name).expect("the class has the call");
    code[at] = b'X';
    std::fs::remove_file(&class).unwrap();
    std::fs::write(&class, code).unwrap();

    let own = TestCluster::builder();
    let own = own.mgr(false).section_option("osd", "osd class dir", folder.path().display()).start().unwrap();
    let cluster = Cluster::builder().ignore_environment(true).conf_file(own.conf()).connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    for name in ["a", "b", "c"] {
        pool.create(name, SIZE).object_size(1 << 20).run().unwrap();
        history(&pool, name);
    }
    let found = survey(&pool);
    assert_eq!(found.len(), 3);
    let ways = found.iter().map(|image| (image.source, image.usage_source));
    assert!(ways.into_iter().all(|way| way == (Source::Librbd, Some(Source::Librbd))), "{found:?}");
    same_as_opened(&pool, &found);
}
