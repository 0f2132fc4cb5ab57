//! Every way to map an image and to use the device, in one machine.

use rbd::Features;
use rbd_testcluster::shared;

use super::guest::{Guest, SOON};
use crate::support::{Space, cluster};

struct Ways {
    guest: Guest,
    space: Space,
}

#[test]
fn every_way_to_map_and_unmap() {
    let ways = Ways { guest: Guest::boot(shared().conf()), space: Space::new() };
    let step = |what: &str, step: fn(&Ways)| {
        let start = std::time::Instant::now();
        step(&ways);
        println!("{what}: {:?}", start.elapsed());
    };
    step("data_goes_both_ways_and_a_resize_is_seen", Ways::data_goes_both_ways_and_a_resize_is_seen);
    step("a_snapshot_is_read_only", Ways::a_snapshot_is_read_only);
    step("a_clone_reads_from_its_parent", Ways::a_clone_reads_from_its_parent);
    step("layouts", Ways::layouts);
    step("holders_are_named", Ways::holders_are_named);
    step("partitions_lead_to_their_disk", Ways::partitions_lead_to_their_disk);
    step("names", Ways::names);
    step("several_mappings_of_one_image", Ways::several_mappings_of_one_image);
    step("exclusively", Ways::exclusively);
    step("without_a_connection", Ways::without_a_connection);
    step("scoped", Ways::scoped);
    step("created_to_be_mapped", Ways::created_to_be_mapped);
    assert_eq!(ways.guest.ok(&["many", &ways.create("many"), "100"]), "100 found, 0 left");
    // In the end, nothing remains mapped in the machine.
    assert_eq!(ways.guest.ok(&["devices"]), "");
}

impl Ways {
    fn spec(&self, image: &str) -> String {
        format!("rbd/{}/{image}", self.space.namespace())
    }

    fn create(&self, image: &str) -> String {
        self.space.create(image, 64 << 20).run().unwrap();
        self.spec(image)
    }

    fn data_goes_both_ways_and_a_resize_is_seen(&self) {
        let spec = self.create("data");
        self.guest.ok(&["map", &spec]);
        self.guest.sh("printf 'from the kernel' | dd of=/dev/rbd0 bs=4096 seek=1 conv=fsync 2>/dev/null");
        let mut back = [0; 15];
        let image = self.space.open("data").read_only(true).run().unwrap();
        image.read_exact_at(&mut back, 4096).unwrap();
        assert_eq!(&back, b"from the kernel");

        // The kernel hands over the exclusive lock for it.
        let writer = self.space.open("data").run().unwrap();
        writer.write_all_at(b"from librbd", 1 << 20).unwrap();
        writer.flush().unwrap();
        self.guest.sh("echo 3 > /proc/sys/vm/drop_caches");
        let read = self.guest.sh("dd if=/dev/rbd0 bs=4096 skip=256 count=1 2>/dev/null | head -c 11");
        assert_eq!(read, "from librbd");

        writer.resize(96 << 20).run().unwrap();
        assert_eq!(self.guest.ok(&["refresh", "/dev/rbd0"]), (96 << 20).to_string());
        assert_eq!(self.guest.sh("cat /sys/block/rbd0/size"), (96 << 11).to_string());
        writer.close().unwrap();
        self.guest.ok(&["unmap", &spec]);
    }

    fn a_snapshot_is_read_only(&self) {
        let spec = self.spec("data");
        let image = self.space.open("data").run().unwrap();
        image.snapshots().create("monday").run().unwrap();
        image.write_all_at(b"after the snap", 4096).unwrap();
        let mapped = self.guest.ok(&["map", &format!("{spec}@monday")]);
        assert!(mapped.contains("@monday") && mapped.contains(" ro "), "{mapped}");
        let read = self.guest.sh("dd if=/dev/rbd0 bs=4096 skip=1 count=1 2>/dev/null | head -c 15");
        assert_eq!(read, "from the kernel");
        let write = self.guest.run(&["sh", "-c", "echo no | dd of=/dev/rbd0 conv=fsync"]);
        assert!(!write.status.success(), "a snapshot was written to");
        self.guest.ok(&["unmap", &format!("{spec}@monday")]);

        let (kind, text) = self.guest.fails(&["map", &format!("{spec}@tuesday")]);
        assert_eq!(kind, "NotFound { what: Snapshot }", "{text}");
        image.snapshots().remove("monday").run().unwrap();
    }

