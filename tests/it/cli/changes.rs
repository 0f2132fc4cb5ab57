//! Changes of images by the examples, compared with the same changes by the `rbd` command.

use super::{Pool, Setting, example_succeeds, rbd, same, shape};

#[test]
fn create_makes_the_same_images() {
    let (pool, data) = (Pool::new(), Pool::new());
    let flags: &[&[&str]] = &[
        &["-s", "1G"],
        &["--size", "1"],
        &["-s", "0"],
        &["-s", "1536K"],
        &["-s", "100B"],
        &["-s", "1T"],
        &["-s", "2Gi"],
        &["-s", "3MB"],
        &["-s", "10", "--image-feature", "layering"],
        &["-s", "10", "--image-feature", "layering,exclusive-lock", "--image-feature", "journaling"],
        &["-s", "10", "--image-shared"],
        &["-s", "10", "--image-shared", "--image-feature", "layering,exclusive-lock"],
        &["-s", "10", "--object-size", "4K"],
        &["-s", "10", "--object-size", "33554432"],
        &["-s", "10", "--stripe-unit", "64K", "--stripe-count", "4"],
        &["-s", "10", "--data-pool", &data.name],
        &["-s", "10", "--data-pool", &pool.name],
        &["-s", "10", "--image-format", "2", "--no-progress"],
    ];
    for (number, flags) in flags.iter().enumerate() {
        let (theirs, ours) = (pool.at(&format!("theirs-{number}")), pool.at(&format!("ours-{number}")));
        rbd(&[&["create", &theirs], *flags].concat());
        let said = example_succeeds(&[&["create", &ours], *flags].concat());
        assert_eq!((said.out.as_str(), said.messages.as_str()), ("", ""), "{flags:?}");
        assert_eq!(shape(&ours), shape(&theirs), "{flags:?}");
    }
}

#[test]
fn create_makes_the_same_journals() {
    let (pool, data) = (Pool::new(), Pool::new());
    let flags = ["-s", "1", "--image-feature", "exclusive-lock,journaling", "--journal-pool", &data.name];
    let flags = [&flags[..], &["--journal-object-size", "8M", "--journal-splay-width", "2"]].concat();
    let journal = |image: &str| {
        let info = rbd(&["journal", "info", "--format", "json", "--image", image]);
        let mut info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let fields = info.as_object_mut().unwrap();
        fields.retain(|key, _| matches!(key.as_str(), "order" | "splay_width" | "object_pool"));
        assert_eq!(fields.len(), 3, "{info}");
        info
    };
    rbd(&[&["create", &pool.at("theirs")], &flags[..]].concat());
    example_succeeds(&[&["create", &pool.at("ours")], &flags[..]].concat());
    assert_eq!(journal(&pool.at("ours")), journal(&pool.at("theirs")));
}

#[test]
fn create_takes_all_space_at_once() {
    let pool = Pool::new();
    let used = |image: &str| {
        let usage = rbd(&["du", "--format", "json", image]);
        serde_json::from_str::<serde_json::Value>(&usage).unwrap()["images"][0]["used_size"].as_u64()
    };
    for flags in [&["-s", "16"][..], &["-s", "9", "--no-progress"]] {
        let (theirs, ours) =
            (pool.at(&format!("theirs-{}", flags[1])), pool.at(&format!("ours-{}", flags[1])));
        let setting = Setting::shared();
        let expected = setting.rbd(&[&["create", "--thick-provision", &theirs], flags].concat());
        let said = setting.example(&[&["create", "--thick-provision", &ours], flags].concat());
        assert_eq!(said, expected, "{flags:?}");
        assert_eq!(used(&ours), used(&theirs), "{flags:?}");
        assert_eq!(used(&ours).map(|used| used >> 20), flags[1].parse().ok(), "{flags:?}");
    }
}

#[test]
fn sizes_are_written_alike() {
    let pool = Pool::new();
    for size in [
        0,
        1,
        1023,
        1024,
        1025,
        10_188,
        102_400,
        1_048_575,
        1_150_000_000,
        3 << 29,
        105_381_888,
        21_495_808,
        23_000_000,
        999 << 40,
    ] {
        pool.ioctx.create(&format!("size-{size}"), size).features(rbd::Features::LAYERING).run().unwrap();
    }
    same(&["ls", "-l", &pool.name]);
}

#[test]
fn resize_shrinks_and_grows_with_the_same_progress() {
    let pool = Pool::new();
    for image in ["theirs", "ours"] {
        rbd(&["create", "-s", "64", &pool.at(image)]);
    }
    let (theirs, ours) = (pool.at("theirs"), pool.at("ours"));
    for flags in [&["-s", "128"][..], &["-s", "32M", "--allow-shrink"], &["-s", "48", "--no-progress"]] {
        let setting = Setting::shared();
        let expected = setting.rbd(&[&["resize", &theirs], flags].concat());
        let said = setting.example(&[&["resize", &ours], flags].concat());
        assert_eq!(said, expected, "{flags:?}");
        assert_eq!(said.status, Some(0));
        assert_eq!(shape(&ours), shape(&theirs), "{flags:?}");
    }
}

#[test]
fn rm_removes_with_the_same_progress() {
    let pool = Pool::new();
    for image in ["theirs", "ours", "theirs-quiet", "ours-quiet"] {
        rbd(&["create", "-s", "64", &pool.at(image)]);
    }
    let setting = Setting::shared();
    let said = setting.example(&["rm", &pool.at("ours")]);
    assert_eq!(said, setting.rbd(&["rm", &pool.at("theirs")]));
    assert!(said.messages.contains("100% complete...done."), "{said:?}");
    let said = setting.example(&["rm", "--no-progress", &pool.at("ours-quiet")]);
    assert_eq!(said, setting.rbd(&["rm", "--no-progress", &pool.at("theirs-quiet")]));
    assert_eq!(pool.ioctx.list().unwrap(), []);
}

#[test]
fn features_are_enabled_and_disabled_alike() {
    let pool = Pool::new();
    let (theirs, ours) = (pool.at("theirs"), pool.at("ours"));
    for image in [&theirs, &ours] {
        rbd(&["create", "-s", "8", image]);
    }
    for change in [
        &["disable", "object-map,fast-diff"][..],
        &["enable", "object-map", "fast-diff"],
        &["disable", "fast-diff", "object-map"],
        &["disable", "exclusive-lock", "deep-flatten"],
        &["enable", "exclusive-lock,object-map", "fast-diff", "journaling"],
    ] {
        let (action, features) = change.split_first().unwrap();
        rbd(&[&["feature", action, &theirs], features].concat());
        let said = example_succeeds(&[&["feature", action, &ours], features].concat());
        assert_eq!((said.out.as_str(), said.messages.as_str()), ("", ""), "{change:?}");
        assert_eq!(shape(&ours), shape(&theirs), "{change:?}");
    }
    let (pool_name, image) = (pool.name.as_str(), "ours");
    example_succeeds(&["feature", "disable", "-p", pool_name, "--image", image, "journaling"]);
    assert!(
        !pool
            .ioctx
            .open("ours")
            .read_only(true)
            .run()
            .unwrap()
            .features()
            .unwrap()
            .contains(rbd::Features::JOURNALING)
    );
}
