//! Surveys of generated pools. Random histories make images of all kinds, and a survey agrees with
//! librbd and the `rbd` command about all of them.
//!
//! Each run makes the same pools. Others: `RBD_SURVEY_POOLS=50 RBD_SURVEY_SEED=7 cargo test --test
//! it -- survey::generated`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::image::CloneFormat;
use rbd::mirror::{ImageMode, PoolMode};
use rbd::snapshot::SnapshotKind;
use rbd::{Features, Image, IoCtx, Result};

use super::agree::same_everywhere;
use super::census::{KINDS, note};
use super::{Pool, all, survey, survey_of};

const OBJECT: u64 = 1 << 20;

/// Names that need care in paths, JSON or command lines.
const NAMES: [&str; 6] = ["-rf", "a=b,c", "two  blanks ", "dots...", "ünï \"x\"", "\u{1f980}"];

/// A step of a history. Numbers select an image, a place or a variant, and wrap around. A step that
/// is impossible does nothing.
#[derive(Debug, Clone)]
enum Step {
    Create { place: usize, kind: usize, odd: bool },
    Write { image: usize, object: u64 },
    Discard { image: usize, object: u64 },
    Resize { image: usize, objects: u64 },
    Snapshot { image: usize, protect: bool },
    RemoveSnapshot { image: usize },
    Group { image: usize },
    Mirror { image: usize },
    Clone { image: usize, place: usize, old: bool },
    Flatten { image: usize },
    Trash { image: usize },
    Rename { image: usize },
    Metadata { image: usize, pairs: usize },
    Lock { image: usize, shared: bool },
}

/// The last steps, after which an image is not changed any more.
#[derive(Debug, Clone)]
enum End {
    Open { image: usize },
    RemoveHeader { image: usize },
    DistrustMap { image: usize },
    Migrate { image: usize, place: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let image = || 0..12_usize;
    let (place, object) = (0..3_usize, || 0..9_u64);
    prop_oneof![
        5 => (place.clone(), 0..7_usize, any::<bool>()).prop_map(|(place, kind, odd)| Step::Create { place, kind, odd }),
        6 => (image(), object()).prop_map(|(image, object)| Step::Write { image, object }),
        2 => (image(), object()).prop_map(|(image, object)| Step::Discard { image, object }),
        2 => (image(), 1..12_u64).prop_map(|(image, objects)| Step::Resize { image, objects }),
        5 => (image(), any::<bool>()).prop_map(|(image, protect)| Step::Snapshot { image, protect }),
        2 => image().prop_map(|image| Step::RemoveSnapshot { image }),
        2 => image().prop_map(|image| Step::Group { image }),
        1 => image().prop_map(|image| Step::Mirror { image }),
        4 => (image(), place, any::<bool>()).prop_map(|(image, place, old)| Step::Clone { image, place, old }),
        1 => image().prop_map(|image| Step::Flatten { image }),
        1 => image().prop_map(|image| Step::Trash { image }),
        1 => image().prop_map(|image| Step::Rename { image }),
        1 => (image(), prop_oneof![Just(3_usize), Just(130)]).prop_map(|(image, pairs)| Step::Metadata { image, pairs }),
        1 => (image(), any::<bool>()).prop_map(|(image, shared)| Step::Lock { image, shared }),
    ]
}

/// The first steps make an image of each kind, whatever the later ones do.
const FIRST: &[Step] = &[
    Step::Create { place: 0, kind: 0, odd: true },
    Step::Snapshot { image: 0, protect: false },
    Step::Clone { image: 0, place: 2, old: false },
    Step::Clone { image: 0, place: 1, old: false },
    Step::RemoveSnapshot { image: 0 },
    Step::Mirror { image: 0 },
    Step::Create { place: 1, kind: 0, odd: false },
    Step::Lock { image: 2, shared: true },
    Step::Create { place: 0, kind: 1, odd: false },
    Step::Create { place: 0, kind: 2, odd: false },
    Step::Create { place: 0, kind: 3, odd: false },
    Step::Create { place: 0, kind: 4, odd: false },
    Step::Create { place: 0, kind: 5, odd: false },
    Step::Create { place: 0, kind: 0, odd: false },
    Step::Lock { image: 2, shared: false },
    Step::Metadata { image: 3, pairs: 130 },
    Step::Group { image: 4 },
    Step::Snapshot { image: 5, protect: true },
    Step::Clone { image: 5, place: 0, old: true },
    Step::Snapshot { image: 8, protect: false },
    Step::Clone { image: 8, place: 2, old: false },
    Step::Trash { image: 8 },
    Step::Create { place: 1, kind: 6, odd: false },
    Step::Write { image: 8, object: 2 },
];

/// Images that the later steps leave alone.
const FIRST_ENDS: &[End] = &[
    End::Migrate { image: 8, place: 2 },
    End::DistrustMap { image: 6 },
    End::Open { image: 4 },
    End::RemoveHeader { image: 1 },
];

fn end() -> impl Strategy<Value = End> {
    let image = || 0..12_usize;
    prop_oneof![
        image().prop_map(|image| End::Open { image }),
        image().prop_map(|image| End::RemoveHeader { image }),
        image().prop_map(|image| End::DistrustMap { image }),
        (image(), 0..3_usize).prop_map(|(image, place)| End::Migrate { image, place }),
    ]
}

/// A pool, a namespace in it, and another pool.
struct World {
    places: [IoCtx; 3],
    data: String,
    /// Number for the next name.
    made: usize,
    open: Vec<Image>,
    /// The ids of images that are not changed any more.
    ended: BTreeSet<String>,
    _pools: [Pool; 3],
}

impl World {
    fn new() -> World {
        let pools = [Pool::new(), Pool::new(), Pool::new()];
        pools[0].0.namespaces().create("inner").unwrap();
        let inner = pools[0].0.with_namespace("inner").unwrap();
        for pool in &pools[..2] {
            pool.0.mirroring().set_mode(PoolMode::Image).unwrap();
            pool.0.mirroring().peers().add("nowhere", "client.nobody").run().unwrap();
        }
        World {
            places: [pools[0].0.clone(), inner, pools[1].0.clone()],
            data: pools[2].0.pool().to_owned(),
            made: 0,
            open: Vec::new(),
            ended: BTreeSet::new(),
            _pools: pools,
        }
    }

