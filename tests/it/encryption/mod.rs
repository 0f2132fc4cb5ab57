//! Encryption with LUKS.

mod small;
mod table;

use std::time::Duration;

use rbd::diff::FastDiff;
use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::image::CloneFormat;
use rbd::{ErrorKind, Features};

use crate::support::{Space, alone, unique};

const MIB: u64 = 1 << 20;

#[test]
fn encrypted_data_is_read_only_with_the_passphrase() {
    for (format, cipher) in
        [(EncryptionFormat::Luks1, Cipher::Aes128), (EncryptionFormat::Luks2, Cipher::Aes256)]
    {
        let header = is_read_only_with_the_passphrase(format, cipher);
        // LUKS1 has the rounds of its first key at this place, LUKS2 in a text.
        let cheap = header[212..216] == 1000_u32.to_be_bytes() || contains(&header, ROUNDS);
        assert!(cheap, "{format:?}: the function of `support::luks` is not called");
    }
}

/// The headers of other tests cost little: see `support::luks`.
#[test]
fn a_header_of_the_usual_cost_is_loaded() {
    if alone("encryption::a_header_of_the_usual_cost_is_loaded") {
        crate::support::luks::the_usual_cost();
        let header = is_read_only_with_the_passphrase(EncryptionFormat::Luks2, Cipher::Aes256);
        assert!(contains(&header, b"\"iterations\":") && !contains(&header, ROUNDS));
    }
}

/// The fewest rounds, in the text of a LUKS2 header.
const ROUNDS: &[u8] = b"\"iterations\":1000,";

fn contains(header: &[u8], text: &[u8]) -> bool {
    header.windows(text.len()).any(|window| window == text)
}

/// Returns the beginning of the image.
fn is_read_only_with_the_passphrase(format: EncryptionFormat, cipher: Cipher) -> Vec<u8> {
    let space = Space::new();
    space.create("foo", 32 * MIB).run().unwrap();
    let secret = Passphrase::new("hunter two\n");
    assert_eq!(format!("{secret:?}"), "Passphrase(…)");
    let image = space.open("foo").run().unwrap();
    image.encryption().format(format, cipher, &secret).unwrap();
    let inside = image.size().unwrap();
    assert!(inside < 32 * MIB, "the header takes its part: {inside}");
    image.write_all_at(&[0x5a; 4096], 8192).unwrap();
    image.close().unwrap();

    let image = space.open("foo").read_only(true).run().unwrap();
    let error = image.encryption().load(format, &Passphrase::new("hunter two")).unwrap_err();
    assert!(error.is_permission_denied(), "{error}");
    assert!(error.to_string().contains("the passphrase is wrong") && !error.to_string().contains("hunter"));
    let mut raw = vec![0; (32 * MIB) as usize];
    image.read_exact_at(&mut raw, 0).unwrap();
    assert_eq!(&raw[..4], b"LUKS");
    assert!(!raw.chunks_exact(64).any(|chunk| chunk == [0x5a; 64]), "nothing stands there in clear");
    image.encryption().load(format, &secret).unwrap();
    let mut clear = [0; 4096];
    image.read_exact_at(&mut clear, 8192).unwrap();
    assert_eq!(clear, [0x5a; 4096]);
    assert!(image.encryption().load(format, &secret).unwrap_err().is_already_exists());
    image.close().unwrap();
    raw.truncate(64 << 10);
    raw
}

#[test]
fn impossible_requests_are_refused_with_the_reason() {
    let space = Space::new();
    space.create("foo", 32 * MIB).run().unwrap();
    let (image, secret) = (space.open("foo").run().unwrap(), Passphrase::new("x"));
    let error = image.encryption().load(EncryptionFormat::Luks2, &secret).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotSupported, "{error}");
    assert!(error.to_string().contains("no encryption header of this format"), "{error}");
    let error =
        image.encryption().format(EncryptionFormat::Luks2, Cipher::Aes256, &Passphrase::new("")).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    let reader = space.open("foo").read_only(true).run().unwrap();
    let error = reader.encryption().format(EncryptionFormat::Luks2, Cipher::Aes256, &secret).unwrap_err();
    assert!(error.is_read_only(), "{error}");

    let newer = rbd::Cluster::librbd_version().minor >= 18;
    image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes256, &secret).unwrap();
    drop(image);
    let image = space.open("foo").run().unwrap();
    match image.encryption().load_chain(&[(None, secret)]) {
        Ok(()) => assert!(newer),
        Err(error) => assert!(error.is_library_too_old() && !newer, "{error}"),
    }
}

