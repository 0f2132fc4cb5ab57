//! Every public call of an image with encryption loaded works on the decrypted data, or is refused
//! before anything is touched.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rbd::diff::FastDiff;
use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::mirror::ImageMode;
use rbd::{ErrorKind, Features, Image};

use crate::support::Space;

const MIB: u64 = 1 << 20;
/// The size of an image of 64 MiB without the header of LUKS1.
const SIZE: u64 = 60 * MIB;
const CLEAR: [u8; 4096] = [0x5a; 4096];

struct Place {
    space: Space,
    image: Arc<Image>,
    other: Image,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Work,
    BeRefused,
    /// Tested elsewhere; the text says where.
    Elsewhere,
}
use Must::{BeRefused, Elsewhere, Work};

type Call = fn(&Place) -> rbd::Result<()>;

fn nothing(_: &Place) -> rbd::Result<()> {
    Ok(())
}

fn secret() -> Passphrase {
    Passphrase::new("x")
}

/// The calls. A call of a group counts as a call of `Image`; a method that only sets an option is
/// no call.
const TABLE: &[(&str, Must, Call)] = &[
    ("Image::accessed", Work, |at| at.image.accessed().map(drop)),
    ("Image::advisory_locks", Work, |at| at.image.advisory_locks().list().map(drop)),
    ("Image::aio", Work, aio),
    ("Image::ancestors", Work, |at| at.image.ancestors().map(|found| assert!(found.is_empty()))),
    ("Image::apply", Elsewhere, nothing),
    ("Image::at_snapshot", BeRefused, |at| at.image.at_snapshot("s").map(drop)),
    ("Image::block_name_prefix", Work, |at| at.image.block_name_prefix().map(drop)),
    ("Image::children", Work, |at| at.image.children().map(|found| assert!(found.is_empty()))),
    ("Image::close", Elsewhere, nothing),
    ("Image::set_close_in_background", Elsewhere, nothing),
    ("Image::compare_and_write", Work, |at| {
        let found = at.image.compare_and_write(0, &CLEAR[..512], &CLEAR[..512])?;
        assert_eq!(found, rbd::image::Compare::Written);
        Ok(())
    }),
    ("Image::config", Work, |at| at.image.config().list().map(drop)),
    ("Image::copy_over", BeRefused, |at| at.image.copy_over(&at.other).run()),
    ("Image::copy_to", BeRefused, |at| at.image.copy_to(&at.space, "copy").run()),
    ("Image::created", Work, |at| at.image.created().map(drop)),
    ("Image::data_pool_id", Work, |at| at.image.data_pool_id().map(drop)),
    ("Image::deep_copy_to", BeRefused, |at| at.image.deep_copy_to(&at.space, "copy").run()),
    ("Image::descendants", Work, |at| at.image.descendants().map(|found| assert!(found.is_empty()))),
    ("Image::diff", Work, diff),
    ("Image::disable_features", Work, |at| at.image.disable_features(Features::DEEP_FLATTEN)),
    ("Image::discard", Work, |at| {
        at.image.write_all_at(&[1; 64 << 10], SIZE - MIB)?;
        at.image.discard(SIZE - MIB, 64 << 10)?;
        reads_zeros(&at.image, SIZE - MIB)
    }),
    ("Image::enable_features", BeRefused, |at| at.image.enable_features(Features::JOURNALING)),
    ("Image::encryption", Work, |at| {
        assert!(at.image.encryption().is_loaded());
        assert!(
            at.image.encryption().load(EncryptionFormat::Luks1, &secret()).unwrap_err().is_already_exists()
        );
        let error =
            at.image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &secret()).unwrap_err();
        refused(&error);
        Ok(())
    }),
    ("Image::exclusive_lock", Work, |at| at.image.exclusive_lock().is_owner().map(drop)),
    ("Image::features", Work, |at| at.image.features().map(drop)),
    ("Image::flags", Work, |at| at.image.flags().map(drop)),
    ("Image::flatten", BeRefused, |at| at.image.flatten().run()),
    ("Image::flush", Work, |at| at.image.flush()),
    ("Image::group", Work, |at| at.image.group().map(drop)),
    ("Image::hints", Work, |at| {
        at.image.hints(rbd::AccessHints::empty()).write_all_at(&CLEAR, 0)?;
        at.image.hints(rbd::AccessHints::empty()).read_exact_at(&mut [0; 4096], SIZE - 4096)
    }),
    ("Image::id", Work, |at| at.image.id().map(drop)),
    ("Image::invalidate_cache", Work, |at| at.image.invalidate_cache()),
    ("Image::ioctx", Work, |at| {
        at.image.ioctx();
        Ok(())
    }),
    ("Image::is_old_format", Work, |at| at.image.is_old_format().map(drop)),
    ("Image::is_read_only", Work, |at| {
        assert!(!at.image.is_read_only());
        Ok(())
    }),
    ("Image::metadata", Work, |at| at.image.metadata().set("a", "b")),
    ("Image::mirroring", BeRefused, |at| at.image.mirroring().enable(ImageMode::Journal)),
    ("Image::migration_source_spec", Elsewhere, nothing),
    ("Image::modified", Work, |at| at.image.modified().map(drop)),
    ("Image::name", Work, |at| at.image.name().map(drop)),
    ("Image::object_map", Work, |at| {
        assert_eq!(at.image.object_map().check()?, [], "no fault is made up");
        at.image.object_map().rebuild().run()?;
        assert_eq!(at.image.object_map().check()?, []);
        Ok(())
    }),
    ("Image::op_features", Work, |at| at.image.op_features().map(drop)),
    ("Image::other_watchers", Work, |at| at.image.other_watchers().map(drop)),
    ("Image::overlap", Work, |at| at.image.overlap().map(|overlap| assert_eq!(overlap, 0))),
    ("Image::parent", Work, |at| at.image.parent().map(|parent| assert_eq!(parent, None))),
    ("Image::read_each", Work, |at| {
        let mut read = 0;
        let each = |offset, data: &[u8]| {
            assert_eq!((offset, data), (SIZE - 4096, &CLEAR[..]));
            read += data.len();
            std::ops::ControlFlow::Continue(())
        };
        at.image.read_each(SIZE - 4096, 4096, each).map(|()| assert_eq!(read, 4096))
    }),
    ("Image::read_at", Work, |at| at.image.read_at(&mut [0; 8192], SIZE - 4096).map(|n| assert_eq!(n, 4096))),
    ("Image::read_exact_at", Work, |at| at.image.read_exact_at(&mut [0; 4096], SIZE - 4096)),
    ("Image::resize", Work, resize),
    ("Image::size", Work, |at| at.image.size().map(|size| assert_eq!(size, SIZE))),
    ("Image::snapshot", Work, |at| {
        assert_eq!(at.image.snapshot(), None);
        Ok(())
    }),
    ("Image::snapshots", Work, snapshots),
    ("Image::sparsify", Work, |at| at.image.sparsify(4096).run()),
    ("Image::start_close", Elsewhere, nothing),
    ("Image::stat", Work, |at| at.image.stat().map(|stat| assert_eq!((stat.size, stat.objects), (SIZE, 15)))),
    ("Image::stripe_count", Work, |at| at.image.stripe_count().map(drop)),
    ("Image::stripe_unit", Work, |at| at.image.stripe_unit().map(drop)),
    ("Image::unblock", Elsewhere, nothing),
    ("Image::watch_quiesce", Elsewhere, nothing),
    ("Image::watch_updates", Work, |at| at.image.watch_updates(|| ()).map(drop)),
    ("Image::watchers", Work, |at| at.image.watchers().map(drop)),
    ("Image::write_all_at", Work, |at| at.image.write_all_at(&CLEAR, SIZE - 4096)),
    ("Image::write_at", Work, |at| {
        at.image.write_at(&[0x5a; 8192], SIZE - 4096).map(|n| assert_eq!(n, 4096))
    }),
    ("Image::write_same", Work, |at| at.image.write_same(SIZE - 8192, 8192, &CLEAR)),
    ("Image::write_zeroes", Work, |at| {
        at.image.write_zeroes(SIZE - MIB, 4096)?;
        reads_zeros(&at.image, SIZE - MIB)
    }),
    ("Image::write_zeroes_thick", Work, |at| {
        at.image.write_zeroes_thick(SIZE - MIB, 4096)?;
        reads_zeros(&at.image, SIZE - MIB)
    }),
];

