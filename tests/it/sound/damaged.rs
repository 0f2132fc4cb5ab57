//! Images whose headers a writer of the pool has damaged. A call about one of them ends, with Ok or
//! Err, and the process lives. `docs/security.md` lists the values for which librbd does not ensure
//! this; the surveys of this crate refuse them.

use std::mem::ManuallyDrop;
use std::time::Duration;

use rbd::{Cluster, Errno, Error, Features, IoCtx};

use super::test;
use crate::support::{Space, alone, builder};

const SIZE: u64 = 8 << 20;

/// The keys in the header of an image. `SNAPSHOT` stands for the key of its snapshot.
const HEADER: [&str; 16] = [
    "size",
    "order",
    "features",
    "object_prefix",
    "snap_seq",
    "flags",
    "stripe_unit",
    "stripe_count",
    "op_features",
    "create_timestamp",
    "access_timestamp",
    "parent",
    "data_pool_id",
    "image_group_ref",
    "metadata_key",
    SNAPSHOT,
];
const SNAPSHOT: &str = "snapshot";

/// Values that no key may have: none, and one with lengths and numbers beyond all limits.
const VALUES: [(&str, &[u8]); 2] = [("empty", b""), ("ones", &[0xff; 64])];

const STRIPED: Features = Features::LAYERING.union(Features::STRIPING);
const MIGRATING: Features = Features::LAYERING.union(Features::MIGRATING);

/// What happens to an image.
struct Damage {
    name: String,
    keys: Vec<(&'static str, Vec<u8>)>,
    calls: Calls,
}

/// Which calls are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Calls {
    All,
    /// librbd would end the process, or not end. A survey answers EBADMSG.
    Survey,
    /// librbd asks for each object of the claimed size.
    NoUsage,
}

fn damages() -> Vec<Damage> {
    let mut all = Vec::new();
    for key in HEADER {
        for (what, value) in VALUES {
            let calls = match (key, what) {
                ("order" | "features", "ones") => Calls::Survey,
                ("size", "ones") => Calls::NoUsage,
                _ => Calls::All,
            };
            all.push(Damage { name: format!("{key}-{what}"), keys: vec![(key, value.to_vec())], calls });
        }
    }
    for order in [0, 11, 32, 63, 64] {
        let keys = vec![("order", vec![order])];
        all.push(Damage { name: format!("order-{order}"), keys, calls: Calls::Survey });
    }
    for (number, size) in [1 << 63, u64::MAX].into_iter().enumerate() {
        let keys = vec![("size", size.to_le_bytes().to_vec())];
        all.push(Damage { name: format!("size-huge{number}"), keys, calls: Calls::NoUsage });
    }
    let keys = vec![("features", MIGRATING.bits().to_le_bytes().to_vec())];
    all.push(Damage { name: "migrating".into(), keys, calls: Calls::Survey });
    for (unit, count) in [(0, 1), (1, 0), (3, 3), (1, u64::MAX), (1 << 32, 1), (1 << 63, 2), (1 << 23, 1)] {
        let number = |number: u64| number.to_le_bytes().to_vec();
        let keys = vec![
            ("features", number(STRIPED.bits())),
            ("stripe_unit", number(unit)),
            ("stripe_count", number(count)),
        ];
        all.push(Damage { name: format!("stripes-{unit}-{count}"), keys, calls: Calls::Survey });
    }
    all
}

#[test]
fn a_damaged_header_ends_no_process_and_no_survey() {
    if !alone(test!("damaged::a_damaged_header_ends_no_process_and_no_survey")) {
        return;
    }
    let cluster = builder().call_timeout(Duration::from_secs(60)).connect().unwrap();
    // A failed test leaves them: removing damaged images takes long.
    let [space, huge] = [(); 2].map(|()| ManuallyDrop::new(Space::on(&cluster)));
    let damages = damages();
    let place = |damage: &Damage| -> &IoCtx { if damage.calls == Calls::NoUsage { &huge } else { &space } };
    for pool in [&**space, &**huge] {
        let those: Vec<_> = damages.iter().filter(|damage| std::ptr::eq(place(damage), pool)).collect();
        make(pool, &those.iter().map(|damage| &*damage.name).collect::<Vec<_>>());
        make(pool, &["whole", "map"]);
        for damage in those {
            harm(pool, &damage.name, &damage.keys);
        }
    }
    long_map(&space);
    surveys(&space, &damages);
    let survey = huge.survey().snapshots(true).parent(true).times(true).locks(true);
    assert!(survey.run().unwrap().all(|image| image.is_ok() || !timed_out(&image.unwrap_err())));
    for pool in [&**space, &**huge] {
        assert!(pool.list().unwrap().len() > 2 && pool.trash().list().unwrap().is_empty());
    }
    for damage in damages.iter().filter(|damage| damage.calls != Calls::Survey) {
        open(place(damage), &damage.name);
    }
    let removed: Vec<_> =
        damages.iter().filter(|damage| damage.calls == Calls::All).map(|damage| &*damage.name).collect();
    let report = space.batch(&removed).run(|pool, name| pool.remove(name).run()).unwrap();
    assert!(report.failed.iter().all(|(_, error)| !timed_out(error)), "{:?}", report.failed);
    restore(&cluster, &space, &damages);
    restore(&cluster, &huge, &damages);
    drop([space, huge].map(ManuallyDrop::into_inner));
}

