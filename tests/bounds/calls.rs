//! The table of the calls.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rbd::{Cluster, Image, IoCtx, Queue};

use crate::SHORT;

/// A prepared call, and its path in the list of public items.
pub(crate) type Call = (&'static str, Box<dyn FnOnce() + Send>);

const STATUS: &str = r#"{"prefix": "status"}"#;
const LUKS: rbd::encryption::EncryptionFormat = rbd::encryption::EncryptionFormat::Luks2;

fn passphrase() -> rbd::encryption::Passphrase {
    rbd::encryption::Passphrase::new("secret")
}

fn block() -> Bytes {
    Bytes::from_static(&[1; 4096])
}

/// Returns the token of another cluster.
fn token() -> rbd::mirror::BootstrapToken {
    rbd::mirror::BootstrapToken::new(TOKEN)
}

const TOKEN: &str = "eyJmc2lkIjogIjExMTExMTExLTIyMjItMzMzMy00NDQ0LTU1NTU1NTU1NTU1NSIsICJjbGllbnRfaWQiOiAicmJkLW1pcnJvci1wZWVyIiwgImtleSI6ICJBUUE9IiwgIm1vbl9ob3N0IjogIjEyNy4wLjAuMToxIn0=";

pub(crate) fn builder(conf: &str) -> rbd::ClusterBuilder {
    Cluster::builder()
        .ignore_environment(true)
        .conf_file(Path::new(conf))
        .connect_timeout(SHORT)
        .mon_timeout(SHORT)
        .call_timeout(SHORT)
}

/// The handles that the calls use.
struct Context {
    conf: String,
    cluster: Cluster,
    pool: IoCtx,
    image: Arc<Image>,
    spare: Image,
    group: rbd::group::Group,
    address: rbd::ClientAddress,
    plan: rbd::features::Plan,
    owner: rbd::lock::LockOwner,
    locker: rbd::lock::Locker,
}

impl Context {
    fn new(conf: &str) -> Context {
        // The preparation may take longer than the calls.
        let cluster = builder(conf).connect_timeout(None).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap();
        for name in ["image", "spare", "idle", "other"] {
            pool.create(name, 64 << 20).run().unwrap();
        }
        let image = Arc::new(pool.open("image").run().unwrap());
        image.snapshots().create("a").run().unwrap();
        image.write_all_at(&[1; 4096], 0).unwrap();
        image.exclusive_lock().acquire().unwrap();
        let owner = image.exclusive_lock().owner().unwrap().unwrap();
        let spare = pool.open("spare").run().unwrap();
        spare.advisory_locks().acquire_exclusive("cookie").unwrap();
        let locker = spare.advisory_locks().list().unwrap().lockers.remove(0);
        let plan = rbd::features::Plan::to_disable(
            image.features().unwrap(),
            rbd::features::Features::OBJECT_MAP | rbd::features::Features::FAST_DIFF,
        );
        let group = pool.groups().create("group").unwrap();
        let address = "10.9.8.7:0/1234".parse().unwrap();
        let conf = conf.to_owned();
        Context { conf, pool, image, spare, group, address, plan: plan.unwrap(), owner, locker, cluster }
    }

    /// Opens another handle, on a separate connection.
    fn open(&self) -> Image {
        let cluster = builder(&self.conf).connect_timeout(None).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap();
        pool.open("other").run().unwrap()
    }

    fn queue(&self) -> Queue {
        Queue::new(Arc::new(self.open()), 4).unwrap()
    }
}

/// Defines the table of a file: each call's path, and the call.
macro_rules! calls {
    ($($name:literal => |$c:ident| $call:expr,)*) => {
        pub(super) const NAMES: &[&str] = &[$($name),*];

        pub(super) fn prepare(context: &Arc<Context>, calls: &mut Vec<Call>) {
            $({
                let $c = Arc::clone(context);
                calls.push(($name, Box::new(move || drop($call))));
            })*
        }
    };
}

#[path = "aio.rs"]
mod aio;
#[path = "cluster.rs"]
mod cluster;
#[path = "image.rs"]
mod image;
#[path = "mirror.rs"]
mod mirror;
#[path = "owned.rs"]
mod owned;
#[path = "pool.rs"]
mod pool;

pub(crate) fn names() -> BTreeSet<&'static str> {
    let tables = [aio::NAMES, cluster::NAMES, image::NAMES, mirror::NAMES, owned::NAMES, pool::NAMES];
    tables.concat().into_iter().collect()
}

/// Prepares all calls of the table on the cluster of this configuration.
pub(crate) fn prepare(conf: &str) -> Vec<Call> {
    let context = Arc::new(Context::new(conf));
    let mut calls = Vec::new();
    aio::prepare(&context, &mut calls);
    cluster::prepare(&context, &mut calls);
    image::prepare(&context, &mut calls);
    mirror::prepare(&context, &mut calls);
    owned::prepare(&context, &mut calls);
    pool::prepare(&context, &mut calls);
    // No handle may be dropped before the process ends.
    std::mem::forget(context);
    calls
}
