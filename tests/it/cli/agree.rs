//! The output of the examples for images of every kind.

use rbd::Features;
use rbd::image::CloneFormat;
use rbd::mirror::{ImageMode, PoolMode};

use super::{Pool, Setting, example, example_succeeds, rbd, same, terminal};
use crate::support::program::output;

/// Plain, JSON and indented JSON.
const FORMATS: [&[&str]; 3] = [&[], &["--format", "json"], &["--format", "json", "--pretty-format"]];

const MIB: u64 = 1 << 20;

/// Creates images of different kinds and returns their names. This process makes them, because a
/// start of `rbd` costs more than an image.
fn images_of_every_kind(pool: &Pool, data: &Pool, largest: u64) -> Vec<String> {
    let image = |name: &'static str, mib: u64| pool.ioctx.create(name, mib * MIB);
    let layering = Features::LAYERING;
    let journaling = Features::EXCLUSIVE_LOCK | Features::JOURNALING;
    let shared = layering | Features::DEEP_FLATTEN;
    let odd_size = pool.ioctx.create("odd-size", 1_234_567);
    let mut images = Vec::new();
    for (name, create) in [
        ("default", image("default", 1024)),
        ("layering", image("layering", 64).features(layering)),
        ("striped", image("striped", 1024).striping(64 << 10, 4)),
        ("data-pool", image("data-pool", 100).data_pool(&data.name)),
        ("journaling", image("journaling", 10).features(layering | journaling)),
        ("mirrored", image("mirrored", 10)),
        ("mirrored-by-journal", image("mirrored-by-journal", 10).features(journaling)),
        ("demoted", image("demoted", 10)),
        ("object-size-4k", pool.ioctx.create("object-size-4k", 1536 << 10).object_size(4 << 10)),
        ("object-size-32m", image("object-size-32m", 100).object_size(32 * MIB)),
        ("size-0", image("size-0", 0)),
        ("odd-size", odd_size),
        ("shared", pool.ioctx.create("shared", largest).features(shared)),
        ("grouped", image("grouped", 64).features(layering)),
        ("parent", image("parent", 8)),
    ] {
        create.run().unwrap();
        images.push(pool.at(name));
    }
    let open = |name| pool.ioctx.open(name).run().unwrap();
    pool.ioctx.mirroring().set_mode(PoolMode::Image).unwrap();
    for (name, mode) in [
        ("mirrored", ImageMode::Snapshot),
        ("mirrored-by-journal", ImageMode::Journal),
        ("demoted", ImageMode::Snapshot),
    ] {
        open(name).mirroring().enable(mode).unwrap();
    }
    open("demoted").mirroring().demote().unwrap();
    pool.ioctx.groups().create("group").unwrap().add(&pool.ioctx, "grouped").unwrap();

    let parent = open("parent");
    parent.snapshots().create("protected").run().unwrap();
    parent.snapshots().protect("protected").unwrap();
    parent.snapshots().create("plain").run().unwrap();
    parent.resize(16 * MIB).run().unwrap();
    pool.ioctx.namespaces().create("space").unwrap();
    let space = pool.ioctx.with_namespace("space").unwrap();
    space.create("inside", MIB).run().unwrap();
    let clone = |snapshot, child, place, format| {
        pool.ioctx.clone_image("parent", snapshot, child).into_ioctx(place).format(format).run().unwrap();
    };
    clone("protected", "clone-1", &pool.ioctx, CloneFormat::V1);
    clone("plain", "clone-2", &pool.ioctx, CloneFormat::V2);
    open("clone-1").snapshots().create("own").run().unwrap();
    clone("plain", "clone", &space, CloneFormat::V2);
    // Its snapshot is moved to the trash, because a clone needs it.
    parent.snapshots().create("trashed").run().unwrap();
    clone("trashed", "clone-3", &pool.ioctx, CloneFormat::V2);
    parent.snapshots().remove("trashed").run().unwrap();

    let others = ["clone-1", "clone-1@own", "clone-2", "clone-3", "space/clone"];
    images.extend(others.map(|name| pool.at(name)));
    images.extend(["parent@protected", "parent@plain", "space/inside"].map(|name| pool.at(name)));
    images
}

#[test]
fn info_of_images_of_every_kind() {
    let (pool, data) = (Pool::new(), Pool::new());
    for image in images_of_every_kind(&pool, &data, 1 << 40) {
        for format in FORMATS {
            let said = same(&[&["info", &image][..], format].concat());
            assert_eq!(said.status, Some(0), "{image}: {said:?}");
            assert!(said.out.contains("create_timestamp"), "{image}: {said:?}");
        }
    }
}

