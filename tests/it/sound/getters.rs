//! Getters of an image, while other threads change the values.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::{Features, Image, IoCtx};

use super::test;
use crate::aio::eventually;
use crate::support::{Space, alone};

const MIB: u64 = 1 << 20;

/// Returns the pool of a space on a connection without a limit for calls. Calls run on the calling
/// thread there, so the threads spend their time in librbd.
fn direct(space: &Space) -> IoCtx {
    let cluster = crate::support::builder().call_timeout(None).connect().unwrap();
    cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap()
}

/// Returns how long calls race: 2 s, or what `RBD_RACE_SECONDS` sets. CI sets 30 s, once, under
/// AddressSanitizer, which reports more faults; without it each release of Ceph gets a short time.
fn race() -> Duration {
    Duration::from_secs(std::env::var("RBD_RACE_SECONDS").map_or(2, |text| text.parse().unwrap()))
}

/// librbd reads the name without a lock while a rename replaces it, which the owner of the
/// exclusive lock carries out.
#[test]
fn a_name_is_whole_while_it_is_changed() {
    if !alone(test!("getters::a_name_is_whole_while_it_is_changed")) {
        return;
    }
    let space = Space::new();
    let pool = direct(&space);
    // Each longer name takes new memory and frees the memory of the name before.
    let names: Vec<String> =
        "abcdefg".chars().zip(0..).map(|(c, at)| c.to_string().repeat(20 << at)).collect();
    // The owner of the lock carries out renames only with journaling.
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::JOURNALING;
    space.create(&names[0], MIB).features(features).run().unwrap();
    // Each second has several rounds of all renames, so no more than this is worth its time.
    let end = Instant::now() + race().min(Duration::from_secs(8));
    while Instant::now() < end {
        let image = pool.open(&names[0]).run().unwrap();
        image.exclusive_lock().acquire().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let name = image.name().unwrap();
                        assert!(names.contains(&name), "{name:?}");
                    }
                });
            }
            let renamed = names.windows(2).try_for_each(|pair| space.rename(&pair[0], &pair[1]));
            stop.store(true, Ordering::Relaxed);
            renamed.unwrap();
        });
        image.close().unwrap();
        space.rename(&names[names.len() - 1], &names[0]).unwrap();
    }
}

/// librbd fails an assertion if two calls load or format encryption at the same time.
#[test]
fn encryption_is_loaded_by_one_at_a_time() {
    if !alone(test!("getters::encryption_is_loaded_by_one_at_a_time")) {
        return;
    }
    let space = Space::new();
    space.create("foo", 32 * MIB).run().unwrap();
    let secret = Passphrase::new("hunter two");
    let format = EncryptionFormat::Luks1;
    let image = space.open("foo").run().unwrap();
    image.encryption().format(format, Cipher::Aes256, &secret).unwrap();
    image.close().unwrap();
    for round in 0..3 {
        let image = space.open("foo").run().unwrap();
        let loaded = Mutex::new(0);
        thread::scope(|scope| {
            for at in 0..3 {
                let (image, secret, loaded) = (&image, &secret, &loaded);
                scope.spawn(move || {
                    if round % 3 == 2 && at == 2 {
                        // Another thread loads the old header while a new one is written. Either
                        // may come first.
                        let _ = image.encryption().format(format, Cipher::Aes256, secret);
                        return;
                    }
                    match image.encryption().load(format, secret) {
                        Ok(()) => *loaded.lock().unwrap() += 1,
                        Err(error) => assert!(error.is_already_exists() || round % 3 == 2, "{error}"),
                    }
                });
            }
        });
        if round % 3 != 2 {
            assert_eq!(*loaded.lock().unwrap(), 1, "the others find it loaded");
        }
        image.close().unwrap();
    }
}