    fn name(&mut self, odd: bool) -> String {
        self.made += 1;
        match NAMES.get(self.made % 12).filter(|_| odd) {
            Some(name) => format!("{name}{}", self.made),
            None => format!("image{}", self.made),
        }
    }

    /// Returns an image, its place and its id.
    fn image(&self, number: usize) -> Option<(IoCtx, String, String)> {
        let images: Vec<_> = self
            .places
            .iter()
            .flat_map(|place| {
                place.list().unwrap().into_iter().map(|entry| (place.clone(), entry.name, entry.id))
            })
            .filter(|(_, _, id)| !self.ended.contains(id))
            .collect();
        images.get(number % images.len().max(1)).cloned()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Create { place, kind, odd } => return self.create(place, kind, odd),
            Step::Clone { image, place, old } => return self.clone_image(image, place, old),
            _ => {}
        }
        let (Step::Write { image: number, .. }
        | Step::Discard { image: number, .. }
        | Step::Resize { image: number, .. }
        | Step::Snapshot { image: number, .. }
        | Step::RemoveSnapshot { image: number }
        | Step::Group { image: number }
        | Step::Mirror { image: number }
        | Step::Flatten { image: number }
        | Step::Trash { image: number }
        | Step::Rename { image: number }
        | Step::Metadata { image: number, .. }
        | Step::Lock { image: number, .. }) = *step
        else {
            return Ok(());
        };
        let Some((place, name, _)) = self.image(number) else { return Ok(()) };
        match *step {
            Step::Trash { .. } => return place.trash().add(&name).run(),
            Step::Rename { .. } => return place.rename(&name, &self.name(true)),
            Step::Group { .. } => {
                self.made += 1;
                let _ = place.groups().create("group");
                let _ = place.group("group").add(&place, &name);
                let snapshot = format!("together{}", self.made);
                return place.group("group").snapshots().create(&snapshot).run();
            }
            _ => {}
        }
        let image = place.open(&name).run()?;
        match *step {
            Step::Write { object, .. } => image.write_all_at(b"written", object * OBJECT)?,
            Step::Discard { object, .. } => image.discard(object * OBJECT, OBJECT)?,
            Step::Resize { objects, .. } => {
                image.resize(objects * OBJECT + 4321).allow_shrink(true).run()?;
            }
            Step::Snapshot { protect, .. } => {
                self.made += 1;
                let snapshot = format!("snap{}", self.made);
                image.snapshots().create(&snapshot).run()?;
                if protect {
                    image.snapshots().protect(&snapshot)?;
                }
            }
            Step::RemoveSnapshot { .. } => {
                let snapshots = image.snapshots().list()?;
                if let Some(snapshot) = snapshots.iter().find(|snapshot| !snapshot.protected) {
                    image.snapshots().remove(&snapshot.name).run()?;
                }
            }
            Step::Mirror { .. } => image.mirroring().enable(ImageMode::Snapshot)?,
            Step::Flatten { .. } => image.flatten().run()?,
            Step::Metadata { pairs, .. } => {
                for pair in 0..pairs {
                    image.metadata().set(&format!("kéy {pair}"), "valüe")?;
                }
            }
            // An advisory lock keeps librbd's own lock from being acquired.
            Step::Lock { shared, .. } if !image.features()?.contains(Features::EXCLUSIVE_LOCK) => {
                if shared {
                    image.advisory_locks().acquire_shared("cookie", "tag")?;
                } else {
                    image.advisory_locks().acquire_exclusive("cookie")?;
                }
                // The lock lasts as long as the client.
            }
            _ => {}
        }
        image.close()
    }

