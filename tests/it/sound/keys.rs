//! A failure never shows a key: not in errors, events, Debug output, the output of the process, its
//! arguments and environment, the client's log, or files.

use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rbd::cluster::Key;
use rbd::krbd::Credentials;
use rbd::mirror::{BootstrapToken, Direction, PeerAccess};
use rbd::{Cluster, ClusterBuilder};

use super::arguments::base64;
use super::test;
use crate::support::child::{is_child, run_child, said};
use crate::support::{Space, builder, unique};

const TEST: &str = test!("keys::no_key_is_shown_on_any_path_on_which_one_fails");

/// Returns a key that no cluster knows.
fn canary() -> String {
    // Type, time, length of the secret, secret.
    base64("\x01\0\x01\x02\x03\x04\0\0\0\0\x10\0Canary-in-a-mine")
}

/// Returns the part of the secret that must not appear anywhere. All variants contain it.
fn part(key: &str) -> &str {
    &key[24..34]
}

/// Returns variants of the key with typing errors. librados would log each.
fn malformed(key: &str) -> Vec<String> {
    let cut = |from: usize, to: usize| format!("{}{}", &key[..from], &key[to..]);
    vec![
        cut(16, 20),
        cut(0, 1),
        cut(key.len() - 1, key.len()),
        cut(key.len() - 4, key.len()),
        format!("{}!{}", &key[..18], &key[19..]),
        format!("{} {}", &key[..18], &key[18..]),
        base64(key),
    ]
}

/// All places where the data of a process can be seen.
const PLACES: [&str; 8] = [
    "stdout and stderr",
    "errors, as {}, {:#}, {:?} and {:#?}",
    "Debug of builders, keys, tokens and credentials",
    "events of the feature tracing",
    "/proc/self/cmdline and environ",
    "names of threads and descriptors",
    "the client's log in memory",
    "files in its TMPDIR and its working directory",
];

#[test]
fn no_key_is_shown_on_any_path_on_which_one_fails() {
    if is_child(TEST) {
        return child();
    }
    let home = tempfile::tempdir().unwrap();
    let output = run_child(TEST, &[("TMPDIR", home.path().to_str().unwrap())]);
    let text = said(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    let all = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let tried = all.matches("refused: ").count();
    assert!(tried > 60, "{tried} ways were tried");
    let key = canary();
    for variant in malformed(&key).iter().chain([&key]) {
        let at = all.find(part_of(variant, &key));
        assert!(at.is_none(), "{PLACES:?}: …{}…", &all[at.unwrap().saturating_sub(200)..at.unwrap() + 40]);
    }
    for entry in std::fs::read_dir(home.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(part(&key)), "{}", path.display());
    }
}

/// Returns the part to search for. It differs for a key that was encoded twice.
fn part_of<'a>(variant: &'a str, key: &'a str) -> &'a str {
    if variant.contains(part(key)) { part(key) } else { &variant[24..34] }
}

/// Prints an error in all its forms.
fn show<T>(what: &str, result: Result<T, rbd::Error>) {
    let Err(error) = result else { panic!("{what} was taken") };
    println!("refused: {what}\n{error}\n{error:#}\n{error:?}\n{error:#?}");
    println!("{}", std::io::Error::from(error));
}

fn child() {
    let events = crate::aio::events::during(ways);
    println!("{events:?}");
    // The data of this process that others can read.
    let mut seen = String::new();
    for file in ["cmdline", "environ", "comm"] {
        seen += &String::from_utf8_lossy(&std::fs::read(Path::new("/proc/self").join(file)).unwrap());
    }
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        seen += &std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    }
    println!("{seen}");
}