fn reads_zeros(image: &Image, offset: u64) -> rbd::Result<()> {
    let mut found = [1; 4096];
    image.read_exact_at(&mut found, offset)?;
    assert!(found == [0; 4096], "zeros at {offset}");
    Ok(())
}

fn aio(at: &Place) -> rbd::Result<()> {
    at.image.aio().write(SIZE - 4096, Bytes::from_static(&CLEAR)).wait()?;
    let found = at.image.aio().read(SIZE - 4096, 4096).wait()?;
    assert!(found[..] == CLEAR);
    let error = at.image.aio().read_into(SIZE - 4096, 8192, BytesMut::new()).wait().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { size: SIZE, .. }), "{error}");
    Ok(())
}

fn diff(at: &Place) -> rbd::Result<()> {
    let diff = at.image.diff().whole_objects(true);
    assert!(matches!(diff.fast_diff()?, FastDiff::Encrypted { .. }));
    let extents = diff.collect()?;
    assert!(extents.iter().any(|extent| extent.offset == 0) && extents.iter().all(|each| each.end() <= SIZE));
    Ok(())
}

fn resize(at: &Place) -> rbd::Result<()> {
    let image = &at.image;
    image.resize(SIZE).run()?;
    assert_eq!(image.size()?, SIZE, "the size it has changes nothing");
    let error = image.resize(SIZE - MIB).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput, "less is a shrink: {error}");
    for size in [72 * MIB, MIB, SIZE] {
        image.resize(size).allow_shrink(true).run()?;
        assert_eq!(image.size()?, size);
        let stored = at.space.open("foo").read_only(true).run()?.size()?;
        assert_eq!(stored, size + 4 * MIB, "the header is kept");
    }
    image.write_all_at(&CLEAR, SIZE - 4096)
}

