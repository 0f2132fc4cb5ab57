//! Protections of an image work, and the advice of an error never removes another image.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use rbd::image::CloneFormat;
use rbd::{ErrorKind, Features, ObjectKind};

use crate::support::{Space, cluster, unique};

const MIB: u64 = 1 << 20;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn the_longest_delay_in_the_trash_is_as_long_as_ceph_can_keep() {
    let space = Space::new();
    for (name, delay) in [("max", Duration::MAX), ("century", 100 * YEAR)] {
        space.create(name, MIB).run().unwrap();
        space.trash().add(name).delay(delay).run().unwrap();
    }
    for entry in space.trash().list().unwrap() {
        assert!(entry.deferred_until > SystemTime::now() + 50 * YEAR, "{entry:?}");
    }
    space.trash().purge().run().unwrap();
    assert_eq!(space.trash().list().unwrap().len(), 2);
    for entry in space.trash().list().unwrap() {
        space.trash().remove(&entry.id).force(true).run().unwrap();
    }
}

#[test]
fn a_range_of_addresses_is_refused_if_it_would_fence_no_client() {
    for range in ["10.9.8.0/24", "fd00::/64"] {
        let error = range.parse::<rbd::ClientAddress>().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("IP:PORT/NONCE"), "{error}");
    }
}

#[test]
fn an_interrupted_removal_is_ended_by_its_id() {
    let space = Space::new();
    space.create("foo", 64 * MIB).features(Features::LAYERING).run().unwrap();
    let id = space.open("foo").read_only(true).run().unwrap().id().unwrap();
    let stopped = space.remove("foo").progress(|_, _| ControlFlow::Break(())).run();
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Stopped);
    let error = space.open("foo").run().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("trash().remove(\"{id}\")")), "{text}");
    assert!(!text.contains("remove it again"), "{text}");
    // Another client creates an image of the same name. Following the advice does not touch it.
    space.create("foo", MIB).run().unwrap();
    space.trash().remove(&id).run().unwrap();
    assert_eq!(space.open("foo").run().unwrap().size().unwrap(), MIB);
}

#[test]
fn a_clone_whose_parents_pool_is_gone_is_no_interrupted_removal() {
    let space = Space::new();
    let cluster = cluster();
    let pool = unique("parent");
    cluster.pools().create(&pool).unwrap();
    let parent = cluster.ioctx(&pool).unwrap();
    parent.init().run().unwrap();
    parent.create("golden", MIB).run().unwrap();
    parent.open("golden").run().unwrap().snapshots().create("s").run().unwrap();
    parent.clone_image("golden", "s", "clone").format(CloneFormat::V2).into_ioctx(&space).run().unwrap();
    cluster.pools().remove(&pool).unwrap();
    cluster.wait_for_latest_osdmap().unwrap();
    let error = space.open("clone").run().unwrap_err();
    let text = error.to_string();
    assert!(!text.contains("interrupted") && !text.contains("remove it"), "{text}");
    assert!(text.contains("parent") && text.contains(&parent.pool_id().to_string()), "{text}");
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Pool }, "{text}");
}
