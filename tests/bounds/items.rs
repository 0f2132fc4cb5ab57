//! The check that no call was forgotten.

use std::collections::BTreeSet;

/// What is no call to the cluster, by the beginning of its path.
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
    // They run the user's closure, whose calls are bounded each.
    "unblock",
    "cluster::Cluster::unblock",
    "image::Image::unblock",
    "ioctx::IoCtx::unblock",
    // They block nothing.
    "survey::Survey::start",
    "survey::SurveyedStream::",
    // Submitting to a queue waits for nobody.
    "queue::Queue::compare_and_write",
    "queue::Queue::discard",
    "queue::Queue::flush",
    "queue::Queue::read",
    "queue::Queue::write",
];

/// Methods of traits that never wait.
const TRAITS: &[&str] = &["fmt", "from", "from_str", "poll", "source", "eq", "partial_cmp", "cmp"];

/// The paths in the list of all public items of the functions that may talk to the cluster: those
/// that return a result or a future.
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

/// Fails where the table misses a public call, or has one that is none.
pub(crate) fn check(table: &BTreeSet<&str>) {
    let fallible = fallible();
    let missing: Vec<_> = fallible.iter().filter(|path| !table.contains(path.as_str())).collect();
    // A drop has no line of its own in the list.
    let unknown: Vec<_> =
        table.iter().filter(|name| !name.starts_with("drop ") && !fallible.contains(**name)).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "add to tests/bounds/calls.rs or to the local ones: {missing:#?}\nnot in rbd/api.txt: {unknown:#?}"
    );
}
