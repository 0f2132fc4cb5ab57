//! One cluster for all tests of a process, or of a whole test run.

use std::sync::OnceLock;

use crate::{Access, TestCluster};

/// The variable that names the configuration file of the cluster to use instead of a new one.
pub const SHARED_CONF: &str = "RBD_TEST_CONF";

/// Returns the cluster that all tests of this process share.
///
/// If the variable `RBD_TEST_CONF` names a configuration file, as a test runner may do, it is that
/// cluster. Otherwise the first call starts a cluster with the default settings (in about 5 s),
/// which ends with the process.
///
/// # Panics
/// Panics if the cluster cannot be started, because no test that needs it could pass.
pub fn shared() -> &'static Access {
    // A static is never dropped, but the cluster ends with its process.
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
