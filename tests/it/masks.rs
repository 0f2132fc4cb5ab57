//! The features of test images, so that the tests of snapshots, clones, copies and other work on
//! content can run with several sets.

use std::sync::OnceLock;

use rbd::{Features, IoCtx, ioctx::CreateImage};
use serde_json::json;

/// The variable that names the [`Mask`]. Default: `default`.
const VARIABLE: &str = "RBD_TEST_FEATURES";

/// The object size of test images, in bytes: small, so that little data makes many objects.
pub(crate) const OBJECT: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Only layering.
    Layering,
    /// The five default features of Ceph.
    Default,
    /// With journaling and striping.
    Everything,
    /// The five default features, with the data in an erasure-coded pool. Needs a cluster with
    /// three OSDs.
    DataPool,
}

pub(crate) fn mask() -> Mask {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("" | "default") => Mask::Default,
        Ok("layering") => Mask::Layering,
        Ok("everything") => Mask::Everything,
        Ok("data-pool") => Mask::DataPool,
        Ok(other) => panic!("{VARIABLE}={other}: must be layering, default, everything or data-pool"),
    }
}

/// Returns the features of this mask, without those that follow from other options.
pub(crate) fn features() -> Features {
    match mask() {
        Mask::Layering => Features::LAYERING,
        Mask::Default | Mask::DataPool => Features::DEFAULT,
        Mask::Everything => Features::DEFAULT | Features::JOURNALING,
    }
}

/// Begins to create an image of this mask with small objects.
pub(crate) fn create<'a>(ioctx: &'a IoCtx, name: &'a str, size: u64) -> CreateImage<'a> {
    let image = ioctx.create(name, size).features(features()).object_size(OBJECT);
    match mask() {
        Mask::Layering | Mask::Default => image,
        Mask::Everything => image.striping(OBJECT / 4, 2),
        Mask::DataPool => image.data_pool(erasure_coded_pool()),
    }
}

/// Returns an erasure-coded pool with overwrites, created by the first call.
fn erasure_coded_pool() -> &'static str {
    static POOL: OnceLock<String> = OnceLock::new();
    POOL.get_or_init(|| {
        let cluster = rbd_testcluster::shared();
        let ask = |prefix: &str, arguments| cluster.mon_query(prefix, arguments).unwrap();
        let osds = ask("osd ls", json!({})).as_array().map_or(0, Vec::len);
        assert!(osds >= 3, "{VARIABLE}=data-pool needs a cluster with 3 OSDs, and this one has {osds}");
        let pool = crate::support::unique("erasure");
        let profile = ["k=2", "m=1", "crush-failure-domain=osd"];
        ask("osd erasure-code-profile set", json!({"name": pool, "profile": profile}));
        ask(
            "osd pool create",
            json!({"pool": pool, "pool_type": "erasure", "erasure_code_profile": pool, "pg_num": 8}),
        );
        ask("osd pool set", json!({"pool": pool, "var": "allow_ec_overwrites", "val": "true"}));
        ask("osd pool application enable", json!({"pool": pool, "app": "rbd"}));
        pool
    })
}

#[test]
fn the_mask_is_in_force() {
    let space = crate::support::Space::new();
    create(&space, "foo", OBJECT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let features = image.features().unwrap();
    assert!(features.contains(self::features()));
    assert_eq!(features.contains(Features::FAST_DIFF), mask() != Mask::Layering);
    assert_eq!(features.contains(Features::JOURNALING | Features::STRIPING), mask() == Mask::Everything);
    assert_eq!(image.stripe_count().unwrap(), if mask() == Mask::Everything { 2 } else { 1 });
    assert_eq!(image.data_pool_id().unwrap() != space.pool_id(), mask() == Mask::DataPool);
}
