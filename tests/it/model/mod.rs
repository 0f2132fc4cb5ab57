//! Model test: random scripts run on a real image and on bytes in memory. Both must agree at every
//! step.
//!
//! All failures found so far are in `regressions.txt` and run first. A long run:
//! `RBD_MODEL_OPS=1000000 RBD_MODEL_SEED=7 cargo test --test it model -- --nocapture`.

mod differential;
mod diffs;
mod script;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestRunner};
use rbd::{
    Cluster, Features, Image, IoCtx,
    image::{CloneFormat, Compare},
};
use rbd_testcluster::{ObjectStore, TestCluster};

use self::script::{OBJECT, Op, PATTERN, fold, op};
use crate::support::unique;

const OPS_PER_SCRIPT: usize = 40;

/// The expected content of an image.
#[derive(Default)]
struct Model {
    data: Vec<u8>,
    snapshots: Vec<(String, Vec<u8>)>,
    /// How many snapshots were created so far. Names are not reused.
    made: usize,
    is_clone: bool,
}

/// The shape of the images of a run.
#[derive(Clone, Copy)]
struct Shape {
    features: Features,
    striping: Option<(u64, u64)>,
    data_pool: Option<&'static str>,
}

/// The images of one script. They are removed when it has ended.
struct Run<'a> {
    ioctx: &'a IoCtx,
    name: String,
    image: Option<Image>,
    model: Model,
}

