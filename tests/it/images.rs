//! Images: create, list, open, query, resize, rename, remove, and the errors of these calls.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use rbd::{
    Errno, ErrorKind, Features, ObjectKind,
    error::Holder,
    features::{Flags, OpFeatures},
};

use crate::support::{Space, builder, cluster, unique};

const MIB: u64 = 1 << 20;

#[test]
fn an_image_is_what_it_was_created_as() {
    let space = Space::new();
    let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
    space
        .create("foo", 10 * MIB + 1)
        .features(features)
        .object_size(64 << 10)
        .striping(4096, 4)
        .run()
        .unwrap();
    let image = space.open("foo").run().unwrap();
    let stat = image.stat().unwrap();
    assert_eq!((stat.size, stat.object_size, stat.order), (10 * MIB + 1, 64 << 10, 16));
    assert_eq!(image.size().unwrap(), stat.size);
    assert_eq!(image.features().unwrap(), features | Features::STRIPING);
    assert_eq!((image.stripe_unit().unwrap(), image.stripe_count().unwrap()), (4096, 4));
    assert_eq!(image.op_features().unwrap(), OpFeatures::empty());
    assert_eq!(image.flags().unwrap(), Flags::empty());
    assert_eq!(image.name().unwrap(), "foo");
    assert_eq!(image.block_name_prefix().unwrap(), stat.block_name_prefix);
    assert_eq!(stat.block_name_prefix, format!("rbd_data.{}", image.id().unwrap()));
    assert_eq!(image.data_pool_id().unwrap(), space.pool_id());
    assert_eq!(image.overlap().unwrap(), 0);
    assert!(!image.is_old_format().unwrap());
    let age = SystemTime::now().duration_since(image.created().unwrap()).unwrap();
    assert!(age < Duration::from_secs(300), "{age:?}");
    assert_eq!(image.created().unwrap(), image.modified().unwrap());
    assert_eq!(image.created().unwrap(), image.accessed().unwrap());
    let by_id = space.open_by_id(&image.id().unwrap()).read_only(true).run().unwrap();
    assert_eq!(by_id.name().unwrap(), "foo");
    image.close().unwrap();
}

#[test]
fn the_list_is_sorted_and_long_lists_are_whole() {
    let space = Space::new();
    assert!(space.list().unwrap().is_empty());
    let names: Vec<String> = (0..150).map(|n| format!("image-{n:03}")).collect();
    for name in names.iter().rev() {
        space.create(name, 0).run().unwrap();
    }
    let listed: Vec<String> = space.list().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(listed, names);
}

#[test]
fn odd_names_work_and_impossible_ones_are_refused() {
    let space = Space::new();
    for name in ["with space", "ümläut-日本", "a.b,c;d=e", &"n".repeat(90)] {
        space.create(name, MIB).run().unwrap();
        assert_eq!(space.open(name).run().unwrap().name().unwrap(), name);
    }
    for name in ["", "a/b", "a@b", "a\0b"] {
        let error = space.create(name, MIB).run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
        assert!(space.open(name).run().is_err());
    }
}

#[test]
fn creating_what_exists() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let error = space.create("foo", MIB).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.errno(), Some(Errno::EEXIST));
    let text = error.to_string();
    let spec = format!("rbd/{}/foo", space.namespace());
    assert!(
        text.starts_with(&format!("cannot create image '{spec}': it already exists (EEXIST 17); choose")),
        "{text}"
    );
    assert!(
        error.log().iter().any(|line| line.contains("rbd image foo already exists")),
        "librbd's reason: {text}"
    );
}

