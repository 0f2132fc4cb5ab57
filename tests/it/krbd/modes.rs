//! What kernels differ in: modes of the protocol, reading from replicas, and types of keys.
//!
//! `cargo xtask matrix --kernels` runs this with kernels from 5.10 to 7.x and clusters of 16.2 and
//! 20.2, and makes a table of the lines that begin with `kernels:`.

use rbd::Features;
use rbd_testcluster::shared;

use super::guest::Guest;
use crate::cluster::newer_key;
use crate::support::{Space, pattern};

/// Such as `(6, 1)`.
fn version(guest: &Guest) -> (u32, u32) {
    let release = guest.sh("uname -r");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn tell(what: &str, outcome: &str) {
    println!("kernels: {what}: {outcome}");
}

#[test]
fn every_mode_of_the_protocol_carries_data_or_is_refused_with_its_reason() {
    let space = Space::new();
    space.create("foo", 8 << 20).features(Features::DEFAULT).run().unwrap();
    let spec = format!("rbd/{}/foo", space.namespace());
    let guest = Guest::boot(shared().conf());
    let data = pattern(7, 1 << 20);
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&data, 0).unwrap();
    image.close().unwrap();

    let map = |option: &str| guest.run(&["krbd-guest", "map", &spec, "-o", option]);
    let use_it = |what: &str| {
        guest.sh("dd if=/dev/rbd0 of=/tmp/data bs=1M count=1 2>/dev/null");
        guest.sh("dd if=/tmp/data of=/dev/rbd0 bs=1M seek=4 conv=fsync 2>/dev/null");
        guest.ok(&["unmap", "/dev/rbd0"]);
        let mut back = vec![0; data.len()];
        let image = space.open("foo").read_only(true).run().unwrap();
        image.read_exact_at(&mut back, 4 << 20).unwrap();
        assert!(back == data, "{what}: the data came back changed");
        drop(image);
        space.open("foo").run().unwrap().discard(4 << 20, 4 << 20).unwrap();
        tell(what, "yes");
    };

    guest.ok(&["map", &spec]);
    use_it("no option");
    for mode in ["legacy", "crc", "secure", "prefer-crc", "prefer-secure"] {
        let option = format!("ms_mode={mode}");
        let output = map(&option);
        let text = String::from_utf8_lossy(&output.stderr);
        if version(&guest) >= (5, 11) {
            assert!(output.status.success(), "{option}: {text}");
            assert!(guest.sh("cat /sys/bus/rbd/devices/0/config_info").contains(&option));
            use_it(&option);
        } else {
            assert!(text.contains("does not know one of the options"), "{text}");
            tell(&option, "not known");
        }
    }
    for option in ["read_from_replica=balance", "read_from_replica=localize"] {
        assert!(map(option).status.success(), "{option}");
        use_it(option);
    }
    assert_eq!(guest.ok(&["devices"]), "");
}

/// A kernel before 7.0 knows no key but `aes`. A newer one takes that of a cluster which has such
/// keys; where the cluster does not know the key, it is refused.
#[test]
fn a_key_of_a_newer_type_is_refused_with_its_reason() {
    let (key, conf) = (newer_key(), std::fs::read_to_string(shared().conf()).unwrap());
    let v1 =
        conf.split("v1:").nth(1).and_then(|rest| rest.split(']').next()).expect("the monitor has an address");
    let guest = Guest::builder(shared().conf()).boot().map(Guest).unwrap();
    let words = ["map", "rbd/absent", "--monitors", v1, "--key", &key, "--timeout", "30"];
    if version(&guest) >= (7, 0) {
        // The image does not exist: who is told so has logged in.
        let (kind, text) = guest.fails(&words);
        let known = kind.starts_with("NotFound");
        assert!(known || kind == "PermissionDenied", "{kind} {text}");
        tell("aes256k", if known { "yes" } else { "refused by a cluster that does not know it" });
    } else {
        let (kind, text) = guest.fails(&words);
        assert!(
            text.contains("the key is of a newer type than 'aes', which this kernel may not know"),
            "{kind} {text}"
        );
        assert!(!text.contains(&key[12..]), "the key is shown: {text}");
        tell("aes256k", "refused, with the reason");
    }
    assert_eq!(guest.ok(&["devices"]), "");
}
