//! Blocking I/O: reads return what was written, ranges are checked, and the stream traits behave as
//! for files.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use rbd::{
    AccessHints, Errno, ErrorKind, Features, Image,
    image::{Compare, Cursor},
};

use crate::support::{Space, has_object};

const MIB: u64 = 1 << 20;

fn image(space: &Space) -> Image {
    space.create("foo", 8 * MIB).run().unwrap();
    space.open("foo").run().unwrap()
}

fn read(image: &Image, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; len];
    image.read_exact_at(&mut buffer, offset).unwrap();
    buffer
}

#[test]
fn what_is_written_is_read_across_objects() {
    let space = Space::new();
    let image = image(&space);
    let data: Vec<u8> = (0..3 * MIB).map(|n| (n % 251) as u8).collect();
    image.write_all_at(&data, 3 * MIB - 7).unwrap();
    image.flush().unwrap();
    image.invalidate_cache().unwrap();
    assert_eq!(read(&image, 3 * MIB - 7, data.len()), data);
    assert_eq!(read(&image, 0, 4096), vec![0; 4096], "what was never written reads as zeros");
    image.close().unwrap();
    assert_eq!(read(&space.open("foo").read_only(true).run().unwrap(), 3 * MIB - 7, data.len()), data);
}

#[test]
fn ranges_are_cut_or_refused_as_documented() {
    let space = Space::new();
    let image = image(&space);
    let size = 8 * MIB;
    let mut buffer = [0; 100];
    assert_eq!(image.read_at(&mut buffer, size - 10).unwrap(), 10);
    assert_eq!(image.read_at(&mut buffer, size).unwrap(), 0);
    assert_eq!(image.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    assert_eq!(image.write_at(&[1; 100], size - 10).unwrap(), 10);
    assert_eq!(image.write_at(&[], size).unwrap(), 0);
    let refused = |error: rbd::Error, offset, len| {
        assert_eq!(*error.kind(), ErrorKind::OutOfRange { offset, len, size }, "{error}");
        error.to_string()
    };
    refused(image.write_at(&[1], size).unwrap_err(), size, 1);
    refused(image.read_exact_at(&mut buffer, size - 10).unwrap_err(), size - 10, 100);
    refused(image.discard(size, 1).unwrap_err(), size, 1);
    refused(image.write_zeroes(u64::MAX, 2).unwrap_err(), u64::MAX, 2);
    refused(image.compare_and_write(size - 1, &[0; 2], &[1; 2]).unwrap_err(), size - 1, 2);
    let text = refused(image.write_all_at(&[2; 100], size - 10).unwrap_err(), size - 10, 100);
    let spec = format!("rbd/{}/foo", space.namespace());
    assert_eq!(
        text,
        format!(
            "cannot write 100 bytes at offset 8388598 of image '{spec}': the image has 8388608 \
             bytes (EINVAL 22); resize the image or shorten the range"
        )
    );
    assert_eq!(read(&image, size - 10, 10), [1; 10], "the refused write left it alone");
}

#[test]
fn zeroes_patterns_and_discards() {
    let space = Space::new();
    let image = image(&space);
    image.write_same(0, 4 * MIB, b"0123456789abcdef").unwrap();
    assert_eq!(read(&image, MIB, 20), b"0123456789abcdef0123");
    image.write_zeroes(100, 1000).unwrap();
    image.write_zeroes_thick(2 * MIB, 4096).unwrap();
    image.discard(4 * MIB, 4 * MIB).unwrap();
    assert_eq!(read(&image, 100, 1000), [0; 1000]);
    assert_eq!(read(&image, 96, 4), b"0123");
    assert_eq!(read(&image, 2 * MIB, 4096), [0; 4096]);
    image.discard(0, 4 * MIB).unwrap();
    assert_eq!(read(&image, MIB, 4096), [0; 4096]);
    assert_eq!(*image.write_same(0, 100, &[1; 16]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(*image.write_same(0, 100, &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn only_thick_zeroes_take_space() {
    let space = Space::new();
    let image = image(&space);
    image.write_zeroes(0, 4096).unwrap();
    image.write_zeroes_thick(4 * MIB, 4096).unwrap();
    image.flush().unwrap();
    assert_eq!([has_object(&image, 0), has_object(&image, 1)], [false, true]);
}

#[test]
fn ranges_beyond_two_gib_go_through() {
    let space = Space::new();
    space.create("big", 6 << 30).features(Features::LAYERING).object_size(32 << 20).run().unwrap();
    let image = space.open("big").run().unwrap();
    image.write_all_at(&[9; 4096], (5 << 30) - 2048).unwrap();
    image.write_zeroes(1 << 20, 5 << 30).unwrap();
    assert_eq!(read(&image, (5 << 30) - 2048, 4096), [0; 4096]);
    image.discard(0, 6 << 30).unwrap();
}

#[test]
fn compare_and_write_returns_the_different_offset() {
    let space = Space::new();
    let image = image(&space);
    image.write_all_at(&[5; 1024], MIB).unwrap();
    assert_eq!(image.compare_and_write(MIB, &[5; 512], &[6; 512]).unwrap(), Compare::Written);
    let mut expected = [5; 512];
    expected[100] = 0;
    assert_eq!(
        image.compare_and_write(MIB + 512, &expected, &[7; 512]).unwrap(),
        Compare::Differs(MIB + 612)
    );
    image.write_all_at(&[5; 512], 6 * MIB + 512).unwrap();
    let in_second_object = image.compare_and_write(6 * MIB + 512, &expected, &[7; 512]).unwrap();
    assert_eq!(in_second_object, Compare::Differs(6 * MIB + 612));
    assert_eq!(read(&image, MIB, 1024), [[6; 512], [5; 512]].concat());
    assert_eq!(image.compare_and_write(5, &[], &[]).unwrap(), Compare::Written, "and no abort");
    let error = image.compare_and_write(4 * MIB - 256, &[0; 512], &[0; 512]).unwrap_err();
    assert!(error.to_string().contains("must lie within one "), "across objects: {error}");
    let error = image.compare_and_write(0, &[0; 2], &[0; 3]).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn reads_at_the_same_time_as_writes() {
    let space = Space::new();
    let image = Arc::new(image(&space));
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let image = Arc::clone(&image);
            scope.spawn(move || {
                for round in 0..20_u8 {
                    let offset = u64::from(n) * 2 * MIB + u64::from(round) * 8192;
                    image.write_all_at(&[n * 20 + round; 8192], offset).unwrap();
                    assert_eq!(read(&image, offset, 8192), [n * 20 + round; 8192]);
                }
            });
        }
    });
}

#[test]
fn a_cursor_is_a_file() {
    let space = Space::new();
    let image = image(&space);
    let mut cursor = Cursor::new(&image);
    cursor.write_all(b"hello ceph").unwrap();
    cursor.flush().unwrap();
    assert_eq!(cursor.position(), 10);
    cursor.seek(SeekFrom::Start(6)).unwrap();
    let mut word = [0; 4];
    cursor.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ceph");
    assert_eq!(cursor.seek(SeekFrom::End(-3)).unwrap(), 8 * MIB - 3);
    let mut rest = Vec::new();
    assert_eq!(cursor.read_to_end(&mut rest).unwrap(), 3);
    let error = cursor.write(b"x").unwrap_err();
    assert_eq!(
        (error.kind(), Errno::from_io_error(&error)),
        (std::io::ErrorKind::InvalidInput, Some(Errno::EINVAL))
    );
    assert!(cursor.seek(SeekFrom::Current(-100_000_000)).is_err());
    assert_eq!(cursor.position(), 8 * MIB, "a refused seek moves nothing");
    let copied = std::io::copy(&mut Cursor::new(&image), &mut std::io::sink()).unwrap();
    assert_eq!(copied, 8 * MIB);
}

#[test]
fn hints_do_not_change_what_is_read_and_written() {
    let space = Space::new();
    space.create("foo", 8192).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let all = [AccessHints::empty(), AccessHints::RANDOM, AccessHints::SEQUENTIAL | AccessHints::DONT_NEED];
    for (seed, hints) in all.into_iter().enumerate() {
        let data = [seed as u8 + 1; 4096];
        assert_eq!(image.hints(hints).write_at(&data, 4096).unwrap(), 4096);
        let mut back = [0; 8192];
        assert_eq!(image.hints(hints).read_at(&mut back, 4096).unwrap(), 4096);
        assert_eq!(back[..4096], data);
    }
}
