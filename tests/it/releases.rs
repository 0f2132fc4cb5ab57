//! Differences between releases that no other test shows: see docs/releases.md.

use std::time::SystemTime;

use rbd::image::Compare;
use rbd::{Cluster, Errno};

use crate::support::Space;

const MIB: u64 = 1 << 20;

#[test]
fn how_much_a_compare_and_write_covers() {
    let space = Space::new();
    space.create("foo", 8 * MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    // Within one sector of 512 bytes, across two sectors, one page, up to the end of an object.
    for (offset, len) in [(0, 512), (256, 512), (4096, 4096), (MIB, 3 * MIB)] {
        let (zeroes, ones) = (vec![0; len as usize], vec![1; len as usize]);
        let written = image.compare_and_write(offset, &zeroes, &ones);
        if Cluster::librbd_version().minor > 16 || offset % 512 + len <= 512 {
            assert_eq!(written.unwrap(), Compare::Written, "{len} at {offset}");
        } else {
            let error = written.unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EINVAL), "{error}");
            assert!(error.to_string().contains("must lie within one sector of 512 bytes"), "{error}");
        }
        image.write_all_at(&zeroes, offset).unwrap();
    }
    let error = image.compare_and_write(4 * MIB - 256, &[0; 512], &[1; 512]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL), "never across objects: {error}");
}

#[test]
fn the_time_of_an_object_is_finer_with_newer_libraries() {
    let space = Space::new();
    let modified = |name| {
        space.objects().write_full(name, b"x").unwrap();
        let modified = space.objects().stat(name).unwrap().modified;
        modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos()
    };
    // One may be at a whole second.
    let fine = ["a", "b", "c"].map(modified).into_iter().any(|nanoseconds| nanoseconds > 0);
    assert_eq!(fine, Cluster::librbd_version().minor > 16);
}

#[test]
fn the_version_is_that_of_the_release() {
    let (librbd, librados) = (Cluster::librbd_version(), Cluster::librados_version());
    assert!([16, 17, 18, 19, 20].contains(&librbd.minor) && librbd.major == 1, "{librbd}");
    assert_eq!(
        librados.major, 3,
        "it stayed, so what a library can do is asked of librbd or of its functions"
    );
}
