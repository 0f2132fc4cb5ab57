//! A test that runs in a separate process: its crash or its hang does not affect other tests.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::program::output_within;

/// The longest time of a child. One that takes longer hangs. With the sanitizer, and on a busy
/// machine, each takes several times as long.
const LIMIT: Duration = Duration::from_secs(if cfg!(sanitizer_canary) { 900 } else { 300 });

/// The variable that names the test that a child runs.
const CHILD: &str = "RBD_TEST_CHILD";

/// Runs the test of this name in a separate process. Returns true there, and false here after the
/// test has passed.
pub(crate) fn alone(test: &str) -> bool {
    is_child(test) || alone_on(rbd_testcluster::shared().conf(), test)
}

/// As [`alone`], but the shared cluster of the separate process is another one.
pub(crate) fn alone_on(cluster: &Path, test: &str) -> bool {
    if is_child(test) {
        return true;
    }
    let output = run_child(test, &[(rbd_testcluster::SHARED_CONF, cluster.to_str().unwrap())]);
    let passed = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && passed, "{test}: {}\n{}", output.status, said(&output));
    false
}

/// Returns whether this process runs only the test of this name.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var_os(CHILD).is_some_and(|child| child == test)
}

/// Runs the test of this name in a separate process, and returns its output. It is killed if it
/// hangs.
pub(crate) fn run_child(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, test);
    // Backtraces are long, and only the end of what the child prints is shown.
    command.env("RUST_BACKTRACE", "0");
    command.env(rbd_testcluster::SHARED_CONF, rbd_testcluster::shared().conf());
    command.envs(variables.iter().copied());
    output_within(LIMIT, &mut command)
}

/// Returns the end of what a child has printed.
pub(crate) fn said(output: &Output) -> String {
    let end = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let skip = text.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
        text[skip..].to_owned()
    };
    format!("{}\n{}", end(&output.stdout), end(&output.stderr))
}
