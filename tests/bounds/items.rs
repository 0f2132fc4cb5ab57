//! The check that the table has all calls.

use std::collections::BTreeSet;

/// Prefixes of the paths that make no call to the cluster.
const LOCAL: &[&str] = &[
    // The kernel and the files of this machine.
    "krbd::",
    "volume::",
    // Arithmetic.
    "features::",
    // Builders, parsers and conversions.
    "mirror::BootstrapToken::",
    "aio::Op::timeout",
    "aio::Opening::timeout",
    "aio::Closing::timeout",
    "aio::AsyncCursor::",
    "image::Image::aio",
    // They run the user's closure, whose calls each have a timeout.
    "batch::Batch::run",
    "unblock",
    "cluster::Cluster::unblock",
    "image::Image::unblock",
    "ioctx::IoCtx::unblock",
    // They do not block.
    "survey::Survey::start",
    "survey::SurveyedStream::",
    // Submitting to a queue does not block.
    "queue::Queue::compare_and_write",
    "queue::Queue::discard",
    "queue::Queue::flush",
    "queue::Queue::read",
    "queue::Queue::write",
];

/// Methods of traits that never wait.
const TRAITS: &[&str] = &["fmt", "from", "from_str", "poll", "source", "eq", "partial_cmp", "cmp"];

/// Returns the paths of the public functions that may call the cluster: those that return a result
/// or a future.
fn fallible() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in include_str!("../../rbd/api.txt").lines() {
        let Some((_, function)) = line.split_once(" fn rbd::") else { continue };
        let Some((head, _)) = function.split_once('(') else { continue };
        let returned = function.rsplit_once(") -> ").map_or("", |(_, returned)| returned);
        if !returned.contains("Result<") && !returned.contains("rbd::aio::") {
            continue;
        }
        let mut depth = 0;
        let path: String = head
            .chars()
            .filter(|c| {
                depth += i32::from(*c == '<');
                let outside = depth == 0;
                depth -= i32::from(*c == '>');
                outside
            })
            .collect();
        let name = path.rsplit("::").next().unwrap_or_default();
        if TRAITS.contains(&name) || LOCAL.iter().any(|local| path.starts_with(local)) {
            continue;
        }
        found.insert(path);
    }
    found
}

/// Fails if the table lacks a public call, or contains one that does not exist.
pub(crate) fn check(table: &BTreeSet<&str>) {
    let fallible = fallible();
    let missing: Vec<_> = fallible.iter().filter(|path| !table.contains(path.as_str())).collect();
    // The list has no lines for drops.
    let unknown: Vec<_> =
        table.iter().filter(|name| !name.starts_with("drop ") && !fallible.contains(**name)).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "add to tests/bounds/calls.rs or to the local ones: {missing:#?}\nnot in rbd/api.txt: {unknown:#?}"
    );
}
