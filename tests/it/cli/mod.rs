//! The examples against the `rbd` command: same output, same messages, same exit status.
//!
//! Before its message, an example prints the reason in lines that begin with `why: `. The `rbd`
//! command writes log lines instead, at any time and into the middle of other lines, so here they
//! are turned off. Neither is compared.

mod agree;
mod backup;
mod batch;
mod changes;
mod failures;
mod help;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use rbd::IoCtx;
use serde_json::Value;

use crate::support::program::output;
use crate::support::{cluster, unique};

/// A time zone that no machine has, which shows that times are local.
const ZONE: &str = "XXX-3:30";

/// The output of a program and its exit status.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: Option<i32>,
    out: String,
    messages: String,
}

/// Where to run. Default: on the shared cluster.
struct Setting<'a> {
    conf: &'a Path,
    ceph_args: &'a str,
}

impl Setting<'static> {
    fn shared() -> Setting<'static> {
        Setting { conf: rbd_testcluster::shared().conf(), ceph_args: "" }
    }
}

impl Setting<'_> {
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, more: &str) -> Command {
        let mut command = Command::new(program);
        command.env("CEPH_CONF", self.conf).env("CEPH_ARGS", format!("{} {more}", self.ceph_args));
        command.env("TZ", ZONE);
        command
    }

    /// Runs the `rbd` command.
    fn rbd(&self, args: &[&str]) -> Said {
        let mut command = self.command("rbd", "--log-to-stderr=false --err-to-stderr=false");
        said(&output(command.args(args)))
    }

    /// Runs the example of the same name with the same arguments.
    fn example(&self, args: &[&str]) -> Said {
        let (name, args) = args.split_first().unwrap();
        let mut said = said(&output(self.command(example(name), "").args(args)));
        said.messages =
            said.messages.split_inclusive('\n').filter(|line| !line.starts_with("why: ")).collect();
        said
    }

    /// Asserts that both programs do the same, and returns the output.
    ///
    /// librbd sometimes aborts the `rbd` command when it closes an image (`rbd du`, seen with 16.2
    /// and 18.2). An aborted command says nothing to compare with, so it runs again, as does one
    /// that was killed because it hung.
    #[track_caller]
    fn same(&self, args: &[&str]) -> Said {
        let mut attempts = (0..5).map(|_| self.rbd(args));
        let theirs = attempts.find(|said| said.status.is_some());
        let theirs = theirs.unwrap_or_else(|| panic!("a signal ended `rbd` five times, for {args:?}"));
        let ours = self.example(args);
        assert_eq!(ours, theirs, "the example on the left, the rbd command on the right, for {args:?}");
        ours
    }
}

/// Asserts that both programs do the same on the shared cluster, and returns the output.
#[track_caller]
fn same(args: &[&str]) -> Said {
    Setting::shared().same(args)
}

/// Asserts that both programs fail in the same way.
#[track_caller]
fn same_failure(args: &[&str], status: i32, message: &str) {
    let said = same(args);
    assert_eq!(said.status, Some(status), "{args:?}: {said:?}");
    assert!(said.messages.contains(message), "{args:?}: {said:?}");
}

/// Runs the `rbd` command, which must succeed.
#[track_caller]
fn rbd(args: &[&str]) -> String {
    let said = Setting::shared().rbd(args);
    assert_eq!(said.status, Some(0), "rbd {args:?}: {said:?}");
    said.out
}

/// Runs an example, which must succeed.
#[track_caller]
fn example_succeeds(args: &[&str]) -> Said {
    let said = Setting::shared().example(args);
    assert_eq!(said.status, Some(0), "{args:?}: {said:?}");
    said
}

/// Returns `rbd info` of an image, without the fields that differ between two images made in the
/// same way.
fn shape(image: &str) -> Value {
    let mut info: Value = serde_json::from_str(&rbd(&["info", "--format", "json", image])).unwrap();
    let fields = info.as_object_mut().unwrap();
    fields.retain(|key, _| {
        !matches!(key.as_str(), "name" | "id" | "block_name_prefix" | "journal")
            && !key.ends_with("_timestamp")
    });
    info
}

fn said(output: &Output) -> Said {
    Said {
        status: output.status.code(),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        messages: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// Returns the program of an example. Cargo builds it into `target/<profile>/examples`, together
/// with this test in `target/<profile>/deps`. A build of this test alone does not build it; then
/// the panic says so.
pub(crate) fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.ancestors().nth(2).unwrap().join("examples").join(name);
    let built = program.metadata().and_then(|file| file.modified());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = root.join("examples");
    let own = match (sources.join(name), root.join(format!("tests/guest/{name}.rs"))) {
        (folder, _) if folder.is_dir() => newest(&folder),
        (_, guest) if guest.is_file() => modified(&guest),
        _ => modified(&sources.join(format!("{name}.rs"))),
    };
    let newest = newest(&sources.join("common")).max(own);
    assert!(
        built.is_ok_and(|built| built >= newest),
        "{} is missing or older than its source: run `cargo build --examples` first",
        program.display()
    );
    program
}

fn newest(folder: &Path) -> SystemTime {
    let files = folder.read_dir().unwrap().map(|entry| modified(&entry.unwrap().path()));
    files.max().expect("examples share code")
}

fn modified(file: &Path) -> SystemTime {
    file.metadata().and_then(|file| file.modified()).expect("the source of the example is there")
}

/// A separate pool, so that listings contain nothing else. Dropping it deletes the pool.
struct Pool {
    name: String,
    ioctx: IoCtx,
}

impl Pool {
    fn new() -> Pool {
        let name = unique("cli");
        rbd_testcluster::shared().create_pool(&name).unwrap();
        cluster().wait_for_latest_osdmap().unwrap();
        let ioctx = cluster().ioctx(&name).unwrap();
        Pool { name, ioctx }
    }

    /// `pool/image`
    fn at(&self, image: &str) -> String {
        format!("{}/{image}", self.name)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = cluster().pools().remove(&self.name);
    }
}