#[test]
fn info_by_flags_and_by_id() {
    let pool = Pool::new();
    let (name, image) = (pool.name.as_str(), pool.at("image"));
    rbd(&["create", "-s", "8", &image]);
    rbd(&["snap", "create", "--no-progress", &pool.at("image@snap")]);
    let id = pool.ioctx.list().unwrap().remove(0).id;
    for args in [
        &["info", "--pool", name, "--image", "image"][..],
        &["info", "-p", name, "image"],
        &["info", "--image", &image],
        &["info", "-p", name, "--image", "image", "--snap", "snap"],
        &["info", "-p", name, "image", "--snap", "snap"],
        &["info", "-p", "ignored", &pool.at("image@snap")],
        &["info", "-p", name, "--image-id", &id],
    ] {
        assert_eq!(same(args).status, Some(0), "{args:?}");
    }
}

#[test]
fn ls_short_and_long() {
    let (pool, data) = (Pool::new(), Pool::new());
    let space = pool.at("space");
    for format in FORMATS {
        assert_eq!(same(&[&["ls", &pool.name][..], format].concat()).status, Some(0));
        assert_eq!(same(&[&["ls", "-l", &pool.name][..], format].concat()).status, Some(0));
    }
    images_of_every_kind(&pool, &data, 1 << 40);
    // Open for writing, and written to: it is locked.
    let open = pool.ioctx.open("default").run().unwrap();
    open.write_all_at(b"locked", 0).unwrap();
    for format in FORMATS {
        for place in
            [&[&*pool.name][..], &["-p", &pool.name], &[&space], &["-p", &pool.name, "--namespace", "space"]]
        {
            assert_eq!(same(&[&["ls"], place, format].concat()).status, Some(0));
            assert_eq!(same(&[&["ls", "--long"], place, format].concat()).status, Some(0));
        }
    }
    // A pool in a flag displaces the word. A namespace in a flag yields to the one in the word.
    let name = &*pool.name;
    for args in [
        &["-p", name, "rbd"][..],
        &["-p", name, "rbd/none"],
        &["-p", name, "--namespace", "space", "rbd"],
        &["--namespace", "space", name],
        &["--namespace", "none", &space],
        &["-p", "", &space],
    ] {
        assert_eq!(same(&[&["ls"], args].concat()).status, Some(0), "{args:?}");
    }
    let long = same(&["ls", "-l", &pool.name]).out;
    assert!(long.contains("excl") && long.contains("parent@protected") && long.contains("  yes  "), "{long}");
}

#[test]
fn du_of_pools_images_and_snapshots() {
    let (pool, data) = (Pool::new(), Pool::new());
    for format in FORMATS {
        assert_eq!(same(&[&["du", "-p", &pool.name][..], format].concat()).status, Some(0));
    }
    // An image without an object map is measured object by object, so none is large.
    images_of_every_kind(&pool, &data, 64 * MIB);
    // On an image of size 0, `rbd du` of 16.2 aborts.
    rbd(&["rm", "--no-progress", &pool.at("size-0")]);
    for name in ["default", "layering", "striped", "clone-1"] {
        let image = pool.ioctx.open(name).run().unwrap();
        image.write_all_at(b"first", 0).unwrap();
        image.write_all_at(b"last", image.size().unwrap() - 4).unwrap();
        image.snapshots().create("middle").run().unwrap();
        image.write_all_at(b"second", 4 << 20).unwrap();
        image.close().unwrap();
    }
    for format in FORMATS {
        let at = |image: &str| pool.at(image);
        for args in [
            &["-p", &pool.name][..],
            &["-p", &pool.name, "--merge-snapshots"],
            &["-p", &pool.name, "--namespace", "space"],
            &["-p", &pool.name, "--namespace", "none"],
            &["-p", &pool.name, "--snap", "protected"],
            &["-p", &pool.name, "--snap", "own"],
            &[&at("default")],
            &["-p", &pool.name, "--image", "striped"],
            &["--merge-snapshots", &at("default")],
            &[&at("parent")],
            &[&at("parent@plain")],
            &[&at("parent"), "--snap", "protected"],
            &[&at("parent@none")],
            &[&at("none")],
            &[&at("space/inside")],
            &["-p", "no-such-pool"],
        ] {
            same(&[&["du"], args, format].concat());
        }
    }
    let said = same(&["du", "-p", &pool.name]);
    assert!(
        said.out.contains("<TOTAL>") && said.messages.contains("fast-diff map is not enabled"),
        "{said:?}"
    );
    assert_eq!(same(&["du", &pool.at("none")]).status, Some(2));
}

/// The bar is a line of its own on standard error, which disappears in the end.
#[test]
fn long_listings_show_their_progress_on_a_terminal() {
    let pool = Pool::new();
    for name in ["a", "b", "c", "d"] {
        rbd(&["create", "-s", "8", &pool.at(name)]);
    }
    let on_a_terminal = |name: &str, args: &str| {
        let mut command = Setting::shared().command(example(name), "");
        command.args(["-p", &pool.name]).args(args.split_whitespace());
        terminal::shown_by(command)
    };
    for (name, args, what) in [("ls", "--long", "Listing images"), ("du", "", "Reading object maps")] {
        let shown = on_a_terminal(name, args);
        let (bar, table) = shown.split_once("\r\x1b[K").unwrap_or_else(|| panic!("{shown:?}"));
        let steps = [25, 50, 75, 100].map(|percent| format!("\r{what}: {percent}% complete..."));
        assert_eq!(bar, steps.concat());
        assert!(table.contains("NAME") && table.contains("8 MiB"), "{table:?}");
        assert!(!on_a_terminal(name, &format!("{args} --no-progress")).contains("complete"));
        let args: Vec<_> = [name, "-p", &pool.name].into_iter().chain(args.split_whitespace()).collect();
        assert_eq!(example_succeeds(&args).messages.matches("complete").count(), 0);
    }
}

