//! Images that are too small for their encryption header, from the beginning or since another
//! client has shrunk them. librbd 18.2 and later abort the process at calls on such an image.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::{ErrorKind, Features, Image};

use crate::support::Space;

const MIB: u64 = 1 << 20;
const HEADER: u64 = 4 * MIB;
const DATA: [u8; 4096] = [0x5a; 4096];

fn secret() -> Passphrase {
    Passphrase::new("x")
}

fn load(image: &Image) -> rbd::Result<()> {
    image.encryption().load(EncryptionFormat::Luks1, &secret())
}

/// Creates an encrypted image of 64 MiB, with data at its beginning.
fn encrypted(space: &Space, features: Features) -> Image {
    space.create("foo", 64 * MIB).features(features).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &secret()).unwrap();
    image.write_all_at(&DATA, 0).unwrap();
    image.flush().unwrap();
    image
}

/// Changes the stored size through a handle without encryption.
fn store_size(space: &Space, size: u64) {
    space.open("foo").run().unwrap().resize(size).allow_shrink(true).run().unwrap();
}

fn wait_for_size(image: &Image, size: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while image.size().unwrap() != size {
        assert!(Instant::now() < until, "{} instead of {size}", image.size().unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_image_that_is_too_small_for_the_header_is_not_formatted() {
    use EncryptionFormat::{Luks1, Luks2};
    let space = Space::new();
    for (format, cipher, order, header) in [
        (Luks1, Cipher::Aes128, 22, HEADER),
        (Luks2, Cipher::Aes256, 22, 16 * MIB),
        (Luks1, Cipher::Aes256, 12, 2_068_480),
    ] {
        let case = format!("{format:?} {cipher:?} {order}");
        space.create("foo", header).object_size(1 << order).run().unwrap();
        let image = space.open("foo").run().unwrap();
        image.write_all_at(&DATA, 0).unwrap();
        let error = image.encryption().format(format, cipher, &secret()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{case}: {error}");
        assert!(error.to_string().contains("no room for the encryption header"), "{case}: {error}");
        let mut found = [0; 4096];
        image.read_exact_at(&mut found, 0).unwrap();
        assert!(found == DATA && !image.encryption().is_loaded(), "{case}");

        image.resize(header + 8192).run().unwrap();
        image.encryption().format(format, cipher, &secret()).unwrap();
        assert_eq!(image.size().unwrap(), 8192, "{case}");
        image.write_all_at(&DATA, 4096).unwrap();
        assert_eq!(space.open("foo").read_only(true).run().unwrap().size().unwrap(), header + 8192, "{case}");
        image.close().unwrap();
        space.remove("foo").run().unwrap();
    }
}

#[test]
fn an_image_that_another_client_cuts_below_its_header_holds_nothing() {
    let space = Space::new();
    // Without the exclusive lock, each client resizes on its own.
    let image = encrypted(&space, Features::LAYERING);
    store_size(&space, MIB);
    wait_for_size(&image, 0);
    let stat = image.stat().unwrap();
    assert_eq!((stat.size, stat.objects, stat.object_size, stat.order), (0, 0, 4 * MIB, 22));
    assert_eq!(image.read_at(&mut [0; 4096], 0).unwrap(), 0);
    for error in [
        image.write_all_at(&DATA, 0).unwrap_err(),
        image.write_at(&DATA, 0).unwrap_err(),
        image.read_exact_at(&mut [0; 4096], 0).unwrap_err(),
        image.discard(0, 4096).unwrap_err(),
        image.write_zeroes(0, 4096).unwrap_err(),
        image.aio().write(0, Bytes::from_static(&DATA)).wait().unwrap_err(),
        image.aio().read(0, 4096).wait().unwrap_err(),
        image.aio().read_into(0, 4096, BytesMut::new()).wait().unwrap_err(),
        image.aio().discard(0, 4096).wait().unwrap_err(),
    ] {
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { size: 0, .. }), "{error}");
    }
    assert_eq!(image.diff().collect().unwrap(), []);
    for error in [
        image.resize(MIB).allow_shrink(true).run().unwrap_err(),
        image.snapshots().create("s").run().unwrap_err(),
        image.sparsify(4096).run().unwrap_err(),
        image.flush().unwrap_err(),
        load(&space.open("foo").run().unwrap()).unwrap_err(),
        load(&space.open("foo").read_only(true).run().unwrap()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("its encryption header: another client has shrunk it"), "{error}");
    }
    // The alternative that the errors name.
    store_size(&space, 64 * MIB);
    wait_for_size(&image, 60 * MIB);
    image.write_all_at(&DATA, 8 * MIB).unwrap();
    let found = image.aio().read(8 * MIB, 4096).wait().unwrap();
    assert!(found[..] == DATA);
    // This handle is closed while the image is smaller than its header.
    store_size(&space, MIB);
    wait_for_size(&image, 0);
    image.close().unwrap();
}

#[test]
fn a_queue_on_an_image_that_is_cut_below_its_header_refuses() {
    let space = Space::new();
    let image = encrypted(&space, Features::LAYERING);
    let mut queue = rbd::Queue::new(image, 4).unwrap();
    store_size(&space, MIB);
    wait_for_size(queue.image(), 0);
    let error = queue.write(1, 0, Bytes::from_static(&DATA)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { size: 0, .. }), "{error}");
}

#[test]
fn an_image_that_another_client_cuts_to_nothing_holds_nothing() {
    let space = Space::new();
    let image = encrypted(&space, Features::LAYERING);
    store_size(&space, 0);
    wait_for_size(&image, 0);
    let error = image.write_all_at(&DATA, 0).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { size: 0, .. }), "{error}");
    assert_eq!(image.stat().unwrap().size, 0);
}

/// An owner that keeps the exclusive lock shrinks the image for other clients.
#[test]
fn the_owner_of_the_lock_takes_a_size_as_its_release_does() {
    let space = Space::new();
    let image = encrypted(&space, Features::DEFAULT);
    image.exclusive_lock().acquire().unwrap();
    if rbd::Cluster::librbd_version().minor <= 16 {
        store_size(&space, MIB);
        wait_for_size(&image, 0);
        return;
    }
    // The size of the data, because the header is kept. The requester learns that.
    let error = space.open("foo").run().unwrap().resize(MIB).allow_shrink(true).run().unwrap_err();
    assert_eq!(error.errno(), Some(rbd::Errno::ESTALE), "{error}");
    wait_for_size(&image, MIB);
    let stored = space.open("foo").read_only(true).run().unwrap();
    assert_eq!(stored.size().unwrap(), MIB + HEADER);
    let mut found = [0; 4096];
    image.read_exact_at(&mut found, 0).unwrap();
    assert!(found == DATA);
}
