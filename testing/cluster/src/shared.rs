//! One cluster for all tests of a process, or of a whole test run.

use std::sync::OnceLock;

use crate::{Access, TestCluster};

/// The variable that names the configuration file of a cluster which is to be used instead of an
/// own one.
pub const SHARED_CONF: &str = "RBD_TEST_CONF";

/// A cluster that all tests of this process share.
///
/// It is the one whose configuration file the variable `RBD_TEST_CONF` names, such as a test runner
/// sets it; otherwise a cluster with the default settings that the first call starts (in about 5 s)
/// and that ends with the process.
///
/// # Panics
/// If it cannot be started: no test that needs it can pass then.
pub fn shared() -> &'static Access {
    // A static is never dropped; the cluster dies with its owner.
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var_os(SHARED_CONF) {
        Some(conf) if !conf.is_empty() => Shared::Given(Access::new(conf)),
        _ => match TestCluster::builder().start() {
            Ok(cluster) => Shared::Own(Box::new(cluster)),
            Err(error) => panic!("the test cluster did not start: {error}"),
        },
    });
    match shared {
        Shared::Given(access) => access,
        Shared::Own(cluster) => cluster,
    }
}

enum Shared {
    Given(Access),
    Own(Box<TestCluster>),
}
