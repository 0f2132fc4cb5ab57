//! Differences between kernels: protocol modes, reads from replicas, and types of keys.
//!
//! `cargo xtask matrix --kernels` runs this with kernels from 5.10 to 7.x and clusters of 16.2 and
//! 20.2, and makes a table of the lines that begin with `kernels:`.

use std::path::{Path, PathBuf};

use rbd::{Cluster, Features, Image};
use rbd_testcluster::{TestCluster, shared};
use serde_json::Value;

use super::guest::Guest;
use crate::cluster::newer_key;
use crate::support::{Space, pattern};

/// Returns the kernel's version, such as `(6, 1)`.
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
            assert!(text.contains("does not support one of the options"), "{text}");
            tell(&option, "not known");
        }
    }
    for option in ["read_from_replica=balance", "read_from_replica=localize"] {
        assert!(map(option).status.success(), "{option}");
        use_it(option);
    }
    assert_eq!(guest.ok(&["devices"]), "");
}

/// A kernel before 7.0 accepts only keys of the type `aes`. A newer one also accepts newer keys, if
/// the cluster has them; otherwise the cluster refuses the key.
#[test]
fn a_key_of_a_newer_type_is_refused_with_its_reason() {
    let (key, conf) = (newer_key(), std::fs::read_to_string(shared().conf()).unwrap());
    let v1 =
        conf.split("v1:").nth(1).and_then(|rest| rest.split(']').next()).expect("the monitor has an address");
    let guest = Guest::builder(shared().conf()).boot().map(Guest).unwrap();
    let words = ["map", "rbd/absent", "--monitors", v1, "--key", &key, "--timeout", "30"];
    if version(&guest) >= (7, 0) {
        // The image does not exist. This error shows that the login succeeded.
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

/// The shared cluster if it is of the kind that a test needs, otherwise a separate one.
struct Wanted {
    conf: PathBuf,
    _own: Option<TestCluster>,
    cluster: Cluster,
}

impl Wanted {
    fn new(fits: impl FnOnce() -> bool, own: impl FnOnce() -> TestCluster) -> Wanted {
        let own = (!fits()).then(own);
        let conf = own.as_ref().map_or(shared().conf(), |cluster| cluster.conf()).to_owned();
        let cluster = connect(&conf);
        Wanted { conf, _own: own, cluster }
    }

    /// Sends a command to the monitors and returns the answer.
    fn ask(&self, command: &Value) -> Value {
        let answer = self.cluster.mon_command(&command.to_string(), &[]).unwrap();
        // Some commands have no answer.
        serde_json::from_slice(&answer).unwrap_or_default()
    }
}

fn connect(conf: &Path) -> Cluster {
    Cluster::builder().ignore_environment(true).conf_file(conf).connect().unwrap()
}

/// First, monitors and OSDs listen for the second protocol only. Then only the OSDs do, while the
/// monitor listens for both, as with `ms_bind_msgr1 = false`.
#[test]
fn without_the_first_protocol_an_image_is_mapped_by_the_second() {
    let monitor_has_none = || !std::fs::read_to_string(shared().conf()).unwrap().contains("v1:");
    let wanted = Wanted::new(monitor_has_none, || TestCluster::builder().msgr1(false).start().unwrap());
    maps_by_the_second_protocol(&wanted, "msgr2 only");
    drop(wanted);
    let osds_have_none = || TestCluster::builder().option("ms bind msgr1", false).mgr(false).start().unwrap();
    let wanted = Wanted::new(|| false, osds_have_none);
    assert!(std::fs::read_to_string(&wanted.conf).unwrap().contains("v1:"));
    maps_by_the_second_protocol(&wanted, "OSDs with msgr2 only");
}

fn maps_by_the_second_protocol(wanted: &Wanted, what: &str) {
    let space = Space::on(&wanted.cluster);
    let data = pattern(11, 1 << 20);
    space.create("foo", 8 << 20).features(Features::DEFAULT).run().unwrap();
    let spec = format!("rbd/{}/foo", space.namespace());
    let guest = Guest::boot(&wanted.conf);
    let knows_modes = version(&guest) >= (5, 11);
    let back = |image: &Image| {
        let mut back = vec![0; data.len()];
        image.read_exact_at(&mut back, 4 << 20).unwrap();
        back
    };
    for mode in [None, Some("crc"), Some("secure"), Some("prefer-crc"), Some("prefer-secure")] {
        let name = mode.map_or(format!("{what}: no option"), |mode| format!("{what}: ms_mode={mode}"));
        let option = mode.map(|mode| format!("ms_mode={mode}"));
        let words: Vec<&str> =
            ["map", &spec].into_iter().chain(option.iter().flat_map(|option| ["-o", option])).collect();
        if !knows_modes {
            let (_, text) = guest.fails(&words);
            assert!(text.contains("does not support one of the options"), "{text}");
            tell(&name, "not known");
            continue;
        }
        let image = space.open("foo").run().unwrap();
        image.discard(4 << 20, 4 << 20).unwrap();
        image.write_all_at(&data, 0).unwrap();
        image.close().unwrap();
        guest.ok(&words);
        let line = guest.sh("cat /sys/bus/rbd/devices/0/config_info");
        assert!(line.contains(&format!("ms_mode={}", mode.unwrap_or("prefer-crc"))), "{name}: {line}");
        guest.sh("dd if=/dev/rbd0 of=/tmp/data bs=1M count=1 2>/dev/null");
        guest.sh("dd if=/tmp/data of=/dev/rbd0 bs=1M seek=4 conv=fsync 2>/dev/null");
        guest.ok(&["unmap", &spec]);
        let image = space.open("foo").read_only(true).run().unwrap();
        assert!(back(&image) == data, "{name}: the data came back changed");
        tell(&name, "yes");
    }
    let (kind, text) = guest.fails(&["map", &spec, "-o", "ms_mode=legacy"]);
    assert!(text.contains("ms_mode=legacy") && text.contains("choose another mode"), "{kind} {text}");
    tell(&format!("{what}: ms_mode=legacy"), "refused, with the reason");
    assert_eq!(guest.ok(&["devices"]), "");
}

/// OSDs count their reads: those of the kernel must reach the OSD that is not primary.
#[test]
fn a_replica_serves_reads_from_replicas() {
    let two = || {
        let said =
            crate::support::cluster().mon_command(r#"{"prefix": "osd ls", "format": "json"}"#, &[]).unwrap();
        serde_json::from_slice::<Vec<u32>>(&said).unwrap().len() == 2
    };
    let wanted = Wanted::new(two, || TestCluster::builder().osds(2).replicas(2).start().unwrap());
    for osd in [0, 1] {
        wanted.ask(&serde_json::json!({
            "prefix": "osd crush set", "id": osd, "weight": 1.0, "format": "json",
            "args": ["root=default", format!("rack=r{osd}"), format!("host=h{osd}")],
        }));
    }
    let space = Space::on(&wanted.cluster);
    space.create("foo", 4 << 20).features(Features::DEFAULT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(&pattern(3, 4 << 20), 0).unwrap();
    image.flush().unwrap();
    let object = format!("{}.{:016x}", image.block_name_prefix().unwrap(), 0);
    image.close().unwrap();
    let place = wanted.ask(&serde_json::json!({
        "prefix": "osd map", "pool": "rbd", "object": object, "nspace": space.namespace(), "format": "json",
    }));
    assert_eq!(place["acting"].as_array().unwrap().len(), 2, "{place}");
    let replica = if place["acting_primary"] == 0 { 1 } else { 0 };
    let reads_of_the_replica = || {
        let command = r#"{"prefix": "perf dump", "format": "json"}"#;
        let counters = wanted.cluster.osd_command(replica, command, &[]).unwrap();
        serde_json::from_slice::<Value>(&counters).unwrap()["osd"]["op_r"].as_u64().unwrap()
    };
    let guest = Guest::boot(&wanted.conf);
    let spec = format!("rbd/{}/foo", space.namespace());
    let mut served = Vec::new();
    for (options, wanted_reads) in [
        (&["read_from_replica=no"][..], 0),
        (&["read_from_replica=balance"], 1),
        // This machine is in the rack of the replica.
        (&["read_from_replica=localize", &format!("crush_location=rack:r{replica}")], 256),
    ] {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", *option]).collect();
        guest.ok(&[&["map", &spec, "-o", "noshare"], &options[..]].concat());
        // A replica refuses reads of an object until it knows that the last write is on all OSDs.
        // It learns that with the next write to the placement group, so each group gets some
        // writes.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let reads = loop {
            for number in 0..64 {
                space.objects().write_full(&format!("settle-{number}"), b"x").unwrap();
            }
            let before = reads_of_the_replica();
            guest.sh("dd if=/dev/rbd0 of=/dev/null bs=16k count=256 iflag=direct 2>/dev/null");
            let reads = reads_of_the_replica() - before;
            if reads >= wanted_reads || std::time::Instant::now() > until {
                break reads;
            }
        };
        served.push(reads);
        guest.ok(&["unmap", &spec]);
    }
    println!("{served:?} of 256 reads were served by the replica: no, balance, localize");
    // Other clients of the cluster read almost nothing meanwhile.
    assert!(served[0] < 50, "the primary should have served all: {served:?}");
    assert!((1..256).contains(&served[1]), "some: {served:?}");
    assert!(served[2] >= 256, "all: {served:?}");
    tell("read_from_replica: a replica serves", "yes");
}
