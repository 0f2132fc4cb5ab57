//! Failures of commands: the message, the exit status, and requests that the `rbd` command carries
//! out silently.

use rbd::Features;

use super::{Pool, Said, Setting, rbd, same, same_failure};
use crate::support::program::output;

#[test]
fn create() {
    let pool = Pool::new();
    let (there, absent) = (pool.at("there"), pool.at("absent"));
    rbd(&["create", "-s", "1", &there]);
    let error = |errno| format!("rbd: create error: {errno}");
    let (invalid, exists) = (error("(22) Invalid argument"), error("(17) File exists"));
    let missing = error("(2) No such file or directory");

    same_failure(&["create", "-s", "1", &there], 17, &exists);
    same_failure(&["create", &absent], 22, "rbd: must specify --size <M/G/T>");
    same_failure(&["create", "-s", "1"], 22, "rbd: image name was not specified");
    for size in ["abc", "", "-1", "1.5G", "1g", "0x10", "5X", "16E", "18446744073709551615"] {
        same_failure(
            &["create", &absent, "--size", size],
            1,
            "rbd: the argument for option '--size' is invalid",
        );
    }
    for (option, value) in [("--image-feature", "fastdiff"), ("--object-size", "4k"), ("--image-format", "3")]
    {
        let message = format!("rbd: the argument for option '{option}' is invalid");
        same_failure(&["create", "-s", "1", &absent, option, value], 1, &message);
    }
    for option in ["--stripe-count", "--journal-splay-width"] {
        let message = format!("rbd: the argument ('x') for option '{option}' is invalid");
        same_failure(&["create", "-s", "1", &absent, option, "x"], 1, &message);
    }
    same_failure(&["create", &absent, "-s"], 1, "rbd: the required argument for option '--size' is missing");
    same_failure(&["create", &absent, "-s", "1", "--bogus"], 1, "rbd: unrecognised option '--bogus'");
    same_failure(&["create", &absent, "again", "-s", "1"], 1, "rbd: too many arguments");
    for flags in [
        &["--image-feature", "object-map"][..],
        &["--image-feature", "journaling"],
        &["--stripe-unit", "64K"],
        &["--image-format", "1"],
        &["-s", "16P"],
    ] {
        let size = if flags[0] == "-s" { &[][..] } else { &["-s", "1"] };
        same_failure(&[&["create", &absent], flags, size].concat(), 22, &invalid);
    }
    same_failure(&["create", "-s", "1", &absent, "--data-pool", "nopool"], 2, &missing);
    same_failure(
        &["create", "-s", "1", &pool.at("nospace/x")],
        2,
        "rbd: namespace 'nospace' does not exist.",
    );
    same_failure(
        &["create", "-s", "1", "nopool/x"],
        2,
        "rbd: error opening pool 'nopool': (2) No such file or dir",
    );
    for spec in ["a/b/c/d", "rbd/", "/x", "x@", "a//x"] {
        same_failure(&["create", "-s", "1", spec], 22, &format!("rbd: invalid spec '{spec}'"));
    }
    let message = "rbd: snapshot name specified for a command that doesn't use it";
    same_failure(&["create", "-s", "1", &pool.at("absent@snap")], 22, message);
    assert_eq!(pool.ioctx.list().unwrap().len(), 1, "none of them left anything behind");
}