/// A getter. Only its errors matter: those that concurrent changes do not explain are faults.
type Getter = (&'static str, fn(&Image) -> rbd::Result<()>);

/// All getters of an open image.
const GETTERS: &[Getter] = &[
    ("stat", |image| image.stat().map(drop)),
    ("size", |image| image.size().map(drop)),
    ("name", |image| image.name().map(drop)),
    ("id", |image| image.id().map(drop)),
    ("block_name_prefix", |image| image.block_name_prefix().map(drop)),
    ("is_old_format", |image| image.is_old_format().map(drop)),
    ("features", |image| image.features().map(drop)),
    ("op_features", |image| image.op_features().map(drop)),
    ("flags", |image| image.flags().map(drop)),
    ("stripe_unit", |image| image.stripe_unit().map(drop)),
    ("stripe_count", |image| image.stripe_count().map(drop)),
    ("data_pool_id", |image| image.data_pool_id().map(drop)),
    ("overlap", |image| image.overlap().map(drop)),
    ("created", |image| image.created().map(drop)),
    ("accessed", |image| image.accessed().map(drop)),
    ("modified", |image| image.modified().map(drop)),
    ("watchers", |image| image.watchers().map(drop)),
    ("snapshots", |image| image.snapshots().list().map(drop)),
    ("limit of snapshots", |image| image.snapshots().limit().map(drop)),
    ("parent", |image| image.parent().map(drop)),
    ("children", |image| image.children().map(drop)),
    ("group", |image| image.group().map(drop)),
    ("metadata", |image| image.metadata().list().map(drop)),
    ("options", |image| image.config().list().map(drop)),
    ("owner of the lock", |image| image.exclusive_lock().owner().map(drop)),
    ("is_owner", |image| image.exclusive_lock().is_owner().map(drop)),
    ("advisory locks", |image| image.advisory_locks().list().map(drop)),
    ("source of a migration", |image| image.migration_source_spec().map(drop).or(Ok(()))),
];

/// Runs every pair of getters concurrently, while other threads change the image.
/// `RBD_RACE_SECONDS` sets a longer time. Under AddressSanitizer it reports each read of freed
/// memory.
#[test]
fn every_pair_of_getters_runs_beside_changes() {
    if !alone(test!("getters::every_pair_of_getters_runs_beside_changes")) {
        return;
    }
    let space = Space::new();
    let features = Features::LAYERING
        | Features::EXCLUSIVE_LOCK
        | Features::OBJECT_MAP
        | Features::FAST_DIFF
        | Features::DEEP_FLATTEN
        | Features::JOURNALING;
    space.create("parent", MIB).features(features).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.snapshots().protect("s").unwrap();
    let names = ["a".repeat(70), "b".repeat(90)];
    let groups = ["g".repeat(70), "h".repeat(90)];
    space.clone_image("parent", "s", &names[0]).features(features).run().unwrap();
    for group in &groups {
        space.groups().create(group).unwrap();
    }
    let image = direct(&space).open(&names[0]).run().unwrap();
    image.exclusive_lock().acquire().unwrap();
    let stop = AtomicBool::new(false);
    let until_stop = |change: &dyn Fn(usize)| {
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                return round;
            }
            change(round);
        }
        0
    };
    thread::scope(|scope| {
        // A change that conflicts with another one fails, and is made in the next round.
        let changes: [Box<dyn Fn(usize) + Send + '_>; 3] = [
            Box::new(|round| drop(space.rename(&names[round % 2], &names[(round + 1) % 2]))),
            Box::new(|round| {
                let name = format!("{}-{round}", "s".repeat(60));
                let _ = image.snapshots().create(&name).skip_quiesce(true).run();
                let _ = image.snapshots().remove(&name).run();
                let _ = image.resize((round as u64 % 7 + 1) * 4 * MIB).run();
            }),
            Box::new(|round| {
                let group = space.group(groups[round % 2].as_str());
                for name in &names {
                    let _ = group.add(&space, name);
                }
                let _ = image.metadata().set("conf_rbd_cache_size", &format!("{}", (1 << 20) + round));
                for name in &names {
                    let _ = group.remove(&space, name);
                }
            }),
        ];
        let changers: Vec<_> = changes
            .into_iter()
            .map(|change| {
                let until_stop = &until_stop;
                scope.spawn(move || until_stop(&*change))
            })
            .collect();
        let pairs = GETTERS.len() * (GETTERS.len() + 1) / 2;
        let time = race() / pairs as u32;
        for (at, first) in GETTERS.iter().enumerate() {
            for second in &GETTERS[at..] {
                let end = Instant::now() + time;
                thread::scope(|pair| {
                    for (name, getter) in [first, second] {
                        let image = &image;
                        pair.spawn(move || {
                            while Instant::now() < end {
                                if let Err(error) = getter(image) {
                                    // During a rename the image cannot be found for a moment.
                                    assert!(error.is_not_found(), "{name}: {error}");
                                }
                            }
                        });
                    }
                });
            }
        }
        stop.store(true, Ordering::Relaxed);
        let rounds: Vec<usize> = changers.into_iter().map(|changer| changer.join().unwrap()).collect();
        assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
        println!("{pairs} pairs, {rounds:?} rounds of changes");
    });
}