#[test]
fn missing_things_are_reported() {
    let space = Space::new();
    let not_found = |what| ErrorKind::NotFound { what };
    let error = space.open("nope").run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::Image));
    assert!(error.to_string().contains("/nope': the image does not exist (ENOENT 2)"), "{error}");
    space.create("foo", MIB).run().unwrap();
    let error = space.open("foo").snapshot("nope").run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::Snapshot), "{error}");
    let error = space.open("nope").snapshot("nope").run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::Image), "{error}");
    let error = space.create("bar", MIB).data_pool("nopool").run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::DataPool), "{error}");
    let nowhere = space.with_namespace("nowhere").unwrap();
    for error in [
        nowhere.open("foo").run().unwrap_err(),
        nowhere.remove("foo").run().unwrap_err(),
        nowhere.list().unwrap_err(),
        nowhere.trash().list().unwrap_err(),
        nowhere.groups().list().unwrap_err(),
        nowhere.groups().create("g").unwrap_err(),
    ] {
        assert_eq!(*error.kind(), not_found(ObjectKind::Namespace), "{error}");
        assert!(
            error.to_string().contains("namespace 'rbd/nowhere': the namespace does not exist"),
            "{error}"
        );
    }
    let error = nowhere.create("bar", MIB).run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::Namespace), "{error}");
    assert!(error.to_string().contains("namespace 'nowhere' does not exist"), "{error}");
    let error = space.remove("nope").run().unwrap_err();
    assert_eq!(*error.kind(), not_found(ObjectKind::Image), "{error}");
    assert!(space.rename("nope", "else").unwrap_err().is_not_found());
}

#[test]
fn illegal_shapes_are_refused_before_anything_is_touched() {
    let space = Space::new();
    let refused = |create: rbd::ioctx::CreateImage<'_>, text: &str| {
        let error = create.run().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    let fast_diff_alone = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::FAST_DIFF;
    refused(space.create("foo", MIB).features(fast_diff_alone), "fast-diff needs object-map");
    refused(space.create("foo", MIB).features(Features::OBJECT_MAP), "object-map needs exclusive-lock");
    let map_alone = Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP;
    refused(space.create("foo", MIB).features(map_alone), "object-map needs fast-diff");
    refused(space.create("foo", MIB).features(Features::STRIPING), "needs a stripe unit and a stripe count");
    refused(space.create("foo", MIB).features(Features::DATA_POOL), "data-pool needs a pool");
    refused(space.create("foo", MIB).features(Features::JOURNALING), "journaling needs exclusive-lock");
    refused(space.create("foo", MIB).features(Features::MIGRATING), "migrating is managed by librbd");
    refused(space.create("foo", u64::MAX), "exceed the largest image size");
    refused(space.create("foo", i64::MAX as u64 + 1), "exceed the largest image size");
    refused(space.create("foo", MIB).object_size(3000), "3000 bytes is not a power of two");
    refused(space.create("foo", MIB).object_size(64 << 20), "not a power of two from 4 KiB to 32 MiB");
    refused(space.create("foo", MIB).striping(0, 4), "neither may be zero");
    refused(space.create("foo", MIB).object_size(4096).striping(3000, 2), "does not divide");
    assert!(space.list().unwrap().is_empty());
}

#[test]
fn features_change_by_the_rules() {
    let space = Space::new();
    space.create("foo", 64 * MIB).features(Features::DEFAULT).run().unwrap();
    let image = space.open("foo").run().unwrap();

    let error = image.disable_features(Features::EXCLUSIVE_LOCK).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("disable object-map, fast-diff too"), "{error}");

    let error = image.disable_features(Features::FAST_DIFF).unwrap_err();
    assert!(error.to_string().contains("disable object-map too"), "{error}");
    assert_eq!(image.features().unwrap(), Features::DEFAULT, "nothing was touched");

    // As people type it: `rbd feature disable foo exclusive-lock, object-map, …`.
    image.disable_features("exclusive-lock, object-map, fast-diff, deep-flatten".parse().unwrap()).unwrap();
    assert_eq!(image.features().unwrap(), Features::LAYERING);
    image.disable_features(Features::JOURNALING).expect("what is off already is no change");

    assert!(
        image.enable_features(Features::OBJECT_MAP).unwrap_err().to_string().contains("needs exclusive-lock")
    );
    assert!(image.enable_features(Features::DEEP_FLATTEN).unwrap_err().to_string().contains("not enabled"));
    assert!(image.enable_features(Features::DATA_POOL).unwrap_err().to_string().contains("fixed when"));
    let lock_and_map = Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
    image.enable_features(lock_and_map).unwrap();
    assert_eq!(image.features().unwrap(), Features::LAYERING | lock_and_map);
    image.enable_features(Features::JOURNALING).unwrap();
    assert!(image.features().unwrap().contains(Features::JOURNALING));
}

