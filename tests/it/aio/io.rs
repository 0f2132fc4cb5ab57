//! Every operation and every refusal.

use bytes::{Bytes, BytesMut};
use rbd::{Errno, ErrorKind, Image, image::Compare};

use crate::support::{Space, has_object};

const MIB: u64 = 1 << 20;

fn image(space: &Space) -> Image {
    space.create("foo", 16 * MIB).run().unwrap();
    space.open("foo").run().unwrap()
}

fn at(image: &Image, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0x11; len];
    image.read_exact_at(&mut data, offset).unwrap();
    data
}

#[test]
fn what_is_written_is_read() {
    let space = Space::new();
    let image = image(&space);
    let aio = image.aio();
    let data = Bytes::from((0..100_000).map(|n| n as u8).collect::<Vec<_>>());
    aio.write(4 * MIB - 50_000, data.clone()).wait().unwrap();
    assert_eq!(at(&image, 4 * MIB - 50_000, 100_000), data);
    assert_eq!(aio.read(4 * MIB - 50_000, 100_000).wait().unwrap(), data);
    assert_eq!(aio.read(4 * MIB - 50_001, 2).wait().unwrap(), [0, 0][..]);
    assert_eq!(aio.read(16 * MIB - 1, 1).wait().unwrap(), [0][..]);
    aio.flush().wait().unwrap();
}

#[test]
fn reading_appends_and_allocates_nothing_where_there_is_room() {
    let space = Space::new();
    let image = image(&space);
    image.write_all_at(b"hello ceph", 0).unwrap();
    let mut buffer = BytesMut::with_capacity(64);
    buffer.extend_from_slice(b"> ");
    let address = buffer.as_ptr();
    let buffer = image.aio().read_into(0, 10, buffer).wait().unwrap();
    assert_eq!((&buffer[..], buffer.as_ptr()), (&b"> hello ceph"[..], address));
    let buffer = image.aio().read_into(6, 100, buffer).wait().unwrap();
    assert_eq!(buffer[..16], b"> hello cephceph"[..]);
    assert_eq!((buffer.len(), buffer[16..].iter().all(|byte| *byte == 0)), (112, true));
}

#[test]
fn nothing_is_a_valid_amount() {
    let space = Space::new();
    let image = image(&space);
    let aio = image.aio();
    assert_eq!(aio.read(16 * MIB, 0).wait().unwrap(), [][..]);
    aio.write(5, Bytes::new()).wait().unwrap();
    aio.discard(0, 0).wait().unwrap();
    aio.write_zeroes(0, 0).wait().unwrap();
    aio.write_same(0, 0, Bytes::from_static(b"ab")).wait().unwrap();
    aio.write_vectored(0, vec![Bytes::new(); 20]).wait().unwrap();
    assert_eq!(aio.read_vectored(0, vec![BytesMut::new()]).wait().unwrap(), [BytesMut::new()]);
    assert_eq!(aio.compare_and_write(0, Bytes::new(), Bytes::new()).wait().unwrap(), Compare::Written);
    assert_eq!(image.compare_and_write(0, &[], &[]).unwrap(), Compare::Written);
    image.write_same(0, 0, b"ab").unwrap();
    image.discard(0, 0).unwrap();
    image.write_zeroes(0, 0).unwrap();
}

/// Other bindings have written the whole capacity, and thereby arbitrary memory.
#[test]
fn a_write_is_as_long_as_its_data() {
    let space = Space::new();
    let image = image(&space);
    image.write_all_at(&[0xAA; 8192], 0).unwrap();
    let mut data = BytesMut::with_capacity(4096);
    data.extend_from_slice(&[0x5A; 10]);
    image.aio().write(0, data.freeze()).wait().unwrap();
    let mut parts = vec![BytesMut::with_capacity(4096), BytesMut::with_capacity(4096)];
    parts.iter_mut().for_each(|part| part.extend_from_slice(&[0x5A; 10]));
    image.aio().write_vectored(4096, parts.into_iter().map(BytesMut::freeze).collect()).wait().unwrap();
    let all = at(&image, 0, 8192);
    for (offset, byte) in all.iter().enumerate() {
        let written = offset < 10 || (4096..4116).contains(&offset);
        assert_eq!(*byte, if written { 0x5A } else { 0xAA }, "offset {offset}");
    }
}