#[test]
fn objects_that_are_not_there() {
    let pool = Pool::new();
    let (image, absent) = (pool.at("image"), pool.at("absent"));
    rbd(&["create", "-s", "8", &image]);
    let message = "rbd: error opening image absent: (2) No such file or directory";
    for command in [
        &["info", &absent][..],
        &["status", &absent],
        &["info", &pool.at("absent@snap")],
        &["resize", "-s", "1", &absent],
        &["feature", "disable", &absent, "journaling"],
    ] {
        same_failure(command, 2, message);
    }
    let message = "error setting snapshot context: (2) No such file or directory";
    same_failure(&["info", &pool.at("image@absent")], 2, message);
    same_failure(
        &["info", "--image-id", "absent", "-p", &pool.name],
        2,
        "rbd: error opening image with id absent: (2) ",
    );
    same_failure(
        &["info", &image, "--image-id", "x"],
        22,
        "rbd: trying to access image using both name and id.",
    );
    same_failure(
        &["rm", &absent],
        2,
        "0% complete...failed.\nrbd: delete error: (2) No such file or directory",
    );
    same_failure(&["rm", "--no-progress", &absent], 2, "rbd: delete error: (2) No such file or directory");
    for place in ["nopool", &pool.at("nospace"), "a/b/c"] {
        same_failure(&["ls", place], 2, "rbd: listing images failed: (2) No such file or directory");
        same_failure(&["ls", "-l", place], 2, "rbd: listing images failed: (2) No such file or directory");
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let message = "rbd: image name was not specified";
    for command in [&["info"][..], &["status"], &["rm"], &["resize", "-s", "1"], &["feature", "enable"]] {
        same_failure(command, 22, message);
    }
    for command in [&["info", "a", "b"][..], &["status", "a", "b"], &["rm", "a", "b"], &["ls", "a", "b"]] {
        same_failure(command, 1, "rbd: too many arguments");
    }
    let message = "rbd: snapshot name specified for a command that doesn't use it";
    for command in [
        &["status", "a@s"][..],
        &["rm", "a@s"],
        &["resize", "a@s", "-s", "1"],
        &["feature", "enable", "a@s", "journaling"],
    ] {
        same_failure(command, 22, message);
    }
    same_failure(&["ls", "--format", "yaml"], 1, "rbd: the argument for option '--format' is invalid");
    for command in ["ls", "info", "status"] {
        let args: &[&str] = if command == "ls" { &[] } else { &["image"] };
        let args = [&[command], args, &["--pretty-format"]].concat();
        same_failure(&args, 22, "rbd: --pretty-format only works when --format is json or xml");
    }
    same_failure(&["feature", "enable", "image"], 22, "rbd: at least one feature name must be specified");
    same_failure(&["feature", "enable", "image", "fastdiff"], 1, "rbd: the argument for option is invalid");
}

#[test]
fn rm_of_an_image_in_use() {
    let pool = Pool::new();
    let image = |name: &str| {
        rbd(&["create", "-s", "8", &pool.at(name)]);
        pool.at(name)
    };
    let watched = image("watched");
    let open = pool.ioctx.open("watched").run().unwrap();
    same_failure(
        &["rm", &watched],
        16,
        "rbd: error: image still has watchers\nThis means the image is still open",
    );
    drop(open);

    let parent = image("parent");
    let snap = pool.at("parent@snap");
    rbd(&["snap", "create", "--no-progress", &snap]);
    same_failure(
        &["rm", &parent],
        39,
        "rbd: image has snapshots - these must be deleted with 'rbd snap purge'",
    );
    rbd(&["clone", "--rbd-default-clone-format", "2", &snap, &pool.at("child")]);
    rbd(&["snap", "rm", "--no-progress", &snap]);
    same_failure(&["rm", &parent], 39, "rbd: image has snapshots with linked clones");

    let (group, grouped) = (pool.at("group"), image("grouped"));
    rbd(&["group", "create", &group]);
    rbd(&["group", "image", "add", &group, &grouped]);
    let message = format!(
        "rbd: error: image belongs to a group {group}\nRemove the image from the group and try again."
    );
    same_failure(&["rm", &grouped], 31, &message);
    assert_eq!(pool.ioctx.list().unwrap().len(), 4, "all are left");
}

#[test]
fn resize() {
    let pool = Pool::new();
    let image = pool.at("image");
    rbd(&["create", "-s", "8", &image]);
    same_failure(&["resize", &image], 22, "rbd: must specify --size <M/G/T>");
    same_failure(&["resize", &image, "-s", "8M"], 22, "rbd: new size is equal to original size ");
    let message = "rbd: shrinking an image is only allowed with the --allow-shrink flag";
    same_failure(&["resize", &image, "-s", "4"], 22, message);
    // Too large for an object map. The rbd command takes this for a shrink, the example does not.
    let (theirs, ours) = both(&["resize", &image, "-s", "16P"]);
    assert_eq!((theirs.status, ours.status), (Some(22), Some(22)));
    assert!(theirs.messages.ends_with(&format!("{message}\n")), "{theirs:?}");
    assert!(ours.messages.ends_with("rbd: resize error: (22) Invalid argument\n"), "{ours:?}");
}

#[test]
fn feature() {
    let pool = Pool::new();
    let image = pool.at("image");
    rbd(&[
        "create",
        "-s",
        "8",
        &image,
        "--image-feature",
        "layering,exclusive-lock,object-map,fast-diff,deep-flatten",
    ]);
    rbd(&["feature", "disable", &image, "deep-flatten"]);
    for change in [
        &["disable", "journaling"][..],
        &["disable", "journaling,object-map,fast-diff"],
        &["enable", "exclusive-lock"],
        &["enable", "exclusive-lock,journaling"],
        &["disable", "exclusive-lock"],
        &["enable", "deep-flatten"],
        &["disable", "layering"],
        &["enable", "striping"],
        &["disable", "data-pool"],
        &["enable", "operations"],
    ] {
        let args = [&["feature", change[0], &image], &change[1..]].concat();
        same_failure(&args, 22, "rbd: failed to update image features: (22) Invalid argument");
        let left = pool.ioctx.open("image").read_only(true).run().unwrap().features().unwrap();
        let before =
            Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
        assert_eq!(left, before, "{change:?}");
    }
}

/// Defects of the `rbd` command that the examples do not copy. Each changes something else than
/// requested.
#[test]
fn silent_changes_of_the_rbd_command_are_refused() {
    let pool = Pool::new();
    let (theirs, ours) = (pool.at("theirs"), pool.at("ours"));

    // fast-diff without object-map: left out.
    let features = ["--image-feature", "layering,exclusive-lock,fast-diff"];
    rbd(&[&["create", "-s", "1", &theirs][..], &features].concat());
    let got = pool.ioctx.open("theirs").read_only(true).run().unwrap().features().unwrap();
    assert_eq!(got, Features::LAYERING | Features::EXCLUSIVE_LOCK);
    refused(&[&["create", "-s", "1", &ours][..], &features].concat(), "fast-diff needs object-map");

    // An object size that is no power of two: rounded.
    rbd(&["create", "-s", "1", "--object-size", "5000", &pool.at("rounded")]);
    assert_eq!(pool.ioctx.open("rounded").read_only(true).run().unwrap().stat().unwrap().object_size, 4096);
    refused(&["create", "-s", "1", "--object-size", "5000", &ours], "5000 bytes is not a power of two");

    // fast-diff disabled together with object-map, and object-map enabled together with fast-diff.
    let image = pool.at("image");
    rbd(&["create", "-s", "1", &image]);
    refused(
        &["feature", "disable", &image, "object-map"],
        "object-map cannot be disabled alone, because other features need it; disable fast-diff too",
    );
    rbd(&["feature", "disable", &image, "object-map"]);
    let features = || pool.ioctx.open("image").read_only(true).run().unwrap().features().unwrap();
    assert!(!features().contains(Features::FAST_DIFF));
    refused(&["feature", "enable", &image, "fast-diff"], "fast-diff needs object-map");
    rbd(&["feature", "enable", &image, "fast-diff"]);
    assert!(features().contains(Features::OBJECT_MAP));
}

#[test]
fn users_without_permission() {
    let pool = Pool::new();
    let image = pool.at("image");
    rbd(&["create", "-s", "8", &image]);
    let caps = [("mon", "profile rbd"), ("osd", "profile rbd-read-only")];
    let reader = rbd_testcluster::shared().user(&super::unique("cli-reader"), &caps).unwrap();
    let id = reader.id.as_str();
    for command in
        [&["info", &image][..], &["ls", &pool.name], &["ls", "-l", &pool.name], &["status", &image]]
    {
        assert_eq!(same(&[command, &["--id", id]].concat()).status, Some(0), "{command:?}");
    }
    let message = "rbd: error opening image image: (1) Operation not permitted";
    same_failure(&["resize", "-s", "16", &image, "--id", id], 1, message);
    same_failure(&["feature", "enable", &image, "journaling", "-n", &format!("client.{id}")], 1, message);
    same_failure(&["rm", &image, "--id", id], 1, "rbd: delete error: (1) Operation not permitted");
    let message = "rbd: create error: (1) Operation not permitted";
    same_failure(&["create", "-s", "1", &pool.at("new"), "--id", id], 1, message);

    let key = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";
    let connecting = "rbd: couldn't connect to the cluster!\n";
    same_failure(
        &["ls", "--key", key],
        13,
        &format!("{connecting}rbd: listing images failed: (13) Permission denied"),
    );
    same_failure(&["info", &image, "--key", key], 13, connecting);
    same_failure(
        &["ls", "--keyring", "/nonexistent"],
        2,
        &format!("{connecting}rbd: listing images failed: (2) "),
    );
    same_failure(&["status", &image, "--id", "nobody"], 2, connecting);
    let message = "global_init: unable to open config file from search list /nonexistent";
    same_failure(&["ls", "--conf", "/nonexistent"], 1, message);
    same_failure(&["rm", &image, "-c", "/nonexistent"], 1, message);
}

#[test]
fn a_cluster_that_does_not_answer() {
    // Discard port: nothing listens there.
    let setting = Setting { ceph_args: "--client-mount-timeout 2 -m 127.0.0.1:9", ..Setting::shared() };
    let said = setting.same(&["ls"]);
    assert_eq!(said.status, Some(110), "{said:?}");
    assert!(said.messages.ends_with("rbd: listing images failed: (110) Connection timed out\n"), "{said:?}");
}

#[test]
fn an_embedded_cluster_for_one_run() {
    let setting = Setting { conf: std::path::Path::new("/nonexistent"), ceph_args: "" };
    let said = setting.example(&["create", "--embedded", "-s", "1G", "foo"]);
    assert_eq!(said, Said { status: Some(0), out: String::new(), messages: String::new() });
    let said = setting.example(&["ls", "--embedded"]);
    assert_eq!(
        said,
        Said { status: Some(0), out: String::new(), messages: String::new() },
        "another cluster, empty"
    );
}

fn both(args: &[&str]) -> (Said, Said) {
    (Setting::shared().rbd(args), Setting::shared().example(args))
}

/// Asserts that the example refuses and says why.
#[track_caller]
fn refused(args: &[&str], why: &str) {
    let output = output(Setting::shared().command(super::example(args[0]), "").args(&args[1..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(22), "{args:?}: {said}");
    assert!(said.contains(why) && said.ends_with("(22) Invalid argument\n"), "{args:?}: {said}");
}
