//! Arguments that librbd does not check: numbers that it narrows, deeply nested texts, an image as
//! its own target.

use std::time::Duration;

use rbd::mirror::{BootstrapToken, Direction};
use rbd::{ErrorKind, Features, Queue, Result};

use super::test;
use crate::support::{Space, alone, builder, pattern, unique};

const MIB: u64 = 1 << 20;

/// The numbers for each argument: C narrows some to 32 bits, signed or unsigned, which changes
/// them.
const NUMBERS: [u64; 18] = [
    0,
    1,
    255,
    256,
    257,
    (1 << 16) - 1,
    1 << 16,
    (1 << 16) + 1,
    4096,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    (1 << 32) + 2,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

fn refused_or(what: &str, result: Result<()>, check: impl FnOnce()) {
    match result {
        Ok(()) => check(),
        // librbd itself refuses some numbers, and unknown features.
        Err(error) => {
            let expected = [Some(rbd::Errno::EINVAL), Some(rbd::Errno::ENOSYS)];
            assert!(expected.contains(&error.errno()), "{what}: {error}");
        }
    }
}

/// librbd narrowed a count of 2^32 to 0, and divided by it.
#[test]
fn numbers_that_c_would_narrow_are_refused_on_every_builder() {
    if !alone(test!("arguments::numbers_that_c_would_narrow_are_refused_on_every_builder")) {
        return;
    }
    let space = Space::new();
    let base = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    space.create("parent", MIB).features(base | Features::DEEP_FLATTEN).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.snapshots().create("s").run().unwrap();
    parent.snapshots().protect("s").unwrap();

    macro_rules! with_number {
        ($builder:expr, $setter:expr, $number:expr) => {
            match $setter {
                0 => $builder.striping(4096, $number).run(),
                1 => $builder.striping($number, 2).run(),
                2 => $builder.object_size($number).run(),
                3 => $builder.features(base | Features::JOURNALING).journal_object_size($number).run(),
                4 => $builder.features(base | Features::JOURNALING).journal_splay_width($number).run(),
                _ => $builder.features(Features::from_bits_retain($number)).run(),
            }
        };
    }
    let builders = ["create", "clone", "copy", "deep copy", "migrate"];
    for setter in 0..6 {
        for number in NUMBERS {
            for which in builders {
                // All creations share these checks, except for features.
                if setter == 5 && which != "create" {
                    continue;
                }
                // Copying few bytes at a time takes minutes, and a deep copy to many objects, too.
                let few = setter == 1 && number < 4096 && which != "create";
                let many = setter == 0 && number > 255 && number < 1 << 32 && which == "deep copy";
                if few || many {
                    continue;
                }
                let name = unique("new");
                let what = format!("{which}, setter {setter}, {number}");
                let result = match which {
                    "create" => with_number!(space.create(&name, MIB), setter, number),
                    "clone" => with_number!(space.clone_image("parent", "s", &name), setter, number),
                    "copy" => with_number!(parent.copy_to(&space, &name), setter, number),
                    "deep copy" => with_number!(parent.deep_copy_to(&space, &name), setter, number),
                    _ => {
                        if !space.list().unwrap().iter().any(|image| image.name == "moves") {
                            space.create("moves", MIB).run().unwrap();
                        }
                        let moved =
                            with_number!(space.prepare_migration("moves", &space, &name), setter, number);
                        if moved.is_ok() {
                            space.migration(&name).abort().run().unwrap();
                        }
                        refused_or(&what, moved, || {});
                        continue;
                    }
                };
                refused_or(&what, result, || {
                    let made = space.open(&name).run().unwrap();
                    match setter {
                        0 => assert_eq!(made.stripe_count().unwrap(), number, "{what}"),
                        1 => assert_eq!(made.stripe_unit().unwrap(), number, "{what}"),
                        2 => assert_eq!(made.stat().unwrap().object_size, number, "{what}"),
                        _ => {}
                    }
                    made.write_all_at(&[7; 512], MIB - 512).unwrap();
                    for snapshot in made.snapshots().list().unwrap() {
                        made.snapshots().remove(&snapshot.name).unprotect(true).run().unwrap();
                    }
                    made.close().unwrap();
                    space.remove(&name).run().unwrap();
                });
            }
        }
    }
}

/// librbd's parser is recursive.
#[test]
fn deeply_nested_texts_are_refused() {
    if !alone(test!("arguments::deeply_nested_texts_are_refused")) {
        return;
    }
    let space = Space::new();
    let refused = |result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().len() < 500, "the text is not repeated: {error}");
    };
    for level in ["[", "{\"a\":", "[{\"a\":[", " [\n"] {
        let text = level.repeat(200_000);
        refused(space.prepare_import(&text, "new").run());
        let inside = format!("{{\"type\": \"raw\", \"stream\": {text}");
        refused(space.prepare_import(&inside, "new").run());
        // A command that is nested so deeply ends the daemon that parses it.
        let command = format!("{{\"prefix\": \"status\", \"a\": {text}");
        refused(space.cluster().mon_command(&command, b"").map(drop));
        refused(space.cluster().osd_command(0, &text, b"").map(drop));
    }
    let cluster = builder().connect().unwrap();
    let name = unique("nested");
    cluster.pools().create(&name).unwrap();
    let pool = cluster.ioctx(&name).unwrap();
    pool.init().force(true).run().unwrap();
    pool.mirroring().set_mode(rbd::mirror::PoolMode::Image).unwrap();
    for level in ["[", "{\"a\":"] {
        let token = base64(&level.repeat(200_000));
        refused(pool.mirroring().import_bootstrap_token(&BootstrapToken::new(&token), Direction::RxOnly));
    }
    cluster.pools().remove(&name).unwrap();
}

