//! Reads that lend their data: the same bytes as other reads, in order, and nothing after a break.

use std::ops::ControlFlow::{Break, Continue};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use rbd::image::CloneFormat;
use rbd::{ErrorKind, Features, Image};

use crate::support::{Space, pattern};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 17 * MIB + 512;

/// Reads a range, and checks that the parts follow each other.
fn read(image: &Image, offset: u64, len: u64) -> rbd::Result<Vec<u8>> {
    let mut found = Vec::new();
    image.read_each(offset, len, |at, data| {
        assert_eq!(at, offset + found.len() as u64);
        assert!((1..=4 << 20).contains(&data.len()), "a part of {} bytes", data.len());
        found.extend_from_slice(data);
        Continue(())
    })?;
    Ok(found)
}

#[test]
fn the_parts_are_the_data() {
    let space = Space::new();
    space.create("plain", SIZE).run().unwrap();
    space.create("without-map", SIZE).features(Features::LAYERING).object_size(MIB).run().unwrap();
    space.create("striped", SIZE).object_size(MIB).striping(64 << 10, 3).run().unwrap();
    for name in ["plain", "without-map", "striped", "clone"] {
        if name == "clone" {
            let parent = space.open("plain").run().unwrap();
            parent.snapshots().create("snap").run().unwrap();
            space.clone_image("plain", "snap", "clone").format(CloneFormat::V2).run().unwrap();
        }
        let image = space.open(name).run().unwrap();
        // Objects that are full, in part and not written.
        image.write_all_at(&pattern(1, 3 << 20), 2 * MIB + 7).unwrap();
        image.write_all_at(&pattern(2, 1000), 9 * MIB).unwrap();
        image.write_all_at(&pattern(3, 512), SIZE - 512).unwrap();
        image.flush().unwrap();
        for handle in [&image, &space.open(name).read_only(true).run().unwrap()] {
            for (offset, len) in
                [(0, SIZE), (1, 1), (2 * MIB - 3, 5 * MIB), (SIZE - 512, 512), (SIZE, 0), (7, 0)]
            {
                let mut expected = vec![0; len as usize];
                handle.read_exact_at(&mut expected, offset).unwrap();
                assert!(read(handle, offset, len).unwrap() == expected, "{name} from {offset}, {len} bytes");
            }
        }
    }
}

#[test]
fn a_range_beyond_the_end_is_refused() {
    let space = Space::new();
    space.create("foo", SIZE).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for (offset, len) in [(SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (u64::MAX, 1), (0, u64::MAX)] {
        let error = image.read_each(offset, len, |_, _| unreachable!("nothing is read")).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::OutOfRange { offset, len, size: SIZE }, "{error}");
    }
}

#[test]
fn a_break_or_a_panic_ends_the_call() {
    let space = Space::new();
    space.create("foo", SIZE).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let mut parts = 0;
    let error = image
        .read_each(0, SIZE, |_, _| {
            parts += 1;
            if parts == 2 { Break(()) } else { Continue(()) }
        })
        .unwrap_err();
    assert_eq!((error.kind(), parts), (&ErrorKind::Stopped, 2), "{error}");
    let call = || image.read_each(0, SIZE, |_, _| panic!("in the callback"));
    let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "in the callback");
    // Nothing of it is left.
    assert_eq!(read(&image, 0, SIZE).unwrap().len() as u64, SIZE);
    image.resize(MIB).allow_shrink(true).run().unwrap();
    image.close().unwrap();
}

/// Callbacks of several threads run at the same time.
#[test]
fn threads_read_at_the_same_time() {
    let space = Space::new();
    space.create("foo", 16 * MIB).run().unwrap();
    let image = space.open("foo").read_only(true).run().unwrap();
    let (waiting, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begin = |place: u64| {
        let wait = |_: u64, data: &[u8]| {
            waiting.fetch_add(1, Ordering::SeqCst);
            while waiting.load(Ordering::SeqCst) < 4 {
                std::thread::yield_now();
            }
            read.fetch_add(data.len(), Ordering::SeqCst);
            Continue(())
        };
        image.read_each(place * 4 * MIB, 4 * MIB, wait).unwrap();
    };
    std::thread::scope(|scope| (0..4).for_each(|place| drop(scope.spawn(move || begin(place)))));
    assert_eq!(read.into_inner(), 16 << 20);
}