/// Changes that an image can go through only once: format, loading of encryption, flatten. Four
/// threads call all getters meanwhile. `RBD_RACE_SECONDS` sets a longer time.
#[test]
fn getters_run_beside_encryption_and_flatten() {
    if !alone(test!("getters::getters_run_beside_encryption_and_flatten")) {
        return;
    }
    let space = Space::new();
    let secret = Passphrase::new("hunter two");
    space.create("parent", 32 * MIB).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    for object in 0..8 {
        parent.write_all_at(&[7; 4096], object * 4 * MIB).unwrap();
    }
    parent.snapshots().create("s").run().unwrap();
    parent.snapshots().protect("s").unwrap();
    let pool = direct(&space);
    let (end, mut rounds) = (Instant::now() + race(), 0);
    while rounds == 0 || Instant::now() < end {
        let [clone, plain] = ["clone", "plain"].map(|what| format!("{what}-{}-{rounds}", "n".repeat(60)));
        space.clone_image("parent", "s", &clone).run().unwrap();
        beside_getters(&pool, &clone, |image| image.flatten().run().unwrap());
        space.create(&plain, 32 * MIB).run().unwrap();
        beside_getters(&pool, &plain, |image| {
            image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes256, &secret).unwrap();
        });
        let mut loaded = 0;
        beside_getters(&pool, &plain, |image| {
            image.encryption().load(EncryptionFormat::Luks1, &secret).unwrap();
            loaded = image.size().unwrap();
            assert!(image.resize(loaded + MIB).run().is_ok());
        });
        assert!(0 < loaded && loaded < 32 * MIB, "the header takes room: {loaded}");
        for image in [&clone, &plain] {
            space.remove(image).run().unwrap();
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
}

/// Opens an image and changes it, while threads call its getters.
fn beside_getters(pool: &IoCtx, name: &str, change: impl FnOnce(&Image)) {
    let image = pool.open(name).run().unwrap();
    let (stop, called) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for first in 0..4 {
            let (image, stop, called) = (&image, &stop, &called);
            scope.spawn(move || {
                let all = GETTERS.iter().cycle().skip(first * GETTERS.len() / 4);
                for (name, getter) in all.take_while(|_| !stop.load(Ordering::Relaxed)) {
                    getter(image).unwrap_or_else(|error| panic!("{name}: {error}"));
                    called.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The threads end in any case.
        let changed = catch_unwind(AssertUnwindSafe(|| {
            eventually("a getter is called", || called.load(Ordering::Relaxed) > 0);
            change(&image);
        }));
        stop.store(true, Ordering::Relaxed);
        changed.unwrap_or_else(|panic| resume_unwind(panic));
    });
    image.close().unwrap();
}
