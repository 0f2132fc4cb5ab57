//! The walkthrough of 2016 that docs/kubernetes.md repeats, with the kernel alone: an image that
//! the kernel refuses to map, the fix, a file system, and the file read on a second machine.

use rbd::{Features, ImageSpec};
use rbd_testcluster::shared;

use super::guest::Guest;
use crate::support::Space;

/// The image cannot be mapped, the plan says what to do, and the test does it. Then two machines
/// use the volume, one after the other.
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

    // The failure of 2016: the refusal of the kernel gives the same error. Its log names the bit.
    let (kernels_kind, text) = first.fails(&["map", &spec, "--no-preflight"]);
    assert_eq!(kernels_kind, kind);
    assert!(text.contains("disable journaling"), "{text}");
    assert!(text.contains("kernel: rbd: image foo: image uses unsupported features: 0x40"), "{text}");
    assert_eq!(first.ok(&["devices"]), "");

    // A new file system, and a file in it.
    let mapped = first.ok(&["map", &spec, "--fix-features"]);
    let (device, disabled) = mapped.split_once('\t').unwrap();
    assert_eq!(disabled, "journaling");
    assert_eq!(space.open("foo").read_only(true).run().unwrap().features().unwrap(), Features::DEFAULT);
    assert!(device.starts_with(&format!("/dev/rbd0 {spec} {} rw {}", 128 << 20, shared_fsid())), "{device}");
    let volume = ["volume", "/dev/rbd0", "/plugins/rbd-image-foo", "/pods/1/volume"];
    assert_eq!(first.ok(&volume), r#"Staged { file_system: "ext4", formatted: true }"#);
    // The content belongs to a container, so it must not give rights on the node.
    for mount in mount_flags(&first) {
        assert!(mount.starts_with("rw,nosuid,nodev,"), "{mount}");
    }
    first.sh("echo hello ceph > /pods/1/volume/file");
    first.ok(&["end-volume", "/plugins/rbd-image-foo", "/pods/1/volume"]);
    first.ok(&["unmap", "/dev/rbd0"]);
    assert_eq!(first.ok(&["devices"]), "");
    first.0.shutdown().unwrap();

    let second = Guest::boot(shared().conf());
    let mapped = second.ok(&["map", &spec]);
    assert!(mapped.ends_with('\t'), "nothing to disable any more: {mapped}");
    let volume = ["volume", "/dev/rbd0", "/plugins/rbd-image-foo", "/pods/2/volume"];
    assert_eq!(second.ok(&volume), r#"Staged { file_system: "ext4", formatted: false }"#);
    assert_eq!(second.sh("cat /pods/2/volume/file"), "hello ceph");
    let (kind, text) = second.fails(&["unmap", "/dev/rbd0"]);
    assert!(kind.contains("/plugins/rbd-image-foo") && kind.contains("/pods/2/volume"), "{text}");
    second.ok(&["end-volume", "/plugins/rbd-image-foo", "/pods/2/volume"]);

    // Read-only at the second place, with the other flags kept; and flags that are removed.
    second.ok(&[&volume[..], &["--read-only"]].concat());
    let mounts = mount_flags(&second);
    assert!(mounts[0].starts_with("rw,nosuid,nodev,"), "{mounts:?}");
    assert!(mounts[1].starts_with("ro,nosuid,nodev,"), "{mounts:?}");
    second.ok(&["end-volume", "/plugins/rbd-image-foo", "/pods/2/volume"]);
    for (switch, missing, left) in
        [("--allow-suid", "nosuid", "nodev"), ("--allow-devices", "nodev", "nosuid")]
    {
        second.ok(&[&volume[..], &[switch]].concat());
        for mount in mount_flags(&second) {
            assert!(!mount.contains(missing) && mount.contains(left), "{switch}: {mount}");
        }
        second.ok(&["end-volume", "/plugins/rbd-image-foo", "/pods/2/volume"]);
    }

    // Existing data is never formatted, whether it is known or not.
    second.sh("dd if=/dev/zero of=/dev/rbd0 bs=1M count=2 conv=fsync 2>/dev/null");
    second.sh("echo data | dd of=/dev/rbd0 conv=fsync 2>/dev/null");
    let (kind, text) = second.fails(&["volume", "/dev/rbd0", "/plugins/rbd-image-foo", "/pods/2/volume"]);
    assert!(kind.starts_with("NoFileSystem {") && text.contains("it was not formatted"), "{kind} {text}");
    assert_eq!(second.sh("head -c 4 /dev/rbd0"), "data");
    second.ok(&["unmap", &spec]);
}

/// Returns the flags of the mounts of the device, in the order in which they were mounted.
fn mount_flags(guest: &Guest) -> [String; 2] {
    let mounts = guest.sh("grep ^/dev/rbd0 /proc/self/mounts | cut -d' ' -f4");
    let lines: Vec<_> = mounts.lines().map(|line| format!("{line},")).collect();
    lines.try_into().expect("two mounts")
}

fn shared_fsid() -> String {
    crate::support::cluster().fsid().unwrap()
}