#[test]
fn a_plan_for_an_old_kernel_is_carried_out_once() {
    let space = Space::new();
    space.create("foo", MIB).features(Features::DEFAULT | Features::JOURNALING).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let plan = rbd::features::Plan::to_support(image.features().unwrap(), Features::LAYERING).unwrap();
    image.apply(&plan).unwrap();
    assert_eq!(image.features().unwrap(), plan.after());
    let error = image.apply(&plan).unwrap_err();
    assert!(error.to_string().contains("make a new plan"), "{error}");
}

#[test]
fn resize_grows_and_shrinks_only_when_told() {
    let space = Space::new();
    space.create("foo", 8 * MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.resize(64 * MIB).run().unwrap();
    image.write_all_at(&[7; 100], 64 * MIB - 100).unwrap();
    let error = image.resize(MIB).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("1048576 bytes are less than its 67108864; shrinking destroys data"),
        "{error}"
    );
    let error = image.resize(u64::MAX).run().unwrap_err();
    assert!(error.to_string().contains("exceed the largest image size"), "librbd would abort later: {error}");
    let mut steps = Vec::new();
    let keep = |done, total| {
        steps.push((done, total));
        ControlFlow::Continue(())
    };
    image.resize(MIB).allow_shrink(true).progress(keep).run().unwrap();
    assert!(!steps.is_empty(), "progress was told");
    assert_eq!(image.size().unwrap(), MIB);
}

#[test]
fn a_break_stops_and_a_panic_comes_back() {
    let space = Space::new();
    space.create("foo", 400 * MIB).features(Features::LAYERING).run().unwrap();
    let error = space.remove("foo").progress(|_, _| ControlFlow::Break(())).run().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Stopped, "{error}");
    assert_eq!(space.list().unwrap().len(), 1, "it is still listed");
    for refused in [
        space.open("foo").run().err(),
        space.open("foo").read_only(true).snapshot("s").run().err(),
        space.rename("foo", "bar").err(),
        space.trash().add("foo").run().err(),
    ] {
        let error = refused.unwrap();
        let text = error.to_string();
        assert!(
            error.is_not_found()
                && text.contains("removal was interrupted")
                && text.contains("trash().remove("),
            "{text}"
        );
    }
    let caught = std::panic::catch_unwind(|| space.remove("foo").progress(|_, _| panic!("mine")).run());
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "mine");
    space.remove("foo").run().unwrap();
    assert!(space.list().unwrap().is_empty());
}

#[test]
fn a_name_that_is_several_is_explained() {
    let (space, cluster) = (Space::new(), cluster());
    for name in ["rbd/foo", "foo@s"] {
        for refused in [
            cluster.ioctx(name).err(),
            space.open(name).run().err(),
            space.open(name).start().wait().err(),
            space.remove(name).run().err(),
            space.rename(name, "bar").err(),
            space.trash().add(name).run().err(),
        ] {
            let error = refused.unwrap();
            assert!(error.is_not_found() && error.to_string().contains("rbd::ImageSpec parses"), "{error}");
        }
    }
    let error = space.open("nope").run().unwrap_err();
    assert!(error.to_string().ends_with("check its name, pool and namespace"), "{error}");
    for refused in [
        cluster.ioctx("").err(),
        space.open("").run().err(),
        space.remove("").run().err(),
        space.rename("", "bar").err(),
        space.trash().add("").run().err(),
    ] {
        let error = refused.unwrap();
        assert!(
            *error.kind() == ErrorKind::InvalidInput && error.to_string().contains("the name is empty"),
            "{error}"
        );
    }
}

#[test]
fn a_busy_image_names_who_has_it_open() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let mine = cluster().instance_id();
    assert_eq!(image.watchers().unwrap().len(), 1);
    assert!(image.other_watchers().unwrap().is_empty());
    let error = space.remove("foo").run().unwrap_err();
    let ErrorKind::Busy { holders } = error.kind() else { panic!("{error}") };
    assert!(matches!(&holders[..], [Holder::Watcher(watcher)] if watcher.client == mine), "{error}");
    assert!(error.to_string().contains(&format!("watcher client.{mine} at 127.0.0.1:0/")), "{error}");
    drop(image);
    space.remove("foo").run().unwrap();
}

