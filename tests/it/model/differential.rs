//! Differential test: this crate and python3-rbd run the same random script. Afterwards, all
//! visible properties of the two images must be equal.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use rbd::{Features, Image, IoCtx};
use serde::Serialize;
use serde_json::{Value, json};

use super::script::{OBJECT, Op, PATTERN, fold, op};
use crate::support::{Space, unique};

const PROGRAM: &str = include_str!("differential.py");

/// The input of the Python program.
#[derive(Serialize)]
struct Task<'a> {
    conf: &'a str,
    pool: &'a str,
    namespace: &'a str,
    image: &'a str,
    size: u64,
    order: u32,
    features: u64,
    script: &'a [Op],
}

fn by_python(task: &Task<'_>) -> Value {
    // Debian's interpreter: python3-rbd is installed for it, not for another one that may come
    // first in PATH.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-X", "faulthandler", "-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts: install python3-rbd and python3-rados");
    python.stdin.take().unwrap().write_all(&serde_json::to_vec(task).unwrap()).unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the Python program failed ({}); is python3-rbd installed? It said: {said}",
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn by_us(ioctx: &IoCtx, task: &Task<'_>) -> rbd::Result<Value> {
    let features = Features::from_bits_retain(task.features);
    ioctx.create(task.image, task.size).features(features).object_size(1 << task.order).run()?;
    let mut image = ioctx.open(task.image).run()?;
    for op in task.script {
        let size = image.size()?;
        match *op {
            Op::Write { at, len, byte } => {
                let (at, len) = fold(at, len, size);
                image.write_all_at(&vec![byte; len as usize], at)?;
            }
            Op::Discard { at, len } => {
                let (at, len) = fold(at, len, size);
                image.discard(at, len)?;
            }
            Op::WriteZeroes { at, len } => {
                let (at, len) = fold(at, len, size);
                image.write_zeroes(at, len)?;
            }
            Op::WriteSame { at, times, byte } => {
                // Python has no write_same, so the program writes.
                let (at, len) = fold(at, times * PATTERN, size);
                image.write_same(at, len / PATTERN * PATTERN, &[byte; PATTERN as usize])?;
            }
            Op::Resize { size } => image.resize(size).allow_shrink(true).run()?,
            Op::Snapshot => {
                let name = format!("s{}", image.snapshots().list()?.len());
                image.snapshots().create(&name).run()?;
            }
            Op::Rollback { which } => {
                let snapshots = image.snapshots().list()?;
                if !snapshots.is_empty() {
                    image.snapshots().rollback(&snapshots[which % snapshots.len()].name).run()?;
                }
            }
            Op::Reopen => {
                image.close()?;
                image = ioctx.open(task.image).run()?;
            }
            Op::CompareAndWrite { .. }
            | Op::Clone
            | Op::Flatten
            | Op::RemoveSnapshot { .. }
            | Op::RebuildMap => {}
        }
    }
    image.flush()?;
    look(&image)
}

/// Returns all properties that both sides can read.
fn look(image: &Image) -> rbd::Result<Value> {
    let stat = image.stat()?;
    let mut content = vec![0; stat.size as usize];
    image.read_exact_at(&mut content, 0)?;
    let snapshots: Vec<Value> = image
        .snapshots()
        .list()?
        .iter()
        .map(|snapshot| json!({ "name": snapshot.name, "size": snapshot.size }))
        .collect();
    let mut diffs = BTreeMap::new();
    let extents = |diff: rbd::diff::Diff<'_>| -> rbd::Result<Vec<(u64, u64, bool)>> {
        Ok(diff.collect()?.iter().map(|extent| (extent.offset, extent.len, extent.exists)).collect())
    };
    diffs.insert("".to_owned(), extents(image.diff())?);
    for snapshot in image.snapshots().list()? {
        diffs.insert(snapshot.name.clone(), extents(image.diff().from_snapshot(snapshot.name.as_str()))?);
    }
    Ok(json!({
        "size": stat.size,
        "objects": stat.objects,
        "object_size": stat.object_size,
        "features": image.features()?.bits(),
        "flags": image.flags()?.bits(),
        "snapshots": snapshots,
        "diffs": diffs,
        "content": content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }),
    }))
}

#[test]
fn python_and_we_make_the_same_image() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/differential_regressions.txt");
    let mut runner = TestRunner::new(Config {
        cases: 5,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_time: 120_000,
        ..Config::default()
    });
    let space = Space::new();
    let conf = rbd_testcluster::shared().conf().to_str().unwrap();
    let features = prop_oneof![
        Just(Features::LAYERING),
        Just(Features::DEFAULT),
        Just(Features::DEFAULT | Features::JOURNALING)
    ];
    let script = (0..=super::script::MOST, features, prop::collection::vec(op(), 1..=60));
    let result = runner.run(&script, |(size, features, script)| {
        let (ours, theirs) = (unique("ours"), unique("theirs"));
        let task = |image| Task {
            conf,
            pool: "rbd",
            namespace: space.namespace(),
            image,
            size,
            order: OBJECT.trailing_zeros(),
            features: features.bits(),
            script: &script,
        };
        let we = by_us(&space, &task(&ours)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let they = by_python(&task(&theirs));
        for name in [&ours, &theirs] {
            let image = space.open(name).run().unwrap();
            for snapshot in image.snapshots().list().unwrap() {
                image.snapshots().remove_by_id(snapshot.id).unwrap();
            }
            image.close().unwrap();
            space.remove(name).run().unwrap();
        }
        prop_assert_eq!(we, they);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
