//! The kinds of images that surveys have shown.

use std::collections::BTreeSet;

use rbd::features::{Flags, OpFeatures};
use rbd::snapshot::SnapshotKind;
use rbd::survey::{Source, SurveyedImage};
use rbd::{Features, IoCtx};

/// Adds the kinds that an image shows.
pub(super) fn note(kinds: &mut BTreeSet<&'static str>, place: &IoCtx, image: &SurveyedImage) {
    let mut is = |kind, seen: bool| {
        if seen {
            kinds.insert(kind);
        }
    };
    is("odd name", !image.name.starts_with("image"));
    is("half removed", image.half_removed);
    is("size 0", image.size == 0 && !image.half_removed);
    is("data pool", image.features.contains(Features::DATA_POOL));
    is("striping", image.features.contains(Features::STRIPING));
    is("journaling", image.features.contains(Features::JOURNALING));
    is("migration under way", image.features.contains(Features::MIGRATING));
    is("no object map", !image.features.contains(Features::OBJECT_MAP));
    is("invalid object map", image.flags.contains(Flags::FAST_DIFF_INVALID));
    is("group", image.group.is_some());
    is("metadata of several answers", image.metadata.len() > 64);
    is("watched", !image.watchers.is_empty());
    let locks = image.locks.as_ref().filter(|locks| !locks.lockers.is_empty());
    is("exclusively locked", locks.is_some_and(|locks| locks.exclusive));
    is("shared lock", locks.is_some_and(|locks| !locks.exclusive));
    is("used space by the OSDs", image.usage_source == Some(Source::Osds));
    is("used space by librbd", image.usage_source == Some(Source::Librbd));
    for snapshot in &image.snapshots {
        is("user snapshot", snapshot.kind == SnapshotKind::User);
        is("group snapshot", snapshot.kind == SnapshotKind::Group);
        is("snapshot in the trash", snapshot.kind == SnapshotKind::Trash);
        is("mirror snapshot", snapshot.kind == SnapshotKind::Mirror);
        is("protected snapshot", snapshot.protected);
    }
    if let Some(parent) = &image.parent {
        let second = image.op_features.contains(OpFeatures::CLONE_CHILD);
        is(if second { "clone v2" } else { "clone v1" }, true);
        is("clone of another pool", parent.image.pool != place.pool());
        is("clone of another namespace", parent.image.namespace != place.namespace());
        is("clone of an image in the trash", parent.image.in_trash);
    }
}

/// Each kind that the generated pools must contain.
pub(super) const KINDS: [&str; 27] = [
    "clone of an image in the trash",
    "clone of another namespace",
    "clone of another pool",
    "clone v1",
    "clone v2",
    "data pool",
    "encrypted",
    "exclusively locked",
    "group",
    "group snapshot",
    "half removed",
    "invalid object map",
    "journaling",
    "metadata of several answers",
    "migration under way",
    "mirror snapshot",
    "no object map",
    "odd name",
    "protected snapshot",
    "shared lock",
    "size 0",
    "snapshot in the trash",
    "striping",
    "used space by librbd",
    "used space by the OSDs",
    "user snapshot",
    "watched",
];
