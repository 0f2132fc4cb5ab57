//! The field report that this project started from, end to end.

use rbd::{Features, krbd::ImageSpec};
use rbd_testcluster::shared;

use super::guest::Guest;
use crate::support::Space;

/// The image does not map; the plan says what to do; it is done; then two machines, one after the other, use the volume.
#[test]
fn an_image_that_does_not_map_is_fixed_and_carries_a_file_to_another_machine() {
    let space = Space::new();
    space.create("foo", 128 << 20).features(Features::DEFAULT | Features::JOURNALING).run().unwrap();
    let spec = ImageSpec::new("rbd", "foo").namespace(space.namespace()).to_string();

    let first = Guest::boot(shared().conf());
    assert_eq!(first.ok(&["support"]), format!("Known({:?})", Features::from_bits_retain(0x1bf)));

    // Refused before the kernel is asked, and nothing is touched.
    let (kind, text) = first.fails(&["map", &spec]);
    assert!(kind.starts_with("FeaturesUnsupportedByKernel { plan: Ok(Plan"), "{kind}");
    assert!(text.contains(&format!("cannot map image '{spec}'")), "{text}");
    assert!(text.contains("does not support its features journaling; disable journaling"), "{text}");
    assert_eq!(first.ok(&["devices"]), "");

    // The original failure: the kernel's own refusal, made out to be the same error; its log says which bit.
    let (kernels_kind, text) = first.fails(&["map", &spec, "--no-preflight"]);
    assert_eq!(kernels_kind, kind);
    assert!(text.contains("disable journaling"), "{text}");
    assert!(text.contains("kernel: rbd: image foo: image uses unsupported features: 0x40"), "{text}");
    assert_eq!(first.ok(&["devices"]), "");

    // A file system of its own, and a file in it.
    let mapped = first.ok(&["map", &spec, "--fix-features"]);
    let (device, disabled) = mapped.split_once('\t').unwrap();
    assert_eq!(disabled, "journaling");
    assert_eq!(space.open("foo").read_only().run().unwrap().features().unwrap(), Features::DEFAULT);
    assert!(device.starts_with(&format!("/dev/rbd0 {spec} {} rw {}", 128 << 20, shared_fsid())), "{device}");
    first.sh(
        "/usr/sbin/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -F /dev/rbd0 && mkdir /vol",
    );
    first.sh("mount /dev/rbd0 /vol && echo hello ceph > /vol/file && umount /vol");
    first.ok(&["unmap", "/dev/rbd0"]);
    assert_eq!(first.ok(&["devices"]), "");
    first.0.shutdown().unwrap();

    let second = Guest::boot(shared().conf());
    let mapped = second.ok(&["map", &spec]);
    assert!(mapped.ends_with('\t'), "nothing to disable any more: {mapped}");
    assert_eq!(second.sh("mkdir /vol && mount /dev/rbd0 /vol && cat /vol/file && umount /vol"), "hello ceph");
    second.ok(&["unmap", &spec]);
}

fn shared_fsid() -> String {
    crate::support::cluster().fsid().unwrap()
}
