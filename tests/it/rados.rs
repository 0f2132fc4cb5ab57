//! Below images: objects, commands to daemons, services, the log, fencing.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rbd::{
    Cluster, ErrorKind, ObjectKind,
    cluster::{LogLevel, LogWatch},
};

use crate::support::{Space, builder, cluster, rados, unique};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn the_objects_of_an_image_can_be_seen() {
    let space = Space::new();
    space.create("foo", 8 << 20).object_size(1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    image.write_all_at(b"hello", 3 << 20).unwrap();
    image.flush().unwrap();
    let (objects, id) = (space.objects(), image.id().unwrap());
    let names: Vec<String> = objects.list().unwrap().map(|object| object.unwrap().name).collect();
    let data = format!("rbd_data.{id}.0000000000000003");
    for name in
        [format!("rbd_header.{id}"), "rbd_id.foo".to_owned(), "rbd_directory".to_owned(), data.clone()]
    {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let pool = space.with_namespace("").unwrap();
    let mut all = pool.objects().list_all_namespaces().unwrap().map(Result::unwrap);
    assert!(all.any(|object| object.name == data && object.namespace == space.namespace()));
    assert!(pool.objects().list().unwrap().all(|object| object.unwrap().name != data));

    let stat = objects.stat(&data).unwrap();
    assert_eq!(stat.size, 5);
    assert!(stat.modified.elapsed().unwrap_or_default() < Duration::from_secs(600));
    let mut buffer = [0; 16];
    assert_eq!(objects.read_at(&data, &mut buffer, 1).unwrap(), 4);
    assert_eq!(&buffer[..4], b"ello");
    assert_eq!(objects.read_at(&data, &mut buffer, 5).unwrap(), 0);
    assert!(objects.attributes(&data).unwrap().is_empty());
    for (name, value) in [("colour", "blue"), ("size", "two words")] {
        rados(&image, 3, &["setxattr"], &[name, value]);
    }
    let attributes = objects.attributes(&data).unwrap();
    assert!(
        attributes
            .iter()
            .eq([(&"colour".to_owned(), &b"blue".to_vec()), (&"size".to_owned(), &b"two words".to_vec())])
    );
    let header = objects.omap(&format!("rbd_header.{id}")).unwrap();
    assert_eq!(header[&b"size"[..]], (8_u64 << 20).to_le_bytes());
    assert!(objects.omap("rbd_directory").unwrap().contains_key(&b"name_foo"[..]));

    let error = objects.stat("rbd_nothing").unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Object }, "{error}");
    assert!(
        error.to_string().contains(&format!("object 'rbd/{}/rbd_nothing'", space.namespace())),
        "{error}"
    );
    assert!(objects.omap("rbd_nothing").unwrap_err().is_not_found());
    assert!(objects.attributes("rbd_nothing").unwrap_err().is_not_found());
    assert_eq!(*objects.stat("").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(*objects.stat("a\0b").unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn objects_of_ones_own_can_be_written() {
    let space = Space::new();
    let objects = space.objects();
    objects.write_full("mine", b"0123456789").unwrap();
    objects.write_at("mine", b"ab", 2).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(objects.read_at("mine", &mut buffer, 0).unwrap(), 10);
    assert_eq!(&buffer, b"01ab456789");
    objects.write_full("mine", b"short").unwrap();
    assert_eq!(objects.stat("mine").unwrap().size, 5);
    assert!(objects.attributes("mine").unwrap().is_empty());

    // More than one page of keys, with arbitrary bytes in the values.
    let keys: Vec<String> = (0..2500).map(|number| format!("key-{number:04}")).collect();
    let pairs: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_bytes(), &b"\0\xff"[..])).collect();
    objects.set_omap("mine", &pairs).unwrap();
    let found = objects.omap("mine").unwrap();
    assert_eq!(found.len(), 2500);
    assert!(
        found.iter().zip(&keys).all(|((key, value), wanted)| key == wanted.as_bytes() && value == b"\0\xff")
    );
    let gone: Vec<&[u8]> = keys[1..].iter().map(|key| key.as_bytes()).collect();
    objects.remove_omap("mine", &gone).unwrap();
    assert_eq!(objects.omap("mine").unwrap().into_keys().collect::<Vec<_>>(), [b"key-0000"]);
    objects.remove("mine").unwrap();
    assert!(objects.remove("mine").unwrap_err().is_not_found());
}

#[test]
fn a_method_of_a_class_reads_and_writes() {
    let space = Space::new();
    space.create("image", 1 << 20).run().unwrap();
    let id = space.open("image").read_only(true).run().unwrap().id().unwrap();
    let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let answer = space.objects().execute("rbd_directory", "rbd", "dir_get_name", &text(&id)).unwrap();
    assert_eq!(answer, text("image"));
    // One pair.
    let pairs = [&1_u32.to_le_bytes()[..], &text("key"), &text(&"v".repeat(3000))].concat();
    let header = format!("rbd_header.{id}");
    assert!(space.objects().execute(&header, "rbd", "metadata_set", &pairs).unwrap().is_empty());
    let image = space.open("image").read_only(true).run().unwrap();
    assert_eq!(image.metadata().get("key").unwrap(), "v".repeat(3000));
    // Longer than the first buffer.
    let answer = space.objects().execute(&header, "rbd", "metadata_get", &text("key")).unwrap();
    assert_eq!(answer, text(&"v".repeat(3000)));
    let objects = space.objects();
    let error = objects.execute("rbd_directory", "rbd", "dir_get_name", &text("none")).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = objects.execute(&header, "rbd", "no_such_method", &[]).unwrap_err();
    assert!(error.to_string().contains(&header), "{error}");
    let error = objects.execute(&header, "no\0class", "x", &[]).unwrap_err();
    assert_eq!(*error.kind(), rbd::ErrorKind::InvalidInput);
}

#[test]
fn applications_keep_something_about_a_pool() {
    let (cluster, name) = (cluster(), unique("application"));
    cluster.pools().create(&name).unwrap();
    let pool = cluster.ioctx(&name).unwrap();
    assert!(pool.applications().list().unwrap().is_empty());
    assert!(pool.applications().metadata("mine").set("key", "value").unwrap_err().is_not_found());
    pool.applications().enable("mine").run().unwrap();
    let error = pool.applications().enable("other").run().unwrap_err();
    assert!(error.is_permission_denied() && error.to_string().contains(&name), "{error}");
    pool.applications().enable("other").force(true).run().unwrap();
    let mut applications = pool.applications().list().unwrap();
    applications.sort_unstable();
    assert_eq!(applications, ["mine", "other"]);
    // More than fits into the first buffers.
    let pairs: Vec<(String, String)> = (0..40)
        .map(|i| (format!("{i:02}{}", "k".repeat(98)), format!("{i:02}{}", "v".repeat(118))))
        .collect();
    for (key, value) in &pairs {
        pool.applications().metadata("mine").set(key, value).unwrap();
    }
    assert!(pool.applications().metadata("mine").list().unwrap().into_iter().eq(pairs.clone()));
    let error = pool.applications().metadata("mine").set("key", &"x".repeat(200)).unwrap_err();
    assert!(*error.kind() == ErrorKind::InvalidInput && error.to_string().contains("128 bytes"), "{error}");
    pool.applications().metadata("mine").set("empty", "").unwrap();
    assert_eq!(pool.applications().metadata("mine").list().unwrap()["empty"], "");
    pool.applications().metadata("mine").remove("empty").unwrap();
    pool.applications().metadata("mine").remove(&pairs[0].0).unwrap();
    assert!(pool.applications().metadata("mine").list().unwrap().into_iter().eq(pairs[1..].to_vec()));
    assert!(pool.applications().metadata("other").list().unwrap().is_empty());
    assert!(pool.applications().metadata("nobody").list().unwrap_err().is_not_found());
    cluster.pools().remove(&name).unwrap();
}

#[test]
fn daemons_answer_commands() {
    let cluster = cluster();
    let json = |answer: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&answer).unwrap();
    let version = json(cluster.osd_command(0, r#"{"prefix": "version"}"#, &[]).unwrap());
    assert!(version["version"].is_string(), "{version}");
    let status = json(cluster.mon_command_to("a", r#"{"prefix": "mon_status"}"#, &[]).unwrap());
    assert_eq!(status["name"], "a");
    let id = cluster.ioctx("rbd").unwrap().pool_id();
    let (group, query) = (format!("{id}.0"), format!(r#"{{"prefix": "query", "pgid": "{id}.0"}}"#));
    let state = json(cluster.pg_command(&group, &query, &[]).unwrap());
    assert!(state["state"].as_str().unwrap().contains("active"), "{state}");
    cluster.mgr_command_to("x", r#"{"prefix": "mgr versions"}"#, &[]).map(drop).unwrap_or_else(|error| {
        // The manager does not know this command. Only its answer matters.
        assert_eq!((error.object_kind(), error.object_name()), (ObjectKind::Manager, "x"), "{error}");
        assert_eq!(error.errno(), Some(rbd::Errno::EINVAL), "{error}");
    });

    let error = cluster.osd_command(7, r#"{"prefix": "version"}"#, &[]).unwrap_err();
    assert_eq!((error.object_kind(), error.object_name()), (ObjectKind::Osd, "7"), "{error}");
    assert_eq!(*cluster.osd_command(u32::MAX, "{}", &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    let error = cluster.pg_command("nonsense", "{}", &[]).unwrap_err();
    assert_eq!(error.object_kind(), ObjectKind::PlacementGroup, "{error}");
    assert!(cluster.mon_command_to("nobody", r#"{"prefix": "mon_status"}"#, &[]).is_err());
}

#[test]
fn a_client_can_be_a_service() {
    let cluster = builder().connect().unwrap();
    let service = unique("service");
    assert_eq!(*cluster.register_service(&service, "", &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        *cluster.register_service(&service, "one", &[("", "x")]).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    cluster.register_service(&service, "one", &[("flavour", "sweet")]).unwrap();
    let error = cluster.register_service(&service, "two", &[]).unwrap_err();
    assert!(error.is_already_exists() && error.to_string().contains("already registered"), "{error}");
    cluster.update_service_status(&[("state", "well")]).unwrap();
    let start = Instant::now();
    let ask = |prefix: &str| -> serde_json::Value {
        let command = format!(r#"{{"prefix": "{prefix}", "format": "json"}}"#);
        serde_json::from_slice(&cluster.mon_command(&command, &[]).unwrap()).unwrap()
    };
    loop {
        let (dump, status) = (ask("service dump"), ask("service status"));
        let flavour = &dump["services"][&service]["daemons"]["one"]["metadata"]["flavour"];
        if flavour == "sweet" && status[&service]["one"]["status"]["state"] == "well" {
            break;
        }
        assert!(start.elapsed() < SOON, "{dump} {status}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn log_line(level: &str, text: &str) {
    let command = serde_json::json!({ "prefix": "log", "level": level, "logtext": [text] });
    cluster().mon_command(&command.to_string(), &[]).unwrap();
}

#[test]
fn the_log_of_the_cluster_is_reported_until_the_watch_is_dropped() {
    let connection = builder().connect().unwrap();
    let (sender, lines) = channel();
    let sender = Mutex::new(sender);
    let watch = connection
        .watch_log(LogLevel::Info, move |entry| sender.lock().unwrap().send(entry).unwrap())
        .unwrap();
    let error = connection.watch_log(LogLevel::Info, |_| ()).unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("already watches it"), "{error}");
    let text = unique("a line");
    log_line("info", &text);
    let entry = loop {
        let entry = lines.recv_timeout(SOON).expect("the line");
        // The audit log repeats the text with the command.
        if entry.message == text {
            break entry;
        }
    };
    assert_eq!((entry.channel.as_str(), entry.level.as_str()), ("cluster", "[INF]"), "{entry:?}");
    assert_eq!(entry.sender, "client.admin");
    assert!(entry.time > SystemTime::now() - Duration::from_secs(600));
    drop(watch);
    while lines.recv_timeout(SOON).is_ok() {}
    assert_eq!(lines.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "the callback is freed");

    // The callback drops its own watch and then panics. Nothing hangs, and another watch can
    // follow.
    let slot: Arc<Mutex<Option<LogWatch>>> = Arc::default();
    let (sender, told) = channel();
    let (own, sender) = (Arc::clone(&slot), Mutex::new(sender));
    let watch = connection
        .watch_log(LogLevel::Info, move |_| {
            drop(own.lock().unwrap().take());
            sender.lock().unwrap().send(()).unwrap();
            resume_unwind(Box::new("this goes no further"));
        })
        .unwrap();
    *slot.lock().unwrap() = Some(watch);
    log_line("info", &text);
    told.recv_timeout(SOON).expect("told");
    while told.recv_timeout(SOON).is_ok() {}
    let start = Instant::now();
    while let Err(error) = connection.watch_log(LogLevel::Error, |_| ()) {
        assert!(error.is_busy() && start.elapsed() < SOON, "{error}");
    }
}

#[test]
fn a_watch_of_the_log_receives_its_level_and_above() {
    let connection = builder().connect().unwrap();
    let (sender, lines) = channel();
    let sender = Mutex::new(sender);
    let watch =
        connection.watch_log(LogLevel::Error, move |entry| sender.lock().unwrap().send(entry).unwrap());
    let text = unique("a line");
    log_line("info", &text);
    log_line("error", &text);
    let told = std::iter::from_fn(|| lines.recv_timeout(SOON).ok());
    let first =
        told.into_iter().find(|entry: &rbd::cluster::LogEntry| entry.message.contains(&text)).unwrap();
    assert_eq!(first.level, "[ERR]", "{first:?}");
    drop(watch.unwrap());
}

#[test]
fn a_client_learns_that_it_is_fenced_off() {
    let victim: Cluster = builder().connect().unwrap();
    let pool = victim.ioctx("rbd").unwrap();
    assert!(!pool.is_blocklisted().unwrap());
    let (sender, fenced) = channel();
    let (unused, never) = channel::<()>();
    let interval = Duration::from_millis(100);
    let watch = pool.watch_blocklisting(interval, move || sender.send(()).unwrap()).unwrap();
    let dropped = pool.watch_blocklisting(interval, move || unused.send(()).unwrap()).unwrap();
    drop(dropped);
    assert_eq!(never.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "its thread has ended");
    assert_eq!(fenced.recv_timeout(interval * 3), Err(RecvTimeoutError::Timeout));
    let address = victim.address().unwrap();
    cluster().blocklist().add(&address).duration(Duration::from_secs(60)).run().unwrap();
    fenced.recv_timeout(SOON).expect("told");
    assert!(pool.is_blocklisted().unwrap());
    drop(watch);
    cluster().blocklist().remove(&address).unwrap();
}