fn snapshots(at: &Place) -> rbd::Result<()> {
    let snapshots = at.image.snapshots();
    assert!(snapshots.list()?.iter().all(|snapshot| snapshot.size == SIZE));
    snapshots.create("t").run()?;
    at.image.write_all_at(&[1; 4096], 0)?;
    snapshots.rollback("t").run()?;
    // The image was not encrypted at that time.
    refused(&snapshots.rollback("before").run().unwrap_err());
    snapshots.remove("t").run()
}

fn refused(error: &rbd::Error) {
    assert_eq!(*error.kind(), ErrorKind::NotSupported, "{error}");
    assert!(error.to_string().contains("encryption"), "it says why: {error}");
}

impl Place {
    fn new() -> Place {
        let space = Space::new();
        for name in ["foo", "other"] {
            space.create(name, 64 * MIB).features(Features::DEFAULT).run().unwrap();
        }
        let image = space.open("foo").run().unwrap();
        image.snapshots().create("before").run().unwrap();
        image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &secret()).unwrap();
        let other = space.open("other").run().unwrap();
        image.write_all_at(&CLEAR, 0).unwrap();
        image.write_all_at(&CLEAR, SIZE - 4096).unwrap();
        image.snapshots().create("s").run().unwrap();
        Place { space, image: Arc::new(image), other }
    }

    /// Checks that the decrypted data is unchanged, and that none of it is stored in clear.
    fn check(&self, after: &str) {
        assert_eq!(self.image.size().unwrap(), SIZE, "after {after}");
        for offset in [0, SIZE - 4096] {
            let mut found = [0; 4096];
            self.image.read_exact_at(&mut found, offset).unwrap();
            assert!(found == CLEAR, "after {after}, at {offset}");
        }
    }
}

