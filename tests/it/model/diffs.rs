//! Property test: a diff between any two versions of an image covers every byte that differs,
//! whatever happened in between.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};
use rbd::{Cluster, Features, Image, diff::Extent};

use super::script::{OBJECT, Op, op_for_diffs};
use super::{OPS_PER_SCRIPT, Run, Shape, clear, connect, number, script_size};
use crate::support::unique;

/// Runs scripts on images of a shape, and checks all diffs after each.
fn check(cluster: &Cluster, shape: Shape) {
    let scripts = number("RBD_MODEL_OPS").map_or(6, |ops| ops.div_ceil(OPS_PER_SCRIPT as u64)) as u32;
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/diff_regressions.txt");
    let mut runner = TestRunner::new(Config {
        cases: scripts,
        rng_seed: number("RBD_MODEL_SEED").map_or(RngSeed::Random, RngSeed::Fixed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_time: 120_000,
        ..Config::default()
    });
    let pool = cluster.ioctx("rbd").unwrap();
    let script = (script_size(), prop::collection::vec(op_for_diffs(), 1..=OPS_PER_SCRIPT));
    let result = runner.run(&script, |(size, script)| {
        let namespace = unique("diffs");
        pool.namespaces().create(&namespace).unwrap();
        let ioctx = pool.with_namespace(&namespace).unwrap();
        let outcome = Run::start(&ioctx, size, shape).and_then(|mut run| {
            run.script(&script)?;
            all_diffs(&run)?;
            deep_copy(&run)
        });
        clear(&ioctx);
        pool.namespaces().remove(&namespace).unwrap();
        outcome
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Checks diffs from nothing and from each snapshot to each later snapshot and to the image.
fn all_diffs(run: &Run<'_>) -> Result<(), TestCaseError> {
    let snapshots = &run.model.snapshots;
    for (at, (name, data)) in snapshots.iter().enumerate() {
        let image = run.image().at_snapshot(name).unwrap();
        diffs_to(run, &image, data, at)?;
    }
    diffs_to(run, run.image(), &run.model.data, snapshots.len())
}

/// Checks that a deep copy, which librbd makes from diffs, is equal at all versions.
fn deep_copy(run: &Run<'_>) -> Result<(), TestCaseError> {
    let failed = |error: rbd::Error| TestCaseError::fail(format!("deep copy: {error}"));
    // Its name is longer than that of a clone: see `clear`.
    run.image().deep_copy_to(run.ioctx, "a-deep-copy").flatten(true).run().map_err(failed)?;
    let copy = run.ioctx.open("a-deep-copy").run().map_err(failed)?;
    run.compare(&copy, &run.model.data, &Op::Snapshot)?;
    for (name, data) in &run.model.snapshots {
        run.compare(&copy.at_snapshot(name).map_err(failed)?, data, &Op::Snapshot)?;
    }
    Ok(())
}

/// Checks the diffs from all older versions to one version.
///
/// Each pair of versions is compared as a whole and in a part, the one by [`Diff::collect`] and the
/// other by [`Diff::extents`]. The next pairs take the other part and swap the two calls, which ask
/// librbd for the same.
///
/// [`Diff::collect`]: rbd::diff::Diff::collect
/// [`Diff::extents`]: rbd::diff::Diff::extents
fn diffs_to(run: &Run<'_>, image: &Image, data: &[u8], older: usize) -> Result<(), TestCaseError> {
    let size = data.len() as u64;
    let parts = [(size / 3, size / 2), (OBJECT + 1, OBJECT)];
    let all_older = [None].into_iter().chain(run.model.snapshots[..older].iter().map(Some));
    for (from, turn) in all_older.zip(older..) {
        let ranges = [((0, u64::MAX), turn / 2 % 2 == 0), (parts[turn % 2], turn / 2 % 2 != 0)];
        for whole in [false, true] {
            for ((offset, len), collect) in ranges {
                let mut diff = image.diff().whole_objects(whole).range(offset, len);
                if let Some((name, _)) = from {
                    diff = diff.from_snapshot(name);
                }
                let before = from.map_or(&[][..], |(_, data)| data);
                let range = offset.min(size)..offset.saturating_add(len).min(size);
                let extents =
                    if collect { diff.collect() } else { diff.extents().and_then(Iterator::collect) };
                let covered = extents.map_err(|error| error.to_string());
                covered.and_then(|extents| covers(&extents, before, data, range.clone())).map_err(|why| {
                    TestCaseError::fail(format!(
                        "{why}; from {:?} to {:?}, range {range:?}, whole objects: {whole}, {:?}",
                        from.map(|(name, _)| name),
                        image.snapshot(),
                        diff.fast_diff(),
                    ))
                })?;
            }
        }
    }
    Ok(())
}

/// Checks that every byte that differs is in an extent, and that extents without data read as
/// zeros.
fn covers(extents: &[Extent], before: &[u8], now: &[u8], range: std::ops::Range<u64>) -> Result<(), String> {
    // Whole slices are compared, because the tests compare gigabytes and are not optimized.
    let mut known = vec![0; now.len()];
    let common = before.len().min(now.len());
    known[..common].copy_from_slice(&before[..common]);
    for extent in extents {
        if extent.offset < range.start || extent.end() > range.end {
            return Err(format!("{extent:?} lies outside of the range"));
        }
        let place = extent.offset as usize..extent.end() as usize;
        if !extent.exists && now[place.clone()] != vec![0; place.len()] {
            return Err(format!("{extent:?} holds data"));
        }
        known[place.clone()].copy_from_slice(&now[place]);
    }
    let range = range.start as usize..range.end as usize;
    if known[range.clone()] != now[range.clone()] {
        let missed = range.clone().find(|&at| known[at] != now[at]);
        return Err(format!("the change at {missed:?} is missed by {extents:?}"));
    }
    Ok(())
}

fn shared() -> Cluster {
    connect(Path::new(rbd_testcluster::shared().conf()))
}

#[test]
fn with_layering_alone() {
    check(&shared(), Shape { features: Features::LAYERING, striping: None, data_pool: None });
}

#[test]
fn with_the_default_features() {
    check(&shared(), Shape { features: Features::DEFAULT, striping: None, data_pool: None });
}

#[test]
fn with_journaling_and_striping() {
    let features = Features::DEFAULT | Features::JOURNALING;
    check(&shared(), Shape { features, striping: Some((1024, 3)), data_pool: None });
}
