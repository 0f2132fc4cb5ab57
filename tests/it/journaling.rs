//! The content of an image's journal.

use rbd::{Features, Image};

use crate::support::{Space, pattern};

/// librbd splits a write in its journal. A crash between the parts leaves the first one, so each
/// part must hold whole blocks.
#[test]
fn a_write_is_split_between_blocks() {
    let space = Space::new();
    let features = Features::DEFAULT | Features::JOURNALING;
    space.create("foo", 4 << 20).features(features).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for blocks in [1, 4, 5, 8, 31, 64] {
        image.write_all_at(&pattern(3, blocks << 12), 0).unwrap();
    }
    image.aio().write(1 << 20, pattern(5, 16 << 10)).wait().unwrap();
    image.flush().unwrap();

    let parts = parts(&space, &image);
    assert_eq!(parts.iter().sum::<u64>(), (1 + 4 + 5 + 8 + 31 + 64 + 4) << 12, "{parts:?}");
    assert!(parts.iter().all(|len| len % 4096 == 0), "{parts:?}");
    assert!(parts.len() > 7, "none is split: {parts:?}");
}

/// Returns the lengths of the writes in the data objects of the journal. Each entry begins with the
/// same eight bytes. The event in it is the number of its kind, 1 for a write, and its values.
fn parts(space: &Space, image: &Image) -> Vec<u64> {
    let begin = 0x3141_5926_5358_9793_u64.to_le_bytes();
    let id = image.id().unwrap();
    let mut parts = Vec::new();
    for object in space.objects().list().unwrap() {
        let name = object.unwrap().name;
        if !name.starts_with("journal_data.") || !name.contains(&id) {
            continue;
        }
        let mut data = vec![0; 4 << 20];
        let len = space.objects().read_at(&name, &mut data, 0).unwrap();
        data.truncate(len);
        for entry in data.windows(55).filter(|entry| entry.starts_with(&begin)) {
            let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
            if number(35) as u32 == 1 {
                parts.push(number(47));
            }
        }
    }
    parts
}