#[test]
fn each_call_works_on_decrypted_data_or_is_refused() {
    let at = Place::new();
    for (name, must, call) in TABLE {
        let result = call(&at);
        match (must, result) {
            (Work | Elsewhere, result) => result.unwrap_or_else(|error| panic!("{name}: {error}")),
            (BeRefused, result) => refused(&result.expect_err(name)),
        }
        at.check(name);
    }
    at.image.flush().unwrap();
    for entry in at.space.list().unwrap() {
        let stored = at.space.open(&entry.name).read_only(true).run().unwrap();
        let mut found = vec![0; stored.size().unwrap() as usize];
        stored.read_exact_at(&mut found, 0).unwrap();
        assert!(!found.chunks_exact(64).any(|chunk| chunk == &CLEAR[..64]), "{} is clear", entry.name);
    }
    assert_eq!(at.space.list().unwrap().len(), 2, "nothing was made");
}

#[test]
fn the_table_has_every_call() {
    let mut calls = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("rbd/src");
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let mut ours = false;
            for line in text.lines() {
                ours = if line.starts_with("impl") { line.starts_with("impl Image {") } else { ours };
                if let Some(name) = line.strip_prefix("    pub fn ").filter(|_| ours) {
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
                    calls.insert(format!("Image::{}", &name[..end]));
                }
            }
        }
    }
    assert!(calls.len() > 40, "{calls:?}");
    let table: BTreeSet<String> = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let missing: Vec<_> = calls.difference(&table).collect();
    assert_eq!(missing, Vec::<&String>::new(), "say in the table what they do with encryption loaded");
}

#[test]
fn offsets_in_an_encrypted_clone_begin_after_the_header() {
    let at = Place::new();
    at.space.clone_image("foo", "s", "clone").format(rbd::image::CloneFormat::V2).run().unwrap();
    let clone = at.space.open("clone").run().unwrap();
    clone.encryption().load(EncryptionFormat::Luks1, &secret()).unwrap();
    assert_eq!((clone.size().unwrap(), clone.overlap().unwrap()), (SIZE, SIZE));
    assert_eq!(clone.parent().unwrap().unwrap().overlap, SIZE);
    clone.write_all_at(&[7; 4096], 8 * MIB).unwrap();
    refused(&clone.flatten().run().unwrap_err());
    clone.close().unwrap();
    // The alternative that the error names: the header is copied, too.
    let stored = at.space.open("clone").run().unwrap();
    stored.flatten().run().unwrap();
    assert_eq!(stored.parent().unwrap(), None);
    stored.close().unwrap();
    let clone = at.space.open("clone").read_only(true).run().unwrap();
    clone.encryption().load(EncryptionFormat::Luks1, &secret()).unwrap();
    for (offset, byte) in [(0, 0x5a), (8 * MIB, 7), (SIZE - 4096, 0x5a), (SIZE / 2, 0)] {
        let mut found = [0xee; 4096];
        clone.read_exact_at(&mut found, offset).unwrap();
        assert!(found == [byte; 4096], "at {offset}");
    }
    let error = clone.copy_to(&at.space, "copy").run().unwrap_err();
    refused(&error);
    // The alternative that the error names: the copy is encrypted.
    at.space.open("foo").read_only(true).run().unwrap().copy_to(&at.space, "copy").run().unwrap();
    let copy = at.space.open("copy").run().unwrap();
    copy.encryption().load(EncryptionFormat::Luks1, &secret()).unwrap();
    let mut found = [0; 4096];
    copy.read_exact_at(&mut found, SIZE - 4096).unwrap();
    assert!(found == CLEAR);
}
