//! A machine's directories with mappings in them, for tests without a kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::krbd::host::Host;
use crate::spec::ImageSpec;

pub(crate) struct FakeHost {
    root: tempfile::TempDir,
    host: Host,
}

impl FakeHost {
    /// Creates a host with the module loaded and nothing mapped.
    pub(crate) fn new() -> FakeHost {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let fake = FakeHost { root, host };
        fake.file("proc/sys/kernel/osrelease", "6.1.0-37-cloud-amd64\n");
        fake.file("sys/bus/rbd/supported_features", "0x1bf\n");
        fs::create_dir_all(fake.host.bus().join("devices")).unwrap();
        fs::create_dir_all(fake.host.dev_path()).unwrap();
        fake
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Adds a mapping as kernel 6.1 shows it: minor numbers are 16 times the id.
    pub(crate) fn map(&self, id: u32, spec: &ImageSpec) {
        let minor = id * 16;
        let snapshot = spec.snapshot.as_deref().unwrap_or("-");
        let client = format!("client{}", 4000 + id);
        let config =
            format!("10.0.0.1:6789 name=admin,key=client.admin {} {} {snapshot}", spec.pool, spec.image);
        for (name, text) in [
            ("major", "252"),
            ("minor", &minor.to_string()),
            ("pool", &spec.pool),
            ("pool_id", "2"),
            ("pool_ns", &spec.namespace),
            ("name", &spec.image),
            ("image_id", "10e2eb366a9b"),
            ("current_snap", snapshot),
            ("size", "1073741824"),
            ("features", "0x000000000000003d"),
            ("cluster_fsid", "a7f64266-0894-4f1e-a635-d0aeaca0e993"),
            ("client_addr", "10.0.0.9:0/3461389112"),
            ("client_id", &client),
            ("config_info", &config),
        ] {
            self.file(&format!("sys/bus/rbd/devices/{id}/{name}"), &format!("{text}\n"));
        }
        self.file(&format!("sys/block/rbd{id}/dev"), &format!("252:{minor}\n"));
        self.file(&format!("sys/block/rbd{id}/ro"), if spec.snapshot.is_some() { "1\n" } else { "0\n" });
        self.link(&format!("sys/dev/block/252:{minor}"), &format!("../../block/rbd{id}"));
    }

    pub(crate) fn partition(&self, id: u32, number: u32) {
        let minor = id * 16 + number;
        let dir = format!("sys/block/rbd{id}/rbd{id}p{number}");
        self.file(&format!("{dir}/dev"), &format!("252:{minor}\n"));
        self.file(&format!("{dir}/partition"), &format!("{number}\n"));
        self.link(&format!("sys/dev/block/252:{minor}"), &format!("../../block/rbd{id}/rbd{id}p{number}"));
    }

    /// Adds a node to the device directory. Without privileges this is a link to a device of the
    /// machine.
    pub(crate) fn node(&self, name: &str, target: &str) {
        self.link(&format!("dev/{name}"), target);
    }
}
