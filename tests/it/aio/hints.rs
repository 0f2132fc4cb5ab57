//! The hints that OSDs receive.

use bytes::{Bytes, BytesMut};
use rbd::{AccessHints, Cluster, Image, aio::Aio, image::Compare};

use super::{Freezer, eventually};
use crate::support::Space;

const MIB: u64 = 1 << 20;

/// Makes each operation that takes hints, and some that do not, on an object of 4 MiB.
fn use_object(aio: Aio<'_>, object: u64) {
    let at = object * 4 * MIB;
    aio.write(at, Bytes::from(vec![1; 4096])).wait().unwrap();
    assert_eq!(aio.read(at, 4096).wait().unwrap(), vec![1; 4096]);
    assert_eq!(aio.read_into(at + 512, 100, BytesMut::new()).wait().unwrap(), [1; 100][..]);
    let (expected, data) = (Bytes::from(vec![1; 512]), Bytes::from(vec![2; 512]));
    assert_eq!(aio.compare_and_write(at, expected, data).wait().unwrap(), Compare::Written);
    aio.write_same(at + 8192, 8192, Bytes::from_static(b"four")).wait().unwrap();
    aio.write_zeroes(at + 16384, 4096).wait().unwrap();
    aio.write_zeroes_thick(at + 32768, 4096).wait().unwrap();
    aio.write_vectored(at + 65536, vec![Bytes::from_static(b"hello"), Bytes::from_static(b" ceph")])
        .wait()
        .unwrap();
    aio.flush().wait().unwrap();
    let read = aio.read_vectored(at + 65536, vec![BytesMut::zeroed(5), BytesMut::zeroed(5)]).wait().unwrap();
    assert_eq!(read.concat(), b"hello ceph");
    assert_eq!(aio.read(at + 8192, 8).wait().unwrap(), b"fourfour"[..]);
}

/// Returns the OSD's descriptions of its last reads and writes of an object.
fn remembered(image: &Image, object: u64) -> Vec<String> {
    let name = format!("{}.{object:016x}:", image.block_name_prefix().unwrap());
    let ops = image.ioctx().cluster().osd_command(0, r#"{"prefix":"dump_historic_ops"}"#, b"").unwrap();
    let ops = String::from_utf8(ops).unwrap();
    ops.lines().filter(|line| line.contains("description") && line.contains(&name)).map(Into::into).collect()
}

#[test]
fn hints_reach_the_osd_with_those_operations_that_take_them() {
    // Few other tests use this cluster, and its OSD remembers only the slowest operations.
    let freezer = Freezer::get();
    let cluster = Cluster::builder().ignore_environment(true).conf_file(freezer.0.conf()).connect().unwrap();
    let space = Space::on(&cluster);
    space.create("foo", 8 * MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    // By default it remembers only twenty.
    let remember = r#"{"prefix":"config set","var":"osd_op_history_size","val":["1000"]}"#;
    image.ioctx().cluster().osd_command(0, remember, b"").unwrap();
    use_object(image.aio(), 0);
    use_object(image.aio().hints(AccessHints::SEQUENTIAL | AccessHints::DONT_NEED), 1);
    let hint = "fadvise_dontneed";
    // It records them a moment after they have ended.
    for sign in ["write 0~4096", "read 0~4096", "read 512~100", "cmpext "] {
        eventually(sign, || {
            remembered(&image, 1).iter().any(|op| op.contains(sign) && op.contains(hint))
                && remembered(&image, 0).iter().any(|op| op.contains(sign))
        });
    }
    // A vectored write never has hints.
    let vectored = |op: &String| op.contains("write 65536~10");
    eventually("a vectored write", || {
        [0, 1].iter().all(|object| remembered(&image, *object).iter().any(vectored))
    });
    assert!(!remembered(&image, 1).iter().any(|op| vectored(op) && op.contains(hint)));
    let plain = remembered(&image, 0);
    assert!(!plain.iter().any(|op| op.contains("fadvise")), "{plain:#?}");
}