/// Prints the client's log and the names of descriptors.
fn show_descriptors() {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        println!("{}", target.display());
        if target.to_string_lossy().contains("memfd:ceph-client-log") {
            let file = std::fs::File::open(entry.path()).unwrap();
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            println!("{}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// Passes keys where the name of an option is expected, also those with typing errors.
fn keys_as_names(cluster: &Cluster, keys: &[String]) {
    let space = Space::on(cluster);
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for (at, key) in keys.iter().enumerate() {
        let name = builder().option(key.as_str(), "x");
        println!("{name:?} {name:#?}");
        show(&format!("name {at} of an option"), name.connect());
        show(&format!("name {at} that is set"), cluster.config().set(key, "x"));
        show(&format!("name {at} that is read"), cluster.config().get(key));
        show(&format!("name {at} that an image overrides"), image.config().set(key, "x"));
        show(&format!("name {at} that an image does not override"), image.config().remove(key));
        show(&format!("name {at} that a pool overrides"), space.config().set(key, "x"));
        show(&format!("name {at} that a pool does not override"), space.config().remove(key));
    }
    let key = &keys[keys.len() - 2];
    show("a value that an image overrides", image.config().set("rbd_qos_iops_limit", key));
    show("metadata", image.metadata().get(key));
    show("an image", space.open(key).run());
    show("a pool", cluster.ioctx(key));
    show("a snapshot", image.snapshots().protect(key));
    show("an object", space.objects().stat(key));
    println!("{:?}", builder().user(key.as_str()));
    show("a user", builder().user(key.as_str()).connect());
}

fn ways() {
    // Not in TMPDIR, because that is searched.
    let dir = Path::new("/dev/shm").join(unique("rbd-keys"));
    std::fs::create_dir(&dir).unwrap();
    let (good, write) = (canary(), |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let quick = |builder: ClusterBuilder| builder.connect_timeout(std::time::Duration::from_secs(10));
    let conf = std::fs::read_to_string(rbd_testcluster::shared().conf()).unwrap();
    let mut keys = malformed(&good);
    keys.push(good.clone());
    keys.push(format!("{good}\0"));
    for (at, key) in keys.iter().enumerate() {
        let is_text = !key.contains('\0');
        let stderr = |builder: ClusterBuilder| {
            builder
                .option("log_to_stderr", "true")
                .option("err_to_stderr", "true")
                .option("debug_auth", "5/5")
        };
        let mut builders: Vec<(&str, ClusterBuilder)> =
            vec![("key", builder().key(key.as_str())), ("option", builder().option("key", key.as_str()))];
        if is_text {
            let other =
                write("other", &format!("[client.admin]\n key = {good}\n[client.b]\n\tkey = {key}\n"));
            let file = write("keyfile", key);
            let ring =
                write("keyring", &format!("[client.admin]\n\tkey = {key}\n\tcaps mon = \"allow *\"\n"));
            let quoted = write("quoted", &format!("[client.admin]\n\tkey=\"{key}\" ; mine\n"));
            let with_key = write("ceph.conf", &format!("{conf}\n[client]\nkey = {key}\n"));
            builders.extend([
                ("keyfile", builder().key_file(&file)),
                ("keyring", builder().keyring(&ring)),
                ("a quoted key", builder().keyring(&quoted)),
                ("the key of another user", builder().keyring(&other)),
                ("configuration", Cluster::builder().ignore_environment(true).conf_file(&with_key)),
            ]);
        }
        for (what, builder) in builders {
            println!("{builder:?} {builder:#?}");
            for (to, builder) in [("", builder.clone()), (", log to stderr", stderr(builder))] {
                show(&format!("{what} {at}{to}"), quick(builder).connect());
            }
            show_descriptors();
        }
    }
    let cluster = builder().connect().unwrap();
    keys_as_names(&cluster, &keys);
    for key in &keys {
        let mut text = String::new();
        let (token, own) = (BootstrapToken::new(key), Key::new(key));
        let mut access = PeerAccess::default();
        access.key = Some(own.clone());
        let credentials = Credentials::new(["127.0.0.1:1"], "admin", key.as_str());
        writeln!(text, "{token:?} {own:?} {access:?} {credentials:?} {credentials:#?}").unwrap();
        println!("{text}");
    }
    show("a NUL in an option", cluster.config().set("key", &format!("{good}\0")));
    show("a key as a name", cluster.key_of("client.nobody"));
    show("the key of a user that is a key", cluster.key_of(&format!("client.{good}")));
    let command = format!(r#"{{"prefix": "auth import", "key": "{good}\u0000"}}"#);
    show("a command", cluster.mon_command(&command, format!("[client.b]\nkey = {}", keys[0]).as_bytes()));
    show("a command with a NUL", cluster.mon_command(&format!("{good}\0"), b""));
    let pool = unique("keys");
    cluster.pools().create(&pool).unwrap();
    let ioctx = cluster.ioctx(&pool).unwrap();
    ioctx.init().run().unwrap();
    ioctx.mirroring().set_mode(rbd::mirror::PoolMode::Image).unwrap();
    let peer = ioctx.mirroring().peers().add("there", "client.there").run().unwrap();
    for key in &keys {
        let fsid = unique("fsid");
        let json = format!(
            r#"{{"fsid": "{fsid}", "client_id": "rbd-mirror-peer", "key": "{}", "mon_host": "[v2:127.0.0.1:1/0]"}}"#,
            key.replace('\0', "\\u0000")
        );
        // The well-formed token is not used: the call would wait for its cluster.
        if *key != good {
            let mut access = PeerAccess::default();
            access.key = Some(Key::new(key));
            show("the access of a peer", ioctx.mirroring().peers().set_access(&peer, &access));
            assert_eq!(ioctx.mirroring().peers().access(&peer).unwrap(), PeerAccess::default());
            let token = BootstrapToken::new(&base64(&json));
            show("a token", ioctx.mirroring().import_bootstrap_token(&token, Direction::RxOnly));
        }
        show(
            "not a bootstrap token",
            ioctx.mirroring().import_bootstrap_token(&BootstrapToken::new(key), Direction::RxOnly),
        );
    }
    let source =
        format!(r#"{{"type": "raw", "stream": {{"type": "s3", "secret_key": "{good}", "url": "nowhere"}}}}"#);
    show("a source", ioctx.prepare_import(&source, "new").run());
    show("a source that is cut off", ioctx.prepare_import(&source[..source.len() - 3], "new").run());
    show_descriptors();
    cluster.pools().remove(&pool).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}