    /// The kernel reads data that the clone does not contain from the ancestor.
    fn a_clone_reads_from_its_parent(&self) {
        self.create("golden");
        let golden = self.space.open("golden").run().unwrap();
        golden.write_all_at(b"of the parent", 4096).unwrap();
        golden.snapshots().create("s").run().unwrap();
        golden.snapshots().protect("s").unwrap();
        golden.close().unwrap();
        self.space.clone_image("golden", "s", "child").run().unwrap();
        let child = self.spec("child");
        self.guest.ok(&["map", &child]);
        assert_eq!(
            self.guest.sh("dd if=/dev/rbd0 bs=4096 skip=1 count=1 2>/dev/null | head -c 13"),
            "of the parent"
        );
        self.guest.ok(&["unmap", &child]);
        self.space.remove("child").run().unwrap();
        let golden = self.space.open("golden").run().unwrap();
        golden.snapshots().unprotect("s").unwrap();
        golden.snapshots().remove("s").run().unwrap();
    }

    /// Other object sizes and striping: librbd reads what the kernel writes.
    fn layouts(&self) {
        self.space.create("small", 8 << 20).object_size(64 << 10).run().unwrap();
        self.space.create("striped", 8 << 20).object_size(1 << 20).striping(64 << 10, 3).run().unwrap();
        for name in ["small", "striped"] {
            let spec = self.spec(name);
            self.guest.ok(&["map", &spec]);
            self.guest.sh("seq 1 200000 | head -c 1048576 | dd of=/dev/rbd0 bs=1M conv=fsync 2>/dev/null");
            self.guest.ok(&["unmap", &spec]);
            let want: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
            let mut back = vec![0; 1 << 20];
            self.space.open(name).read_only(true).run().unwrap().read_exact_at(&mut back, 0).unwrap();
            assert!(back == want.as_bytes()[..1 << 20], "{name}");
        }
        self.space.create("odd", 1000).run().unwrap();
        let (kind, text) = self.guest.fails(&["map", &self.spec("odd")]);
        assert_eq!(kind, "InvalidInput");
        assert!(text.contains("1000 bytes is not a multiple of 512"), "{text}");

        // The kernel requires fewer features for a read-only device.
        self.space
            .create("journaled", 1 << 20)
            .features(Features::DEFAULT | Features::JOURNALING)
            .run()
            .unwrap();
        let spec = self.spec("journaled");
        assert!(self.guest.ok(&["map", &spec, "-o", "ro"]).contains(" ro "));
        self.guest.ok(&["unmap", &spec]);
    }

