//! A virtual machine with the driver's node side running in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rbd_testvm::{Command, TestVm};

use crate::driver::{Driver, User, class, user};

/// No command takes so long, unless the machine is busy with other things.
const SOON: Duration = Duration::from_secs(180);

/// Many requests at once take longer, above all without KVM.
const LONG: Duration = Duration::from_secs(900);

/// What the driver runs, and where the wrappers of `killed` find it.
pub const PROGRAMS: [&str; 6] = [
    "/usr/sbin/blkid",
    "/usr/sbin/mke2fs",
    "/usr/sbin/e2fsck",
    "/usr/sbin/resize2fs",
    "/usr/sbin/mkfs.xfs",
    "/usr/sbin/xfs_growfs",
];

pub struct Node {
    vm: TestVm,
    name: &'static str,
    /// Seconds that staging waits for other users.
    wait: u32,
    /// The user and the key of each request.
    secrets: [(&'static str, String); 2],
}

fn client() -> PathBuf {
    // Cargo builds the examples of a package with its tests.
    let driver = PathBuf::from(env!("CARGO_BIN_EXE_rbd-csi"));
    driver.with_file_name("examples").join("csi-call")
}

impl Node {
    pub fn boot(name: &'static str, driver: &Driver, wait: u32) -> Node {
        Node::boot_for(name, (rbd_testcluster::shared().conf(), driver.config()), user(), wait)
    }

    /// Boots a node for a cluster, by its configuration and the file of clusters.
    pub fn boot_for(name: &'static str, (conf, config): (&Path, &Path), user: &User, wait: u32) -> Node {
        let mut builder = TestVm::builder()
            .cluster(conf)
            .program(env!("CARGO_BIN_EXE_rbd-csi"))
            .program(client())
            .file(config, "/etc/ceph-csi-config/config.json")
            .text("/canary", format!("{}\n", user.key))
            .module("xfs");
        for program in PROGRAMS {
            builder = builder.program(program);
        }
        let secrets = [("userID", user.name.clone()), ("userKey", user.key.clone())];
        let node = Node { vm: builder.boot().unwrap(), name, wait, secrets };
        node.start();
        node
    }

    /// Starts the driver, and waits until it answers.
    pub fn start(&self) {
        let line = format!(
            "PATH=/wrap:$PATH setsid rbd-csi --node --node-id {} --endpoint unix:///csi.sock \
             --registration /registration/reg.sock --wait-for-users {} --map-timeout 60 \
             </dev/null >>/var/log/driver 2>&1 & \
             for i in $(seq 300); do csi-call info 2>/dev/null && exit 0; sleep 0.1; done; \
             cat /var/log/driver; exit 1",
            self.name, self.wait
        );
        assert_eq!(self.sh(&line), self.name);
    }

    /// Makes a request.
    pub fn call(&self, words: &[&str]) -> Result<String, String> {
        let output = self.vm.exec(Command::new("csi-call").args(words), SOON).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Makes a request that must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        self.call(words).unwrap_or_else(|error| {
            panic!("{}: {words:?}: {error}\n{}", self.name, self.sh("tail -n 40 /var/log/driver"))
        })
    }

    /// The request to stage a volume at `/stage/NAME`, as a class and secret say.
    fn request(&self, id: &str, name: &str, more: &[&str]) -> Vec<String> {
        let mut words = vec!["stage".to_owned(), id.to_owned(), format!("/stage/{name}")];
        for (name, value) in class() {
            words.extend(["--parameter".to_owned(), format!("{name}={value}")]);
        }
        for (name, value) in &self.secrets {
            words.extend(["--secret".to_owned(), format!("{name}={value}")]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    /// The line for the shell that stages a volume at `/stage/NAME`.
    pub fn stage_line(&self, id: &str, name: &str) -> String {
        // No word has a space in it.
        format!("csi-call {}", self.request(id, name, &[]).join(" "))
    }

    /// Begins to stage a volume at `/stage/NAME`. `end_of_stage` returns how that ended.
    pub fn begin_stage(&self, id: &str, name: &str) {
        let line = self.stage_line(id, name);
        self.sh(&format!(
            "mkdir -p /stage/{name}; rm -f /ended /said; \
             ({line} >/said 2>&1 || true; touch /ended) </dev/null >/dev/null 2>&1 &"
        ));
    }

    /// What the request that `begin_stage` has made said; nothing if it succeeded.
    pub fn end_of_stage(&self) -> String {
        self.wait_for("-e /ended");
        self.sh("cat /said")
    }

    /// Waits until a test of the shell holds. If it never does, shows what waits, and for what.
    pub fn wait_for(&self, test: &str) {
        let state = "tail -n 30 /var/log/driver; dmesg | tail -n 20; \
             for thread in $(grep -l '^State:.D' /proc/[0-9]*/task/*/status); do \
               cat ${thread%status}comm ${thread%status}stack; done";
        self.sh(&format!("for i in $(seq 1000); do [ {test} ] && exit 0; sleep 0.1; done; {state}; exit 1"));
    }

    /// Puts a script before a program that the driver runs, which the script may run as `$program`.
    pub fn wrap(&self, name: &str, script: &str) {
        let program = PROGRAMS.iter().find(|program| program.rsplit('/').next() == Some(name)).unwrap();
        self.sh(&format!(
            "mkdir -p /wrap; cat > /wrap/{name} <<'END'\n#!/bin/sh\nprogram={program}\n{script}\nEND\n\
             chmod +x /wrap/{name}"
        ));
    }

    /// Stages a volume at `/stage/NAME`.
    pub fn stage(&self, id: &str, name: &str, more: &[&str]) -> Result<String, String> {
        self.sh(&format!("mkdir -p /stage/{name}"));
        let words = self.request(id, name, more);
        self.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Makes all requests at the same time. Returns what failed.
    fn at_once(&self, requests: &[Vec<String>]) -> String {
        let mut script = "cat > /requests <<'END'\n".to_owned();
        for request in requests {
            // No word has a space in it.
            script += &(request.join(" ") + "\n");
        }
        self.sh(&(script + "END"));
        let line = "rm -rf /failed; mkdir /failed; number=0; \
             while read -r words; do \
               number=$((number + 1)); \
               { csi-call $words >/dev/null 2>/failed/$number && rm /failed/$number; } & \
             done </requests; wait; cd /failed; for i in *; do cat $i 2>/dev/null || true; done";
        self.vm.check(Command::shell(line), LONG).unwrap_or_else(|error| panic!("{error}")).trim_end().into()
    }

    /// Stages volumes at the same time, each at `/stage/ID`. Returns what failed.
    pub fn stage_all(&self, ids: &[String]) -> String {
        let places: Vec<String> = ids.iter().map(|id| format!("/stage/{id}")).collect();
        self.sh(&format!("mkdir -p {}", places.join(" ")));
        self.at_once(&ids.iter().map(|id| self.request(id, id, &[])).collect::<Vec<_>>())
    }

    pub fn unstage_all(&self, ids: &[String]) -> String {
        let request = |id: &String| vec!["unstage".to_owned(), id.clone(), format!("/stage/{id}")];
        self.at_once(&ids.iter().map(request).collect::<Vec<_>>())
    }

    pub fn staged(&self, id: &str, name: &str, more: &[&str]) {
        self.stage(id, name, more).unwrap_or_else(|error| {
            panic!("{}: stage {name}: {error}\n{}", self.name, self.sh("tail -n 40 /var/log/driver"))
        });
    }

    /// Stages and publishes a volume, at `/pod/NAME`.
    pub fn publish(&self, id: &str, name: &str, more: &[&str]) {
        self.staged(id, name, more);
        let (staging, target) = (format!("/stage/{name}"), format!("/pod/{name}"));
        self.ok(&[&["publish", id, &staging, &target], more].concat());
    }

    pub fn unpublish(&self, id: &str, name: &str) {
        self.ok(&["unpublish", id, &format!("/pod/{name}")]);
        self.ok(&["unstage", id, &format!("/stage/{name}")]);
    }

    /// A line for the shell, which must succeed.
    pub fn sh(&self, line: &str) -> String {
        self.vm
            .check(Command::shell(line), SOON)
            .unwrap_or_else(|error| panic!("{error}"))
            .trim_end()
            .to_owned()
    }

    pub fn shutdown(self) {
        self.vm.shutdown().unwrap();
    }
}