/// The command lists images of format 1 first.
#[test]
fn images_of_format_1_come_first() {
    let pool = Pool::new();
    for name in ["a", "c"] {
        rbd(&["create", "-s", "8", &pool.at(name)]);
    }
    for name in ["d", "b"] {
        let mut create = Setting::shared().command("rbd", "");
        create.env("RBD_FORCE_ALLOW_V1", "1");
        let args = ["create", "--image-format", "1", "-s", "8", &pool.at(name)];
        let created = output(create.args(args));
        assert!(created.status.success(), "{created:?}");
    }
    for format in FORMATS {
        for args in [&["ls", &pool.name][..], &["ls", "-l", &pool.name], &["du", "-p", &pool.name]] {
            let said = same(&[args, format].concat());
            assert_eq!(said.status, Some(0), "{said:?}");
        }
    }
    assert_eq!(same(&["ls", &pool.name]).out, "b\nd\na\nc\n");
}

/// A header that cannot be read, one that is missing, and an invalid object map.
#[test]
fn ls_and_du_go_on_after_an_error() {
    let pool = Pool::new();
    for name in ["a", "b", "c", "d"] {
        rbd(&["create", "-s", "8", &pool.at(name)]);
    }
    rbd(&["snap", "create", "--no-progress", &pool.at("d@snap")]);
    let headers: Vec<_> =
        pool.ioctx.list().unwrap().into_iter().map(|image| format!("rbd_header.{}", image.id)).collect();
    let flags = 3_u64.to_le_bytes();
    pool.ioctx.objects().set_omap(&headers[3], &[(&b"flags"[..], &flags[..])]).unwrap();
    let both = |statuses: [i32; 2]| {
        for format in FORMATS {
            let ls = same(&[&["ls", "-l", &pool.name][..], format].concat());
            let du = same(&[&["du", "-p", &pool.name][..], format].concat());
            assert_eq!([ls.status, du.status], statuses.map(Some), "{ls:?} {du:?}");
        }
    };
    both([0, 0]);
    pool.ioctx.objects().set_omap(&headers[1], &[(&b"size"[..], &b"x"[..])]).unwrap();
    both([0, 0]);
    assert!(same(&["ls", "-l", &pool.name]).messages.contains("error opening b: (5) Input/output error"));
    assert_eq!(same(&["du", &pool.at("b")]).status, Some(5));
    pool.ioctx.objects().remove(&headers[1]).unwrap();
    both([0, 0]);
    assert_eq!(same(&["du", &pool.at("b")]).status, Some(2));
    // The last one decides the exit status.
    pool.ioctx.objects().set_omap(&headers[3], &[(&b"size"[..], &b"x"[..])]).unwrap();
    both([5, 5]);
}

#[test]
fn status_without_and_with_watchers() {
    let pool = Pool::new();
    let image = pool.at("image");
    rbd(&["create", "-s", "8", &image]);
    for format in FORMATS {
        same(&[&["status", &image][..], format].concat());
    }
    let open = [pool.ioctx.open("image").run().unwrap(), pool.ioctx.open("image").run().unwrap()];
    for format in FORMATS {
        let said = same(&[&["status", &image][..], format].concat());
        assert_eq!(said.out.matches("cookie").count(), 2, "{said:?}");
    }
    drop(open);
}

#[test]
fn status_of_migrations() {
    let (pool, other) = (Pool::new(), Pool::new());
    let moving = |said: &str, image: &str| {
        for format in FORMATS {
            let status = same(&[&["status", image][..], format].concat()).out;
            assert!(status.contains(said), "{status}");
        }
    };
    rbd(&["namespace", "create", &pool.at("space")]);
    let (from, to) = (pool.at("space/from"), other.at("to"));
    rbd(&["create", "-s", "8", &from]);
    rbd(&["migration", "prepare", &from, &to]);
    moving("prepared", &to);
    rbd(&["migration", "execute", "--no-progress", &to]);
    moving("executed", &to);
    rbd(&["migration", "commit", "--no-progress", &to]);

    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let stream = serde_json::json!({ "type": "file", "file_path": file.path() });
    let source = serde_json::json!({ "type": "raw", "stream": stream }).to_string();
    let imported = pool.at("imported");
    rbd(&["migration", "prepare", "--import-only", "--source-spec", &source, &imported]);
    moving("file_path", &imported);
    rbd(&["migration", "abort", "--no-progress", &imported]);
}
