//! A virtual machine that contains our programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use rbd_testvm::{Builder, TestVm};

/// No command takes longer, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(300);

/// Builds a program for the machine, once per process, so that nothing stale is tested. Returns its
/// path.
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let names = ["krbd-guest", "map", "unmap", "showmapped"];
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", "rbd-suite"]);
        for name in names {
            cargo.args(["--example", name]);
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the programs for the guest do not build");
        // This program is in target/PROFILE/deps, the examples are in target/debug/examples.
        let profile = env::current_exe().unwrap();
        let target = profile.ancestors().nth(3).unwrap();
        target.join("debug/examples")
    });
    dir.join(name)
}

/// A running machine.
pub struct Guest(pub TestVm);

impl Guest {
    /// Returns a machine with the test program, for the cluster of this configuration file.
    pub fn builder(conf: &Path) -> Builder {
        let mut builder = TestVm::builder().cluster(conf).program(example("krbd-guest"));
        // What rbd_volume runs.
        for program in ["blkid", "e2fsck", "resize2fs"] {
            builder = builder.program(PathBuf::from("/usr/sbin").join(program));
        }
        builder
    }

    pub fn boot(conf: &Path) -> Guest {
        Guest(Guest::builder(conf).boot().unwrap())
    }

    /// Runs a command, which may fail.
    pub fn run(&self, words: &[&str]) -> Output {
        self.0.exec(words, SOON).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs our test program, which must succeed, and returns what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let words: Vec<&str> = [&["krbd-guest"], words].concat();
        self.0.check(words, SOON).unwrap_or_else(|error| panic!("{error}")).trim_end_matches('\n').to_owned()
    }

    /// Runs our test program, which must fail, and returns the kind and the text of its error.
    pub fn fails(&self, words: &[&str]) -> (String, String) {
        let words = [&["krbd-guest"], words].concat();
        let output = self.run(&words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{words:?}: {}{stderr}",
            String::from_utf8_lossy(&output.stdout)
        );
        // Ceph may log before and between the lines.
        let mut lines = stderr.lines().skip_while(|line| line.starts_with(|c: char| c.is_ascii_digit()));
        let kind = lines.next().unwrap_or_default().to_owned();
        (kind, lines.collect::<Vec<_>>().join("\n"))
    }

    /// Runs a line in the shell, which must succeed.
    pub fn sh(&self, line: &str) -> String {
        self.0
            .check(rbd_testvm::Command::shell(line), SOON)
            .unwrap_or_else(|error| panic!("{error}"))
            .trim_end()
            .to_owned()
    }
}