    fn holders_are_named(&self) {
        let spec = self.create("held");
        self.guest.ok(&["map", &spec]);
        self.guest.sh("/usr/sbin/mke2fs -q -t ext4 -F /dev/rbd0; mkdir -p /mnt/a; mount /dev/rbd0 /mnt/a");
        let (kind, text) = self.guest.fails(&["unmap", "/dev/rbd0"]);
        assert!(kind.starts_with(r#"Busy { holders: [Mount { path: "/mnt/a", pid: 1 }"#), "{kind}");
        assert!(text.contains("cannot unmap device '/dev/rbd0': it is in use: mounted at /mnt/a"), "{text}");
        self.guest.sh("umount /mnt/a");

        // In a mount namespace that is not visible here.
        let hidden = self.guest.0.spawn(rbd_testvm::Command::shell(
            "exec unshare -m sh -c 'mount /dev/rbd0 /mnt/a; touch /tmp/mounted; exec sleep 1000'",
        ));
        self.guest.sh("until [ -e /tmp/mounted ]; do usleep 50000; done; ! grep rbd0 /proc/self/mountinfo");
        let (kind, _) = self.guest.fails(&["unmap", "/dev/rbd0"]);
        assert!(kind.contains(r#"Mount { path: "/mnt/a", pid: "#), "{kind}");
        drop(hidden);
        self.guest.sh("until ! grep rbd0 /proc/[0-9]*/mountinfo; do usleep 50000; done");

        self.guest.sh("mkswap /dev/rbd0 >/dev/null; swapon /dev/rbd0");
        let (kind, _) = self.guest.fails(&["unmap", "/dev/rbd0"]);
        assert!(kind.contains("Swap"), "{kind}");
        self.guest.sh("swapoff /dev/rbd0");

        let reader = self.guest.0.spawn(["sh", "-c", "exec sleep 1000 </dev/rbd0"]).unwrap();
        self.guest.sh("until krbd-guest holders /dev/rbd0 | grep sleep; do usleep 50000; done");
        let (kind, text) = self.guest.fails(&["unmap", "/dev/rbd0"]);
        assert!(kind.contains(r#"name: "sleep" }"#) && text.contains("(sleep) has it open"), "{kind} {text}");
        // A holder that ends during the retries is no obstacle.
        let unmapping = self.guest.0.spawn(["krbd-guest", "unmap", "/dev/rbd0"]).unwrap();
        drop(reader);
        assert!(unmapping.wait(SOON).unwrap().status.success());

        // Force also removes a mounted device.
        self.guest.ok(&["map", &spec]);
        self.guest.sh("/usr/sbin/mke2fs -q -t ext4 -F /dev/rbd0; mount /dev/rbd0 /mnt/a");
        self.guest.ok(&["unmap", "/dev/rbd0", "--force"]);
        assert_eq!(self.guest.ok(&["devices"]), "");
        self.guest.sh("umount /mnt/a");
    }

    fn partitions_lead_to_their_disk(&self) {
        let spec = self.create("parted");
        self.guest.ok(&["map", &spec]);
        self.guest.sh(r"printf 'n\np\n1\n\n+16M\nn\np\n2\n\n\nw\n' | fdisk /dev/rbd0 >/dev/null");
        self.guest.sh("ls /dev/rbd0p1 /dev/rbd0p2; ln -s /dev/rbd0p2 /tmp/link");
        self.guest.sh("/usr/sbin/mke2fs -q -t ext4 -F /dev/rbd0p2; mount /dev/rbd0p2 /mnt/a");
        let (kind, _) = self.guest.fails(&["unmap", "/dev/rbd0p1"]);
        assert!(kind.contains(r#"Mount { path: "/mnt/a""#), "{kind}");
        self.guest.sh("umount /mnt/a");
        self.guest.ok(&["unmap", "/tmp/link"]);
        assert_eq!(self.guest.ok(&["devices"]), "");

        let (kind, text) = self.guest.fails(&["unmap", "/dev/rbd0p1"]);
        assert_eq!(kind, "NotFound { what: Device }", "{text}");
        let (kind, text) = self.guest.fails(&["unmap", "/dev/null"]);
        assert!(kind == "InvalidInput" && text.contains("not a block device"), "{text}");
        let (kind, _) = self.guest.fails(&["unmap", &spec]);
        assert_eq!(kind, "NotFound { what: Device }");
        let (kind, _) = self.guest.fails(&["unmap", "77"]);
        assert_eq!(kind, "NotFound { what: Device }");
    }

    fn names(&self) {
        for name in ["comma,equals=quote'\"", "bäckup;$(reboot)", "-", "per%cent\\slash"] {
            let spec = self.create(name);
            let mapped = self.guest.ok(&["map", "--", &spec]);
            assert!(mapped.starts_with(&format!("/dev/rbd0 {spec} ")), "{mapped}");
            self.guest.ok(&["unmap", "--", &spec]);
        }
        let spec = self.create("two words");
        let (kind, text) = self.guest.fails(&["map", &spec]);
        assert_eq!(kind, "InvalidInput");
        assert!(text.contains("contains ' ', which the kernel takes as a separator"), "{text}");

        for arguments in [&[][..], &["--no-preflight"]] {
            let spec = self.spec("absent");
            let (kind, text) = self.guest.fails(&[&["map", &spec], arguments].concat());
            assert_eq!(kind, "NotFound { what: Image }", "{text}");
        }
        let (kind, text) = self.guest.fails(&["map", &self.spec("data"), "-o", "bogus=1"]);
        assert!(kind == "InvalidInput" && text.contains("does not support one of the options"), "{text}");
        assert!(text.contains("does not know 'bogus'; the options that it knows are ro, "), "{text}");
        assert_eq!(self.guest.ok(&["devices"]), "");
        assert!(text.contains("kernel: "), "the kernel's own words are there: {text}");
    }

    fn several_mappings_of_one_image(&self) {
        let spec = self.create("twice");
        self.guest.ok(&["map", &spec]);
        let (kind, text) = self.guest.fails(&["map", &spec]);
        assert!(kind == "AlreadyExists" && text.contains("already mapped here as /dev/rbd0"), "{text}");
        self.guest.ok(&["map", &spec, "--again"]);
        let (kind, text) = self.guest.fails(&["unmap", &spec]);
        assert!(kind == "InvalidInput" && text.contains("mapped 2 times: /dev/rbd0"), "{text}");
        self.guest.ok(&["unmap", "1"]);
        self.guest.ok(&["unmap", &spec]);
    }

    fn exclusively(&self) {
        let spec = self.create("alone");
        self.guest.ok(&["map", &spec, "-o", "exclusive"]);
        let (kind, text) = self.guest.fails(&["map", &spec, "--again", "-o", "exclusive,noshare"]);
        assert!(kind.starts_with("InvalidInput"), "two options in one: {text}");
        let twice = ["map", &spec, "--again", "-o", "exclusive", "-o", "noshare", "-o", "lock_timeout=10"];
        let (kind, text) = self.guest.fails(&twice);
        assert!(kind.starts_with("Busy { holders: [Watcher("), "{kind} {text}");
        let (kind, text) = self.guest.fails(&[&twice[..], &["--no-preflight"]].concat());
        assert!(kind.starts_with("Busy { holders: [Watcher("), "{kind} {text}");
        self.guest.ok(&["unmap", &spec]);
        assert_eq!(self.guest.ok(&["devices"]), "");
    }

    /// Like a container orchestrator: with monitors, user and key.
    fn without_a_connection(&self) {
        let spec = self.create("given");
        let dump = cluster().mon_command(r#"{"prefix": "mon dump", "format": "json"}"#, &[]).unwrap();
        let dump: serde_json::Value = serde_json::from_slice(&dump).unwrap();
        let addresses = dump["mons"][0]["public_addrs"]["addrvec"].as_array().unwrap();
        let address = |kind: &str| {
            let entry = addresses.iter().find(|entry| entry["type"] == kind).unwrap();
            entry["addr"].as_str().unwrap().to_owned()
        };
        let key = format!("{}\n", cluster().key().unwrap().expose());
        let first = address("v1");
        let given = |monitor: &str, key: &str, more: &[&str]| -> Vec<String> {
            let words = [&["map", &spec, "--monitors", monitor, "--key", key], more].concat();
            words.into_iter().map(str::to_owned).collect()
        };
        fn words(words: &[String]) -> Vec<&str> {
            words.iter().map(String::as_str).collect()
        }
        for (monitor, mode) in
            [(&first, "legacy"), (&address("v2"), "prefer-crc"), (&address("v2"), "secure")]
        {
            let mode = format!("ms_mode={mode}");
            let shown = self.guest.ok(&words(&given(monitor, &key, &["-o", &mode, "--show-keys"])));
            // While the mapping exists, the key is neither in the line that the kernel keeps nor
            // among its usable keys. An invalidated key stays listed for a moment.
            assert!(!shown.contains(key.trim()) && !shown.lines().any(usable_key), "{shown}");
            let kept = self.guest.sh("cat /sys/bus/rbd/devices/0/config_info");
            assert!(kept.contains("key=client.admin") && !kept.contains(key.trim()), "{kept}");
            self.guest.sh("n=0; while grep ' ceph ' /proc/keys; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; \
                 usleep 100000; done");
            self.guest.ok(&["unmap", &spec]);
        }

        let wrong = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";
        let (kind, text) = self.guest.fails(&words(&given(&first, wrong, &[])));
        assert_eq!(kind, "PermissionDenied", "{text}");
        assert!(text.contains("refused user client.admin") && !text.contains(wrong), "{text}");
        let (kind, text) = self.guest.fails(&words(&given(&first, &key, &["--user", "nobody"])));
        assert_eq!(kind, "PermissionDenied", "{text}");
        let (kind, text) = self.guest.fails(&words(&given(&first, "not a key", &[])));
        assert!(kind == "InvalidInput" && !text.contains("not a key"), "{text}");

        // No daemon listens there.
        let start = std::time::Instant::now();
        let (kind, text) = self.guest.fails(&words(&given("127.0.0.1:1", &key, &["--timeout", "5"])));
        assert!(kind == "TimedOut" && text.contains("no answer from the cluster"), "{text}");
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        assert_eq!(self.guest.ok(&["devices"]), "");
    }

    fn scoped(&self) {
        let spec = self.create("scoped");
        let shown = self.guest.ok(&["scoped", &spec]);
        let (device, left) = shown.split_once('\n').unwrap();
        assert!(device.starts_with(&format!("/dev/rbd0 {spec}")), "{shown}");
        assert_eq!(left, "0 left");
    }

    fn created_to_be_mapped(&self) {
        let spec = self.spec("mappable");
        assert_eq!(self.guest.ok(&["create-mappable", &spec, "1048576"]), Features::DEFAULT.to_string());
        self.guest.ok(&["map", &spec]);
        self.guest.ok(&["unmap", &spec]);
    }
}

/// Returns whether a line of `/proc/keys` is a usable key of Ceph. The second column contains
/// flags: `R` revoked, `D` dead, `i` invalidated.
fn usable_key(line: &str) -> bool {
    let flags = line.split_whitespace().nth(1).unwrap_or_default();
    line.contains(" ceph ") && !flags.contains(['R', 'D', 'i'])
}