/// Connects with exact discards, so that the model knows the remaining data.
fn connect(conf: &std::path::Path) -> Cluster {
    let builder = Cluster::builder().ignore_environment(true).conf_file(conf);
    builder.option("rbd_skip_partial_discard", "false").connect().unwrap()
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

/// Runs scripts on images of a shape, each in a separate namespace.
fn check(cluster: &Cluster, shape: Shape) {
    let scripts = number("RBD_MODEL_OPS").map_or(6, |ops| ops.div_ceil(OPS_PER_SCRIPT as u64)) as u32;
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/model/regressions.txt");
    let mut runner = TestRunner::new(Config {
        cases: scripts,
        rng_seed: number("RBD_MODEL_SEED").map_or(RngSeed::Random, RngSeed::Fixed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_time: 120_000,
        ..Config::default()
    });
    let pool = cluster.ioctx("rbd").unwrap();
    let script = (script_size(), prop::collection::vec(op(), 1..=2 * OPS_PER_SCRIPT));
    let result = runner.run(&script, |(size, script)| {
        let namespace = unique("model");
        pool.namespaces().create(&namespace).unwrap();
        let ioctx = pool.with_namespace(&namespace).unwrap();
        let outcome = Run::start(&ioctx, size, shape).and_then(|mut run| run.script(&script));
        clear(&ioctx);
        pool.namespaces().remove(&namespace).unwrap();
        outcome
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn script_size() -> impl Strategy<Value = u64> {
    0..=script::MOST
}

/// Removes the newest image first, because clones depend on their parents.
fn clear(ioctx: &IoCtx) {
    let mut images = ioctx.list().unwrap();
    images.sort_by_key(|image| std::cmp::Reverse(image.name.len()));
    for entry in images {
        let image = ioctx.open(&entry.name).run().unwrap();
        for snapshot in image.snapshots().list().unwrap() {
            image.snapshots().remove_by_id(snapshot.id).unwrap();
        }
        image.close().unwrap();
        ioctx.remove(&entry.name).run().unwrap();
    }
}

impl<'a> Run<'a> {
    fn start(ioctx: &'a IoCtx, size: u64, shape: Shape) -> Result<Run<'a>, TestCaseError> {
        let name = "i".to_owned();
        let mut create = ioctx.create(&name, size).features(shape.features).object_size(OBJECT);
        if let Some((unit, count)) = shape.striping {
            create = create.striping(unit, count);
        }
        if let Some(pool) = shape.data_pool {
            create = create.data_pool(pool);
        }
        create.run().unwrap();
        let image = Some(ioctx.open(&name).run().unwrap());
        Ok(Run { ioctx, name, image, model: Model { data: vec![0; size as usize], ..Model::default() } })
    }

    fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    fn script(&mut self, script: &[Op]) -> Result<(), TestCaseError> {
        for op in script {
            self.step(op).map_err(|error| TestCaseError::fail(format!("{op:?}: {error}")))?;
            self.compare(self.image(), &self.model.data, op)?;
        }
        for (name, data) in &self.model.snapshots {
            let image = self.ioctx.open(&self.name).snapshot(name).run().unwrap();
            self.compare(&image, data, &format_args!("all, in snapshot {name}"))?;
        }
        Ok(())
    }

    fn compare(
        &self,
        image: &Image,
        expected: &[u8],
        after: &dyn std::fmt::Debug,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(image.size().unwrap(), expected.len() as u64, "size after {:?}", after);
        let mut found = vec![0xee; expected.len()];
        image.read_exact_at(&mut found, 0).unwrap();
        let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
        prop_assert_eq!(differs, None, "first offset that differs after {:?}", after);
        Ok(())
    }

    fn step(&mut self, op: &Op) -> rbd::Result<()> {
        let size = self.model.data.len() as u64;
        let range = |at, len| {
            let (at, len) = fold(at, len, size);
            (at, len, at as usize..(at + len) as usize)
        };
        match *op {
            Op::Write { at, len, byte } => {
                let (at, len, place) = range(at, len);
                self.image().write_all_at(&vec![byte; len as usize], at)?;
                self.model.data[place].fill(byte);
            }
            Op::Discard { at, len } => {
                let (at, len, place) = range(at, len);
                self.image().discard(at, len)?;
                self.model.data[place].fill(0);
            }
            Op::WriteZeroes { at, len } => {
                let (at, len, place) = range(at, len);
                self.image().write_zeroes(at, len)?;
                self.model.data[place].fill(0);
            }
            Op::WriteSame { at, times, byte } => {
                let (at, len, _) = range(at, times * PATTERN);
                let len = len / PATTERN * PATTERN;
                self.image().write_same(at, len, &[byte; PATTERN as usize])?;
                self.model.data[at as usize..(at + len) as usize].fill(byte);
            }
            Op::CompareAndWrite { at, len, byte, right } => self.compare_and_write(at, len, byte, right)?,
            Op::Resize { size } => {
                self.image().resize(size).allow_shrink(true).run()?;
                self.model.data.resize(size as usize, 0);
            }
            Op::Snapshot => self.snapshot()?,
            Op::Rollback { which } => {
                if let Some((name, data)) =
                    self.model.snapshots.get(which % self.model.snapshots.len().max(1))
                {
                    self.image().snapshots().rollback(name).run()?;
                    self.model.data = data.clone();
                }
            }
            Op::Clone => self.clone_on()?,
            Op::Flatten => {
                // A clone that was shrunk to zero has lost its parent.
                let has_parent = self.image().parent()?.is_some();
                assert!(self.model.is_clone || !has_parent);
                assert_eq!(self.image().flatten().run().is_ok(), has_parent, "only clones can be flattened");
            }
            Op::RemoveSnapshot { which } => {
                // If a clone needs it, it stays in the image's trash.
                if !self.model.snapshots.is_empty() {
                    let which = which % self.model.snapshots.len();
                    let (name, _) = self.model.snapshots.remove(which);
                    self.image().snapshots().remove(&name).run()?;
                }
            }
            Op::RebuildMap => {
                if self.image().features()?.contains(Features::OBJECT_MAP) {
                    self.image().object_map().rebuild().run()?;
                }
            }
            Op::Reopen => {
                self.image.take().unwrap().close()?;
                self.image = Some(self.ioctx.open(&self.name).run()?);
            }
        }
        Ok(())
    }

    /// Compares and writes within one sector, as librbd 1.16 demands. The model knows where the
    /// data must differ.
    fn compare_and_write(&mut self, at: u64, len: u64, byte: u8, right: bool) -> rbd::Result<()> {
        let (at, len) = fold(at, len, self.model.data.len() as u64);
        let len = len.min(512 - at % 512);
        let place = at as usize..(at + len) as usize;
        let mut expected = self.model.data[place.clone()].to_vec();
        let wrong = expected.len() / 2;
        if let (false, Some(byte)) = (right, expected.get_mut(wrong)) {
            *byte ^= 0xff;
        }
        let found = self.image().compare_and_write(at, &expected, &vec![byte; len as usize])?;
        if right || len == 0 {
            assert_eq!(found, Compare::Written);
            self.model.data[place].fill(byte);
        } else {
            assert_eq!(found, Compare::Differs(at + wrong as u64));
        }
        Ok(())
    }

    fn snapshot(&mut self) -> rbd::Result<()> {
        let name = format!("s{}", self.model.made);
        self.model.made += 1;
        self.image().snapshots().create(&name).run()?;
        self.model.snapshots.push((name, self.model.data.clone()));
        Ok(())
    }

    fn clone_on(&mut self) -> rbd::Result<()> {
        // Longer names are newer: see `clear`. OSDs refuse a clone of an empty image.
        if self.name.len() > 4 || self.model.data.is_empty() {
            return Ok(());
        }
        self.snapshot()?;
        let child = format!("{}c", self.name);
        let (snapshot, _) = self.model.snapshots.last().unwrap();
        self.ioctx.clone_image(&self.name, snapshot.as_str(), &child).format(CloneFormat::V2).run()?;
        self.image.take().unwrap().close()?;
        self.image = Some(self.ioctx.open(&child).run()?);
        self.name = child;
        self.model.is_clone = true;
        self.model.snapshots.clear();
        Ok(())
    }
}

fn shared() -> Cluster {
    connect(rbd_testcluster::shared().conf())
}

#[test]
fn layering_alone() {
    check(&shared(), Shape { features: Features::LAYERING, striping: None, data_pool: None });
}

#[test]
fn the_default_features() {
    check(&shared(), Shape { features: Features::DEFAULT, striping: None, data_pool: None });
}

#[test]
fn everything_with_journaling_and_striping() {
    let features = Features::DEFAULT | Features::JOURNALING;
    check(&shared(), Shape { features, striping: Some((1024, 3)), data_pool: None });
}

#[test]
fn data_in_an_erasure_coded_pool() {
    // Erasure-coded pools with overwrites need BlueStore and one OSD for each part.
    let daemons =
        TestCluster::builder().osds(3).object_store(ObjectStore::Bluestore).mgr(false).start().unwrap();
    let cluster = connect(daemons.conf());
    let send = |command: &str| cluster.mon_command(command, &[]).unwrap();
    send(
        r#"{"prefix": "osd erasure-code-profile set", "name": "parts", "profile": ["k=2", "m=1", "crush-failure-domain=osd"]}"#,
    );
    send(
        r#"{"prefix": "osd pool create", "pool": "ec", "pg_num": 8, "pool_type": "erasure", "erasure_code_profile": "parts"}"#,
    );
    send(r#"{"prefix": "osd pool set", "pool": "ec", "var": "allow_ec_overwrites", "val": "true"}"#);
    send(r#"{"prefix": "osd pool application enable", "pool": "ec", "app": "rbd"}"#);
    check(&cluster, Shape { features: Features::DEFAULT, striping: None, data_pool: Some("ec") });
}

#[test]
fn the_model_catches_a_wrong_image() {
    // A test of the check itself: it must find a byte that another client changed.
    let space = crate::support::Space::on(&shared());
    let shape = Shape { features: Features::LAYERING, striping: None, data_pool: None };
    let mut run = Run::start(&space, 10_000, shape).unwrap();
    run.script(&[Op::Write { at: 0, len: 5000, byte: 1 }]).unwrap();
    run.model.data[4999] ^= 1;
    let found = run.script(&[Op::Reopen]).unwrap_err().to_string();
    assert!(found.contains("first offset that differs") && found.contains("4999"), "{found}");
}
