//! `cargo bench --bench many`: lists, used space and open handles of many images, on an embedded
//! cluster or on that of `CEPH_CONF` (a new namespace of its pool `rbd`).
//!
//! A name is `many/ls-l/500` or `many/open/500/read-only/10-at-a-time`; a regular expression after
//! `--` selects. The bench `survey` compares with the `rbd` command.

#![allow(missing_docs, clippy::pedantic)]

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use rbd::{Cluster, IoCtx};

const IMAGES: usize = 500;

/// A namespace with images, every second one with a snapshot.
struct Rig {
    pool: IoCtx,
    names: Vec<String>,
}

impl Rig {
    fn new() -> Rig {
        let conf = match std::env::var_os("CEPH_CONF") {
            Some(conf) => PathBuf::from(conf),
            None => rbd_testcluster::shared().conf().to_owned(),
        };
        let cluster = Cluster::builder().ignore_environment(true).conf_file(&conf).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap();
        let namespace = format!("bench-many-{}", std::process::id());
        pool.namespaces().create(&namespace).unwrap();
        let pool = pool.with_namespace(&namespace).unwrap();
        let names: Vec<_> = (0..IMAGES).map(|number| format!("image{number:04}")).collect();
        let made = pool.batch(&names).run(|pool, name| {
            pool.create(name, 1 << 30).run()?;
            let image = pool.open(name).run()?;
            image.write_all_at(b"first", 0)?;
            if name.ends_with(['0', '2', '4', '6', '8']) {
                image.snapshots().create("monday").run()?;
                image.write_all_at(b"second", 512 << 20)?;
            }
            image.close()
        });
        assert!(made.unwrap().is_complete());
        Rig { pool, names }
    }

    fn ls(&self) {
        let survey = self.pool.survey().snapshots(true).parent(true).locks(true);
        assert_eq!(survey.run().unwrap().filter(|image| image.is_ok()).count(), IMAGES);
    }

    fn du(&self) {
        let used = self.pool.survey().usage(true).run().unwrap().map(|image| image.unwrap().used.unwrap());
        assert!(used.sum::<u64>() > 0);
    }

    /// Opens all images and returns the time. Closing them does not count.
    fn open(&self, at_a_time: usize, read_only: bool) -> Duration {
        let begun = Instant::now();
        let open = |pool: &IoCtx, name: &str| pool.open(name).read_only(read_only).run();
        let report = self.pool.batch(&self.names).max_in_flight(at_a_time).run(open).unwrap();
        let took = begun.elapsed();
        assert!(report.is_complete());
        took
    }

    /// Removes what was created.
    fn end(self) {
        let snapshots = |pool: &IoCtx, name: &str| {
            let image = pool.open(name).run()?;
            for snapshot in image.snapshots().list()? {
                image.snapshots().remove(&snapshot.name).run()?;
            }
            image.close()?;
            pool.remove(name).run()
        };
        assert!(self.pool.batch(&self.names).run(snapshots).unwrap().is_complete());
        let namespaces = self.pool.with_namespace("").unwrap();
        namespaces.namespaces().remove(self.pool.namespace()).unwrap();
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    // Nothing is started for names that are not selected.
    let rig = OnceCell::new();
    let mut group = criterion.benchmark_group("many");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(IMAGES as u64));
    group.bench_function(format!("ls-l/{IMAGES}"), |bencher| {
        let rig = rig.get_or_init(Rig::new);
        bencher.iter(|| rig.ls());
    });
    group.bench_function(format!("du/{IMAGES}"), |bencher| {
        let rig = rig.get_or_init(Rig::new);
        bencher.iter(|| rig.du());
    });
    for (at_a_time, read_only) in [(1, true), (10, true), (32, true), (10, false)] {
        let kind = if read_only { "read-only" } else { "writing" };
        group.bench_function(format!("open/{IMAGES}/{kind}/{at_a_time}-at-a-time"), |bencher| {
            let rig = rig.get_or_init(Rig::new);
            bencher.iter_custom(|count| (0..count).map(|_| rig.open(at_a_time, read_only)).sum());
        });
    }
    group.finish();
    criterion.final_summary();
    if let Some(rig) = rig.into_inner() {
        rig.end();
    }
}