pub(super) fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*part.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= part.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// librbd zeroes the target first, and then copies the zeros.
#[test]
fn an_image_is_not_copied_over_itself() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let data = pattern(9, 8192);
    image.write_all_at(&data, 0).unwrap();
    image.snapshots().create("s").run().unwrap();
    let second = space.open("foo").run().unwrap();
    let by_id = space.open_by_id(&image.id().unwrap()).run().unwrap();
    let elsewhere = builder().connect().unwrap();
    let elsewhere = elsewhere.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let other_client = elsewhere.open("foo").run().unwrap();
    for (from, to) in [(&image, &image), (&image, &second), (&second, &by_id), (&image, &other_client)] {
        let error = from.copy_over(to).run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("the same image"), "{error}");
    }
    let mut now = vec![0; data.len()];
    image.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(now, data, "nothing was touched");
    // A snapshot of the same image has other content.
    image.write_all_at(&[1; 8192], 0).unwrap();
    let then = space.open("foo").snapshot("s").run().unwrap();
    then.copy_over(&image).run().unwrap();
    image.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(now, data, "the snapshot is back");
    // The same name in another namespace is another image.
    let other = Space::new();
    other.create("foo", MIB).run().unwrap();
    let target = other.open("foo").run().unwrap();
    image.copy_over(&target).run().unwrap();
    target.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(now, data);
}

/// Each is added to a time, in this crate or in Ceph.
#[test]
fn timeouts_of_any_length_are_no_shorter_than_asked_for() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
        let timeouts = builder().connect_timeout(timeout).mon_timeout(timeout).osd_timeout(timeout);
        let cluster = timeouts.call_timeout(timeout).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        assert_eq!(pool.survey().run().unwrap().map(Result::unwrap).count(), 1);
        let image = pool.open("foo").run().unwrap();
        image.write_all_at(&[1; 4096], 0).unwrap();
        image.aio().flush().timeout(timeout).wait().unwrap();
        let mut queue = Queue::new(image, 1).unwrap();
        queue.set_timeout(timeout);
        queue.flush(1).unwrap();
        while !queue.wait(timeout).unwrap() {}
        queue.reap().unwrap().result.unwrap();
        queue.close().unwrap();
    }
}