#[test]
fn vectors_of_any_length() {
    let space = Space::new();
    let image = image(&space);
    for count in [1, 2, 8, 9, 40] {
        let parts: Vec<Bytes> = (0..count).map(|n| Bytes::from(vec![n as u8 + 1; n * 100 + 1])).collect();
        let whole = parts.concat();
        let offset = 4 * MIB - 700;
        image.aio().write_vectored(offset, parts.clone()).wait().unwrap();
        assert_eq!(at(&image, offset, whole.len()), whole);
        let buffers = parts.iter().map(|part| BytesMut::zeroed(part.len())).collect();
        let back = image.aio().read_vectored(offset, buffers).wait().unwrap();
        assert_eq!(back, parts);
    }
}

#[test]
fn zeros_patterns_and_discards() {
    let space = Space::new();
    let image = image(&space);
    let aio = image.aio();
    aio.write_same(0, 12 * MIB, Bytes::from_static(b"abcd")).wait().unwrap();
    assert!(at(&image, 0, 12 << 20).chunks(4).all(|four| four == b"abcd"));
    aio.write_zeroes(1000, 5 * MIB).wait().unwrap();
    aio.write_zeroes_thick(6 * MIB, 4096).wait().unwrap();
    aio.discard(8 * MIB, 4 * MIB).wait().unwrap();
    let all = at(&image, 0, 12 << 20);
    let zero = |from: usize, to: usize| all[from..to].iter().all(|byte| *byte == 0);
    assert!(zero(1000, 1000 + (5 << 20)) && zero(6 << 20, (6 << 20) + 4096) && zero(8 << 20, 12 << 20));
    assert_eq!((&all[996..1000], &all[1000 + (5 << 20)..1004 + (5 << 20)]), (&b"abcd"[..], &b"abcd"[..]));
}

#[test]
fn only_thick_zeroes_take_space() {
    let space = Space::new();
    let image = image(&space);
    image.aio().write_zeroes(0, 4096).wait().unwrap();
    image.aio().write_zeroes_thick(4 * MIB, 4096).wait().unwrap();
    image.aio().flush().wait().unwrap();
    assert_eq!([has_object(&image, 0), has_object(&image, 1)], [false, true]);
}

#[test]
fn ranges_beyond_what_an_int_counts() {
    let space = Space::new();
    space.create("big", 5 << 30).run().unwrap();
    let image = space.open("big").run().unwrap();
    image.write_all_at(&[7; 4096], 4 << 30).unwrap();
    image.aio().write_zeroes(0, (4 << 30) + 4096).wait().unwrap();
    assert_eq!(at(&image, 4 << 30, 4096), [0; 4096]);
    image.write_all_at(&[7; 4096], 0).unwrap();
    image.aio().discard(0, 5 << 30).wait().unwrap();
    assert_eq!(at(&image, 0, 4096), [0; 4096]);
}

#[test]
fn compare_and_write_returns_the_different_offset() {
    let space = Space::new();
    let image = image(&space);
    let offset = 4 * MIB + 1024;
    image.write_all_at(&[1; 512], offset).unwrap();
    let new = Bytes::from(vec![2; 512]);
    let mut wrong = vec![1; 512];
    wrong[300] = 9;
    let refused = image.aio().compare_and_write(offset, wrong, new.clone()).wait().unwrap();
    assert_eq!(refused, Compare::Differs(offset + 300));
    assert_eq!(at(&image, offset, 512), [1; 512]);
    let written = image.aio().compare_and_write(offset, vec![1; 512], new).wait().unwrap();
    assert_eq!(written, Compare::Written);
    assert_eq!(at(&image, offset, 512), [2; 512]);
    let across = image.aio().compare_and_write(4 * MIB - 256, vec![0; 512], vec![1; 512]);
    let error = across.wait().unwrap_err();
    assert!(error.to_string().contains("must lie within one "), "{error}");
}

