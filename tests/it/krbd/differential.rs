//! The examples `map`, `unmap` and `showmapped` against the `rbd` command, in the same machine.

use std::process::Output;

use rbd::Features;
use rbd_testcluster::shared;

use super::guest::{Guest, example};
use crate::support::Space;

/// What a program said, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: Option<i32>,
    out: String,
    messages: String,
}

/// Returns the output without the parts that are not compared: Ceph's log lines, the examples'
/// reasons, and the message that a write to sysfs failed. If the result is known in advance, the
/// example does not write.
fn said(output: &Output) -> Said {
    let messages = String::from_utf8_lossy(&output.stderr);
    let is_message = |line: &&str| line.starts_with("rbd: ") && *line != "rbd: sysfs write failed";
    Said {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        messages: messages.lines().filter(is_message).collect::<Vec<_>>().join("\n"),
    }
}

struct Both {
    guest: Guest,
    differences: Vec<String>,
}

impl Both {
    /// Runs both programs. `undo` undoes the work of the first one.
    fn same(&mut self, words: &[&str], undo: &[&str]) -> Said {
        let theirs = said(&self.guest.run(&[&["rbd"], words].concat()));
        if !undo.is_empty() {
            let undone = said(&self.guest.run(&[&["rbd"], undo].concat()));
            assert_eq!(undone.status, Some(0), "{undone:?}");
        }
        let ours = said(&self.guest.run(words));
        if ours != theirs {
            self.differences.push(format!("{words:?}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
        ours
    }
}

#[test]
fn the_examples_say_what_the_rbd_command_says() {
    let space = Space::new();
    space.create("foo", 64 << 20).run().unwrap();
    space.create("other", 64 << 20).run().unwrap();
    space.create("journaled", 64 << 20).features(Features::DEFAULT | Features::JOURNALING).run().unwrap();
    let spec = |name: &str| format!("rbd/{}/{name}", space.namespace());
    let (foo, journaled, absent) = (spec("foo"), spec("journaled"), spec("absent"));
    // The `rbd` command waits for udev, without udev forever.
    let builder = ["map", "unmap", "showmapped"]
        .iter()
        .fold(Guest::builder(shared().conf()).program("rbd"), |builder, name| builder.program(example(name)));
    let mut both = Both { guest: Guest(builder.udev(true).boot().unwrap()), differences: Vec::new() };

    both.same(&["showmapped"], &[]);
    both.same(&["showmapped", "--format", "json"], &[]);
    let mapped = both.same(&["map", &foo], &["unmap", &foo]);
    assert_eq!((mapped.status, mapped.out.as_str()), (Some(0), "/dev/rbd0\n"));
    both.same(
        &["map", "-p", "rbd", "--namespace", space.namespace(), "--image", "other", "--read-only"],
        &["unmap", "/dev/rbd1"],
    );
    for format in [&[][..], &["--format", "json"], &["--format", "json", "--pretty-format"]] {
        let listed = both.same(&[&["showmapped"], format].concat(), &[]);
        assert!(listed.out.contains("/dev/rbd1"), "{listed:?}");
    }
    both.same(&["map", &foo], &["unmap", "/dev/rbd2"]);
    both.same(&["unmap", "/dev/rbd2"], &["map", &foo]);
    both.same(&["unmap", &spec("other")], &["map", &spec("other")]);
    both.guest.sh("/usr/sbin/mke2fs -q -t ext4 -F /dev/rbd0; mkdir -p /mnt/a; mount /dev/rbd0 /mnt/a");
    both.same(&["unmap", "/dev/rbd0"], &[]);
    both.guest.sh("umount /mnt/a");
    both.same(&["unmap", "-o", "force", &foo], &["map", &foo]);
    both.same(&["showmapped"], &[]);

    both.same(&["unmap", &foo], &[]);
    both.same(&["unmap", "/dev/rbd7"], &[]);
    both.same(&["unmap", "/dev/null"], &[]);
    both.same(&["unmap"], &[]);
    both.same(&["map"], &[]);
    both.same(&["map", &absent], &[]);
    both.same(&["map", &format!("{foo}@absent")], &[]);
    both.same(&["map", "absent/foo"], &[]);
    both.same(&["map", "rbd/absent/foo"], &[]);
    both.same(&["map", &foo, "-o", "bogus"], &[]);
    both.same(&["map", &foo, "-o", "queue_depth=x"], &[]);
    both.same(&["map", &foo, "--bogus"], &[]);
    both.same(&["unmap", &foo, "-o", "bogus"], &[]);
    let mismatch = both.same(&["map", &journaled], &[]);
    assert_eq!(mismatch.status, Some(6));
    assert!(mismatch.out.contains("RBD image feature set mismatch"), "{mismatch:?}");

    assert!(both.differences.is_empty(), "{}", both.differences.join("\n"));
}