/// Creates images with a snapshot, metadata and some data.
fn make(pool: &IoCtx, names: &[&str]) {
    let report = pool.batch(names).run(|pool, name| {
        pool.create(name, SIZE).run()?;
        let image = pool.open(name).run()?;
        image.write_all_at(&[1; 4096], 0)?;
        image.snapshots().create("s").run()?;
        image.metadata().set("key", "value")?;
        image.close()
    });
    assert!(report.unwrap().is_complete());
}

/// Sets keys in the header of an image.
fn harm(pool: &IoCtx, name: &str, keys: &[(&str, Vec<u8>)]) {
    let header = header(pool, name);
    let omap = pool.objects().omap(&header).unwrap();
    let snapshot = omap.keys().find(|key| key.starts_with(b"snapshot_")).unwrap();
    let pairs: Vec<_> = keys
        .iter()
        .map(|(key, value)| (if *key == SNAPSHOT { &**snapshot } else { key.as_bytes() }, &**value))
        .collect();
    pool.objects().set_omap(&header, &pairs).unwrap();
}

fn header(pool: &IoCtx, name: &str) -> String {
    let id = pool.list().unwrap().into_iter().find(|entry| entry.name == name).unwrap().id;
    format!("rbd_header.{id}")
}

/// Gives the image `map` an object map that is much longer than the image.
fn long_map(pool: &IoCtx) {
    let image = pool.open("map").run().unwrap();
    image.resize(64 << 40).run().unwrap();
    image.close().unwrap();
    harm(pool, "map", &[("size", SIZE.to_le_bytes().to_vec())]);
}

fn surveys(pool: &IoCtx, damages: &[Damage]) {
    let survey = || pool.survey().snapshots(true).parent(true).times(true).locks(true).group(true);
    for usage in [false, true] {
        let survey = survey().metadata(true).usage(usage).watchers(usage);
        let (mut whole, mut errors) = (0, Vec::new());
        for image in survey.run().unwrap() {
            match image {
                Ok(image) if ["whole", "map"].contains(&&*image.name) => {
                    assert_eq!((image.size, image.snapshots.len(), image.metadata.len()), (SIZE, 1, 1));
                    whole += usize::from(image.used.is_some() == usage);
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        assert_eq!(whole, 2);
        let refused = |damage: &Damage| {
            let error =
                errors.iter().find(|error| error.object_name().ends_with(&format!("/{}", damage.name)));
            error.is_some_and(|error| {
                error.errno() == Some(Errno::EBADMSG) && error.to_string().contains("header is damaged")
            })
        };
        for damage in damages.iter().filter(|damage| damage.calls == Calls::Survey) {
            // Only a survey that could open the image looks at the stripes.
            let expected = usage || !damage.name.starts_with("stripes");
            assert_eq!(refused(damage), expected, "{}: {errors:?}", damage.name);
        }
        assert!(!errors.iter().any(timed_out), "{errors:?}");
    }
}

fn open(pool: &IoCtx, name: &str) {
    let opened = pool.open(name).read_only(true).run().and_then(|image| {
        image.stat()?;
        image.snapshots().list()?;
        image.parent()?;
        image.group()?;
        image.metadata().list()?;
        image.read_at(&mut [0; 4096], 0)?;
        image.close()
    });
    if let Err(error) = opened {
        assert!(!timed_out(&error), "{error}");
    }
}

fn timed_out(error: &Error) -> bool {
    error.is_timed_out()
}

/// Makes the headers such that the images can be removed.
fn restore(cluster: &Cluster, pool: &IoCtx, damages: &[Damage]) {
    let (fresh, objects) = (Space::on(cluster), pool.objects());
    make(&fresh, &["whole"]);
    let model = fresh.objects().omap(&header(&fresh, "whole")).unwrap();
    for entry in pool.list().unwrap() {
        if damages.iter().any(|damage| damage.name == entry.name) {
            let header = format!("rbd_header.{}", entry.id);
            let keys = ["size", "order", "features"].map(|key| (key.as_bytes(), &*model[key.as_bytes()]));
            objects.set_omap(&header, &keys).unwrap();
        }
    }
}