/// The call exists since Ceph 18.2. Older libraries report that.
#[test]
fn vectored_compare_and_write_works_or_names_the_release() {
    let space = Space::new();
    let image = image(&space);
    let (expected, data) = (vec![Bytes::from(vec![0; 512])], vec![Bytes::from(vec![1; 256]); 2]);
    let outcome = image.aio().compare_and_write_vectored(0, expected, data).wait();
    let version = rbd::Cluster::librbd_version();
    if (version.major, version.minor) >= (1, 18) {
        assert_eq!(outcome.unwrap(), Compare::Written);
        assert_eq!(at(&image, 0, 512), [1; 512]);
    } else {
        let error = outcome.unwrap_err();
        let ErrorKind::LibraryTooOld { symbol, needs, .. } = error.kind() else { panic!("{error}") };
        assert_eq!((*symbol, *needs), ("rbd_aio_compare_and_writev", "Ceph 18.2"));
    }
}

#[test]
fn ranges_outside_of_the_image_are_refused() {
    let space = Space::new();
    let image = image(&space);
    let size = 16 * MIB;
    let refused = |outcome: rbd::Result<()>, offset, len| {
        let error = outcome.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::OutOfRange { offset, len, size }, "{error}");
    };
    let aio = image.aio();
    let data = || Bytes::from_static(&[1; 512]);
    refused(aio.read(size - 511, 512).wait().map(drop), size - 511, 512);
    refused(aio.read_into(size + 1, 0, BytesMut::new()).wait().map(drop), size + 1, 0);
    refused(aio.read_vectored(size, vec![BytesMut::zeroed(1)]).wait().map(drop), size, 1);
    refused(aio.write(u64::MAX - 10, data()).wait(), u64::MAX - 10, 512);
    refused(aio.write_vectored(size - 1, vec![data(), data()]).wait(), size - 1, 1024);
    refused(aio.discard(1, size).wait(), 1, size);
    refused(aio.write_zeroes(0, u64::MAX).wait(), 0, u64::MAX);
    refused(aio.write_same(size - 512, 1024, data()).wait(), size - 512, 1024);
    refused(aio.compare_and_write(size, data(), data()).wait().map(drop), size, 512);
    let text = aio.read(size, 1).wait().unwrap_err().to_string();
    assert!(text.starts_with("cannot read 1 byte at offset 16777216 of image 'rbd/test-"), "{text}");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let space = Space::new();
    space.create("big", 5 << 30).run().unwrap();
    let image = space.open("big").run().unwrap();
    let aio = image.aio();
    for outcome in [
        aio.read(0, (1 << 30) + 1).wait().map(drop),
        aio.write_same(0, 100, Bytes::from_static(&[0; 3])).wait(),
        aio.write_same(0, 100, Bytes::new()).wait(),
        aio.compare_and_write(0, vec![0; 512], vec![0; 1024]).wait().map(drop),
        aio.read_vectored(0, vec![]).wait().map(drop),
        aio.write_vectored(0, vec![]).wait(),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn a_refusal_of_librbd_is_an_error() {
    let space = Space::new();
    drop(image(&space));
    let image = space.open("foo").read_only(true).run().unwrap();
    let error = image.aio().write(0, Bytes::from_static(b"no")).wait().unwrap_err();
    assert_eq!((error.is_read_only(), error.errno()), (true, Some(Errno::EROFS)), "{error}");
}

#[test]
fn an_image_that_shrinks_gives_an_error_and_no_half_read() {
    let space = Space::new();
    let image = image(&space);
    let reads: Vec<_> = (0..200).map(|_| image.aio().read(8 * MIB - 4096, 8192)).collect();
    image.resize(8 * MIB).allow_shrink(true).run().unwrap();
    for read in reads {
        match read.wait() {
            Ok(data) => assert_eq!(data.len(), 8192),
            Err(error) => assert!(error.to_string().contains("8192 bytes at offset"), "{error}"),
        }
    }
}
