//! Machines with other settings: without the module, with one major number per image, with udev.

use rbd_testcluster::shared;
use rbd_testvm::RbdModule;

use super::guest::Guest;
use crate::support::Space;

#[test]
fn udev_is_waited_for_and_the_module_is_loaded_on_request() {
    let space = Space::new();
    space.create("foo", 64 << 20).run().unwrap();
    let spec = format!("rbd/{}/foo", space.namespace());
    let vm = Guest::builder(shared().conf()).udev(true).rbd_module(RbdModule::Unloaded).boot().unwrap();
    let guest = Guest(vm);

    let support = guest.ok(&["support"]);
    assert!(support.starts_with("ModuleNotLoaded { expected: Features(layering, striping,"), "{support}");
    assert_eq!(guest.ok(&["devices"]), "");
    let (kind, text) = guest.fails(&["map", &spec]);
    assert_eq!(kind, "NotSupported");
    assert!(text.contains("the kernel's rbd module is not loaded"), "{text}");

    guest.ok(&["map", &spec, "--load-module"]);
    // udev has run its rules for this device, so its record exists, and only we use the device.
    guest.sh("[ -e /run/udev/data/b$(cat /sys/block/rbd0/dev) ]");
    for _ in 0..5 {
        guest.ok(&["unmap", "/dev/rbd0"]);
        guest.ok(&["map", &spec]);
    }
    guest.ok(&["unmap", "/dev/rbd0"]);
    // The wait can be turned off.
    guest.ok(&["map", &spec, "-o", "noudev"]);
    guest.ok(&["unmap", "/dev/rbd0"]);

    // The old numbering of devices: a major number for each image, and control files with other
    // names.
    guest.sh("modprobe -r rbd; modprobe rbd single_major=N; [ ! -e /sys/bus/rbd/add_single_major ]");
    let first = guest.ok(&["map", &spec]);
    assert!(first.starts_with(&format!("/dev/rbd0 {spec}")), "{first}");
    guest.ok(&["map", &spec, "--again"]);
    let majors = guest.sh("stat -c %t /dev/rbd0 /dev/rbd1");
    let (one, other) = majors.split_once('\n').unwrap();
    assert_ne!(one, other);
    guest.ok(&["unmap", "/dev/rbd1"]);
    guest.ok(&["unmap", "/dev/rbd0"]);
}

#[test]
fn a_kernel_that_comes_without_the_module_is_explained() {
    let space = Space::new();
    space.create("foo", 64 << 20).run().unwrap();
    let spec = format!("rbd/{}/foo", space.namespace());
    let vm = Guest::builder(shared().conf()).rbd_module(RbdModule::Absent).boot().unwrap();
    let (kind, text) = Guest(vm).fails(&["map", &spec, "--load-module"]);
    assert_eq!(kind, "NotSupported");
    assert!(
        text.contains("cannot load file 'rbd.ko'") && text.contains("may come without the module"),
        "{text}"
    );
}