    fn create(&mut self, place: usize, kind: usize, odd: bool) -> Result<()> {
        let (name, place) = (self.name(odd), &self.places[place]);
        let plain =
            Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
        let create = place.create(&name, 7 * OBJECT + 1234).object_size(OBJECT);
        match kind {
            0 => create.features(Features::LAYERING).run(),
            1 => create.features(plain | Features::JOURNALING).run(),
            2 => create.striping(64 << 10, 3).run(),
            3 => create.data_pool(&self.data).run(),
            4 => place.create(&name, 0).object_size(OBJECT).run(),
            5 => {
                create.run()?;
                let image = place.open(&name).run()?;
                let secret = Passphrase::new("secret");
                image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &secret)?;
                image.close()
            }
            _ => create.run(),
        }
    }

    fn clone_image(&mut self, image: usize, place: usize, old: bool) -> Result<()> {
        let Some((parent, name, _)) = self.image(image) else { return Ok(()) };
        let snapshots = parent.open(&name).read_only(true).run()?.snapshots().list()?;
        let mut user = snapshots.iter().filter(|snapshot| snapshot.origin.kind() == SnapshotKind::User);
        let Some(snapshot) = user.find(|snapshot| snapshot.protected == old) else { return Ok(()) };
        let clone = self.name(false);
        parent
            .clone_image(&name, &*snapshot.name, &clone)
            .into_ioctx(&self.places[place])
            .format(if old { CloneFormat::V1 } else { CloneFormat::V2 })
            .run()
    }

    fn end(&mut self, end: &End) -> Result<()> {
        let (End::Open { image }
        | End::RemoveHeader { image }
        | End::DistrustMap { image }
        | End::Migrate { image, .. }) = *end;
        let Some((place, name, id)) = self.image(image) else { return Ok(()) };
        let header = format!("rbd_header.{id}");
        match *end {
            End::Open { .. } => {
                let image = place.open(&name).run()?;
                let written = if image.size()? > 0 { image.write_all_at(b"open", 0) } else { Ok(()) };
                self.open.push(image);
                written?;
            }
            End::RemoveHeader { .. } => {
                // Its clones could not be opened any more, and its parent would still name it.
                let image = place.open(&name).read_only(true).run()?;
                if image.parent()?.is_some() || !image.snapshots().list()?.is_empty() {
                    return Ok(());
                }
                place.objects().remove(&header)?;
            }
            End::DistrustMap { .. } => {
                let flags = 3_u64.to_le_bytes();
                place.objects().set_omap(&header, &[(&b"flags"[..], &flags[..])])?;
            }
            End::Migrate { place: target, .. } => {
                let moved = self.name(false);
                place.prepare_migration(&name, &self.places[target], &moved).run()?;
                let target = &self.places[target];
                let moved = target.list()?.into_iter().find(|entry| entry.name == moved);
                self.ended.extend(moved.map(|entry| entry.id));
            }
        }
        self.ended.insert(id);
        Ok(())
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

#[test]
fn pools_of_random_histories() {
    let own = std::env::var_os("RBD_SURVEY_SEED").is_none();
    let mut runner = TestRunner::new(Config {
        cases: number("RBD_SURVEY_POOLS", 3) as u32,
        rng_seed: RngSeed::Fixed(number("RBD_SURVEY_SEED", 1)),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    });
    let history = (prop::collection::vec(step(), 25..45), prop::collection::vec(end(), 2..6));
    let kinds = RefCell::new(BTreeSet::new());
    let result = runner.run(&history, |(steps, ends)| {
        let mut world = World::new();
        for (steps, ends) in [(FIRST, FIRST_ENDS), (&steps, &ends)] {
            for step in steps {
                match (world.step(step), step) {
                    (Ok(()), Step::Create { kind: 5, .. }) => drop(kinds.borrow_mut().insert("encrypted")),
                    (Ok(()), _) => {}
                    (Err(error), _) => eprintln!("{step:?}: {error}"),
                }
            }
            for end in ends {
                if let Err(error) = world.end(end) {
                    eprintln!("{end:?}: {error}");
                }
            }
        }
        same_everywhere(&world.places.each_ref());
        for place in &world.places {
            for image in survey(place).iter().chain(&survey_of(all(place).trash(true))) {
                note(&mut kinds.borrow_mut(), place, image);
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let missing: Vec<_> = KINDS.iter().filter(|kind| !kinds.borrow().contains(*kind)).collect();
    if own {
        assert!(missing.is_empty(), "no pool has {missing:?}");
    }
    eprintln!("no pool has {missing:?}");
}
