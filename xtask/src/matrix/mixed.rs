//! Old and new mixed: clients of one release on a cluster of another.

use anyhow::{Context, Result, bail};

use super::binaries::Binary;
use super::root::{Release, Root};
use super::served::Served;
use super::{Counts, say};
use crate::cmd;
use crate::scratch::Scratch;

/// What both releases take part in. `tests/it/mixed.rs` has two clients; the others one, of another
/// release than the daemons.
const TESTS: &[&str] = &[
    "mixed::",
    "images::",
    "io::",
    "snapshots::",
    "clones::",
    "groups::",
    "locks::",
    "diff::",
    "trash::",
    "--skip",
    "aio::",
    "--skip",
    "krbd::",
    "--skip",
    "cli::",
];

/// The oldest and the newest, both ways round.
pub(crate) const RELEASES: [Release; 2] = [Release::Pacific, Release::Tentacle];

/// Runs the short suite with clients of `client` on a cluster of `cluster`.
pub(crate) fn run(client: &Root, cluster: &Root, binaries: &[Binary], counts: &Counts) -> Result<()> {
    suite(client, cluster, binaries, counts, &[], TESTS)
}

/// A client that is too old for the keys of the newest cluster is told so.
pub(crate) fn run_with_newer_keys(
    client: &Root,
    cluster: &Root,
    binaries: &[Binary],
    counts: &Counts,
) -> Result<()> {
    let tests = ["cluster::a_key_of_a_newer_type_is_explained_and_never_shown"];
    suite(client, cluster, binaries, counts, &["--key-type", "aes256k"], &tests)
}

fn suite(
    client: &Root,
    cluster: &Root,
    binaries: &[Binary],
    counts: &Counts,
    wanted: &[&str],
    tests: &[&str],
) -> Result<()> {
    let column = format!("{}@{}", client.release.number(), cluster.release.number());
    let scratch = Scratch::new("rbd-mixed")?;
    let served = Served::start(cluster, &scratch, binaries, wanted)?;
    let it = binaries
        .iter()
        .find(|binary| binary.is_integration())
        .context("the integration tests are not built")?;
    say(counts, &column, &format!("Running {}", it.title));
    let mut command = client.command(&scratch);
    command.arg(format!("RBD_TEST_CONF={}", served.conf().display()));
    command.arg(format!("RBD_TEST_PEER={}", served.socket().display()));
    command.arg(&it.path).args(tests);
    let status = cmd::lines(&mut command, |line| say(counts, &column, line))?;
    if !status.success() {
        bail!("{column}: {status}");
    }
    Ok(())
}