#[test]
fn rename_refuses_a_name_that_is_taken() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    space.create("bar", MIB).run().unwrap();
    let error = space.rename("foo", "bar").unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("/bar' already exists"), "{error}");
    space.rename("foo", "baz").unwrap();
    assert_eq!(
        space.list().unwrap().iter().map(|image| image.name.as_str()).collect::<Vec<_>>(),
        ["bar", "baz"]
    );
}

#[test]
fn a_user_with_read_caps_reads_and_is_refused_writes() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let access = rbd_testcluster::shared();
    let name = unique("reader");
    let user = access.user(&name, &[("mon", "profile rbd"), ("osd", "profile rbd-read-only")]).unwrap();
    let reader = builder().user(&name).keyring(&user.keyring).connect().unwrap();
    let pool = reader.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
    let image = pool.open("foo").read_only(true).run().unwrap();
    assert_eq!(image.read_at(&mut [0; 16], 0).unwrap(), 16);
    let error = image.write_at(&[1], 0).unwrap_err();
    assert!(error.is_read_only(), "{error}");
    let error = pool.open("foo").run().unwrap_err();
    assert!(error.is_permission_denied(), "{error}");
    assert!(error.to_string().contains("the cluster refused this user (EPERM 1)"), "{error}");
    let error = pool.create("bar", MIB).run().unwrap_err();
    assert!(error.is_permission_denied(), "{error}");
}

#[test]
fn namespaces_hold_their_own_images() {
    let (pool, name) = (cluster().ioctx("rbd").unwrap(), unique("ns"));
    pool.namespaces().create(&name).unwrap();
    assert!(pool.namespaces().create(&name).unwrap_err().is_already_exists());
    assert!(pool.namespaces().exists(&name).unwrap() && pool.namespaces().list().unwrap().contains(&name));
    let space = pool.with_namespace(&name).unwrap();
    space.create("foo", MIB).run().unwrap();
    assert!(pool.open("foo").run().is_err(), "not in the default namespace");
    let error = pool.namespaces().remove(&name).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("it contains images"), "{error}");
    space.remove("foo").run().unwrap();
    pool.namespaces().remove(&name).unwrap();
    assert!(!pool.namespaces().exists(&name).unwrap());
    assert!(pool.namespaces().remove(&name).unwrap_err().is_not_found());
}

#[test]
fn an_image_opens_by_its_specification() {
    let space = Space::new();
    space.create("foo", MIB).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.snapshots().create("s1").run().unwrap();
    image.close().unwrap();
    let spec = rbd::ImageSpec::new(space.pool(), "foo").namespace(space.namespace());
    let open = |spec: &str| space.cluster().open(&spec.parse().unwrap())?.run();
    assert_eq!(open(&spec.to_string()).unwrap().snapshot(), None);
    let then = open(&spec.clone().snapshot("s1").to_string()).unwrap();
    assert_eq!((then.snapshot(), then.is_read_only()), (Some("s1"), true));
    assert!(space.cluster().open(&spec).unwrap().read_only(true).run().unwrap().is_read_only());
    assert!(open("rbd/nope").unwrap_err().is_not_found());
    assert!(open("nope/foo").unwrap_err().to_string().contains("pool 'nope'"));
}

#[test]
fn the_features_of_a_cloned_image_can_be_given_to_a_creation() {
    let space = Space::new();
    space.create("golden", MIB).features(Features::DEFAULT).run().unwrap();
    let golden = space.open("golden").run().unwrap();
    golden.snapshots().create("s1").run().unwrap();
    space.clone_image("golden", "s1", "vm").format(rbd::image::CloneFormat::V2).run().unwrap();
    let features = golden.features().unwrap();
    assert!(features.contains(Features::OPERATIONS));
    assert!(space.create("alike", MIB).features(features).run().is_err());
    space.create("alike", MIB).features(features.creatable()).run().unwrap();
    assert_eq!(space.open("alike").run().unwrap().features().unwrap(), features - Features::OPERATIONS);
}