#[test]
fn a_diff_with_encryption_loaded_covers_what_the_user_changed() {
    let space = Space::new();
    for features in [Features::LAYERING, Features::DEFAULT] {
        let name = unique("diff");
        space.create(&name, 64 * MIB).features(features).run().unwrap();
        let image = space.open(&name).run().unwrap();
        image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &Passphrase::new("x")).unwrap();
        let size = image.size().unwrap();
        let faults = image.object_map().check();
        assert!(features == Features::LAYERING || faults.unwrap().is_empty(), "no fault is made up");
        image.snapshots().create("a").run().unwrap();
        for place in [0, 20 * MIB + 512, size - 4096] {
            image.write_all_at(&[place as u8 + 1; 4096], place).unwrap();
        }
        let faults = image.object_map().check();
        assert!(features == Features::LAYERING || faults.unwrap().is_empty(), "no fault is made up");
        for whole in [false, true] {
            let diff = image.diff().from_snapshot("a").whole_objects(whole);
            for extents in
                [diff.collect().unwrap(), diff.extents().unwrap().collect::<Result<_, _>>().unwrap()]
            {
                for place in [0, 20 * MIB + 512, size - 4096] {
                    let covers =
                        |extent: &rbd::diff::Extent| extent.offset <= place && extent.end() >= place + 4096;
                    assert!(extents.iter().any(covers), "{place}: {extents:?}");
                }
                assert!(extents.iter().all(|extent| extent.end() <= size), "{extents:?}");
                // Only the changed objects.
                assert!(extents.iter().map(|extent| extent.len).sum::<u64>() <= 3 * 4 * MIB, "{extents:?}");
            }
        }
        let diff = image.diff().from_snapshot("a").whole_objects(true);
        if features == Features::DEFAULT {
            let image = format!("rbd/{}/{name}", space.namespace());
            assert_eq!(diff.fast_diff().unwrap(), FastDiff::Encrypted { image });
        }
    }
}

/// A clone and its parent have different passphrases.
#[test]
fn a_clone_is_read_with_the_passphrases_of_the_whole_chain() {
    let space = Space::new();
    let (parents, own) = (Passphrase::new("the parent's"), Passphrase::new("its own"));
    space.create("foo", 32 * MIB).run().unwrap();
    let parent = space.open("foo").run().unwrap();
    parent.encryption().format(EncryptionFormat::Luks1, Cipher::Aes256, &parents).unwrap();
    parent.write_all_at(&[1; 4096], 0).unwrap();
    parent.write_all_at(&[2; 4096], 8 * MIB).unwrap();
    parent.flush().unwrap();
    parent.snapshots().create("s1").run().unwrap();
    parent.close().unwrap();
    space.clone_image("foo", "s1", "bar").format(CloneFormat::V2).run().unwrap();
    let clone = space.open("bar").run().unwrap();
    let formatted = clone.encryption().format(EncryptionFormat::Luks2, Cipher::Aes256, &own);
    if rbd::Cluster::librbd_version().minor < 18 {
        let error = formatted.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSupported, "{error}");
        assert!(error.to_string().contains("it is a clone; flatten it first"), "{error}");
        return;
    }
    formatted.unwrap();
    clone.close().unwrap();

    let read = |image: &rbd::Image, offset| {
        let mut byte = [0];
        image.read_exact_at(&mut byte, offset).unwrap();
        byte[0]
    };
    let clone = space.open("bar").run().unwrap();
    clone
        .encryption()
        .load_chain(&[(None, own.clone()), (Some(EncryptionFormat::Luks1), parents.clone())])
        .unwrap();
    assert_eq!((read(&clone, 0), read(&clone, 8 * MIB)), (1, 2));
    clone.write_all_at(&[3; 4096], 0).unwrap();
    clone.close().unwrap();

    let clone = space.open("bar").read_only(true).run().unwrap();
    let wrong = clone.encryption().load_chain(&[(None, own.clone()), (None, own.clone())]).unwrap_err();
    assert!(wrong.is_permission_denied(), "{wrong}");
    clone.encryption().load_chain(&[(None, own), (None, parents)]).unwrap();
    assert_eq!((read(&clone, 0), read(&clone, 8 * MIB)), (3, 2));
}

/// The call continues after its timeout. From then on the handle must not pass for a plain one: it
/// would copy decrypted data.
#[test]
fn encryption_that_is_loaded_after_the_timeout_counts_as_loaded() {
    if !alone("encryption::encryption_that_is_loaded_after_the_timeout_counts_as_loaded") {
        return;
    }
    crate::support::luks::the_usual_cost();
    let space = Space::new();
    space.create("foo", 32 * MIB).run().unwrap();
    let secret = Passphrase::new("x");
    space
        .open("foo")
        .run()
        .unwrap()
        .encryption()
        .format(EncryptionFormat::Luks2, Cipher::Aes256, &secret)
        .unwrap();
    // The other calls of a loading are much quicker than the derivation of the key.
    let hasty = crate::support::builder().call_timeout(Duration::from_millis(250)).connect().unwrap();
    let pool = hasty.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = (0..50).find_map(|_| {
        let image = pool.open("foo").run().ok()?;
        let error = image.encryption().load(EncryptionFormat::Luks2, &secret).expect_err("it takes long");
        (error.is_timed_out() && error.operation() == "decrypt").then_some(image)
    });
    let image = image.expect("the loading times out");
    crate::aio::eventually("it is loaded", || image.encryption().is_loaded());
    let error = image.copy_to(&space, "copy").run().unwrap_err();
    assert!(error.to_string().contains("this handle has encryption loaded"), "{error}");
}
