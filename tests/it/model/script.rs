//! Random scripts of operations on one image.
//!
//! The runner folds the numbers of a script into the range of the image. So every script is valid
//! for every size, and proptest can shrink it.

use proptest::prelude::*;
use serde::Serialize;

/// The largest size of an image, in bytes: many objects of 4 KiB, but quick to read.
pub(crate) const MOST: u64 = 96 << 10;
pub(crate) const OBJECT: u64 = 4 << 10;

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    Write {
        at: u64,
        len: u64,
        byte: u8,
    },
    Discard {
        at: u64,
        len: u64,
    },
    WriteZeroes {
        at: u64,
        len: u64,
    },
    WriteSame {
        at: u64,
        times: u64,
        byte: u8,
    },
    /// Expects the current data or other data.
    CompareAndWrite {
        at: u64,
        len: u64,
        byte: u8,
        right: bool,
    },
    Resize {
        size: u64,
    },
    Snapshot,
    /// The number of the snapshot, modulo how many there are.
    Rollback {
        which: usize,
    },
    /// Continues with a clone of a new snapshot.
    Clone,
    Flatten,
    /// The number of the snapshot, modulo how many there are.
    RemoveSnapshot {
        which: usize,
    },
    RebuildMap,
    /// Closes the image and opens it again.
    Reopen,
}

/// Returns a size in bytes, often at the edge of an object.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![(0..=MOST / OBJECT).prop_map(|objects| objects * OBJECT), 0..=MOST]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let place = || (size(), prop_oneof![1..=64_u64, 1..=3 * OBJECT]);
    prop_oneof![
        6 => (place(), 1..=255_u8).prop_map(|((at, len), byte)| Op::Write { at, len, byte }),
        3 => place().prop_map(|(at, len)| Op::Discard { at, len }),
        2 => place().prop_map(|(at, len)| Op::WriteZeroes { at, len }),
        1 => (size(), 1..=16_u64, 1..=255_u8).prop_map(|(at, times, byte)| Op::WriteSame { at, times, byte }),
        2 => (size(), 1..=512_u64, 1..=255_u8, any::<bool>())
            .prop_map(|(at, len, byte, right)| Op::CompareAndWrite { at, len, byte, right }),
        2 => size().prop_map(|size| Op::Resize { size }),
        2 => Just(Op::Snapshot),
        1 => any::<usize>().prop_map(|which| Op::Rollback { which }),
        1 => Just(Op::Clone),
        1 => Just(Op::Flatten),
        1 => any::<usize>().prop_map(|which| Op::RemoveSnapshot { which }),
        1 => Just(Op::RebuildMap),
        1 => Just(Op::Reopen),
    ]
}

/// Like [`op`], with many snapshots and other operations that make diffs difficult.
pub(crate) fn op_for_diffs() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => op(),
        2 => (size(), 1..=3 * OBJECT, 1..=255_u8).prop_map(|(at, len, byte)| Op::Write { at, len, byte }),
        3 => Just(Op::Snapshot),
        2 => size().prop_map(|size| Op::Resize { size }),
        1 => any::<usize>().prop_map(|which| Op::Rollback { which }),
    ]
}

/// The length of a pattern. In places, librbd needs multiples of 512.
pub(crate) const PATTERN: u64 = 512;

/// Folds a range so that it lies within an image.
pub(crate) fn fold(at: u64, len: u64, size: u64) -> (u64, u64) {
    let at = if size == 0 { 0 } else { at % size };
    (at, len.min(size - at))
}
