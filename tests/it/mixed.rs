//! Two clients on the same images: this process and another one, whose libraries may have another
//! release.
//!
//! `cargo xtask matrix` runs this with the cluster and the other client of one release and this
//! client of another, and the reverse. Then `RBD_TEST_PEER` is the socket of the other client.
//! Without this variable, the test starts it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rbd::image::CloneFormat;
use rbd::snapshot::SnapshotKind;
use rbd::{Features, Image};

use crate::cli::example;
use crate::support::Space;

const MIB: u64 = 1 << 20;

/// The other client, in the namespace of the test.
struct Peer {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
    /// The client that was started here, and the directory of its socket.
    own: Option<(Child, tempfile::TempDir)>,
}

impl Peer {
    fn new(space: &Space) -> Peer {
        let (stream, own) = match std::env::var_os("RBD_TEST_PEER") {
            Some(socket) => (UnixStream::connect(socket).unwrap(), None),
            None => {
                let home = tempfile::tempdir().unwrap();
                let socket = home.path().join("peer");
                let child = Command::new(example("peer"))
                    .arg(&socket)
                    .env("CEPH_CONF", rbd_testcluster::shared().conf())
                    .stdin(Stdio::piped())
                    .spawn()
                    .unwrap();
                (connect(&socket), Some((child, home)))
            }
        };
        let answers = BufReader::new(stream.try_clone().unwrap());
        let mut peer = Peer { stream, answers, own };
        let theirs = peer.ok(&["enter", space.namespace()]);
        println!("librbd {} here, {theirs} there", rbd::Cluster::librbd_version());
        peer
    }

    fn call(&mut self, words: &[&str]) -> Result<String, String> {
        self.stream.write_all(format!("{}\n", words.join(" ")).as_bytes()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        match line.trim_end().split_once(' ') {
            Some(("error", text)) => Err(text.to_owned()),
            Some(("ok", text)) => Ok(text.to_owned()),
            _ if line.trim_end() == "ok" => Ok(String::new()),
            _ => panic!("{words:?}: {line:?}"),
        }
    }

    #[track_caller]
    fn ok(&mut self, words: &[&str]) -> String {
        self.call(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

fn connect(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "the other client does not listen: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn create(space: &Space, name: &str) -> Image {
    space.create(name, 8 * MIB).features(Features::DEFAULT).run().unwrap();
    space.open(name).run().unwrap()
}

fn first_byte(image: &Image, offset: u64) -> u8 {
    let mut byte = [0];
    image.read_exact_at(&mut byte, offset).unwrap();
    byte[0]
}

#[test]
fn both_clients_read_each_others_writes_and_hand_the_lock_over() {
    let space = Space::new();
    let mut peer = Peer::new(&space);
    peer.ok(&["create", "foo", "8388608"]);
    peer.ok(&["open", "foo"]);
    let image = space.open("foo").run().unwrap();
    assert_eq!(image.features().unwrap(), Features::DEFAULT);
    for (offset, byte) in [(0, 1), (4096, 3), (5 * MIB, 5)] {
        image.write_all_at(&[byte; 4096], offset).unwrap();
        assert!(image.exclusive_lock().is_owner().unwrap());
        assert_eq!(peer.ok(&["read", "foo", &offset.to_string(), "4096"]), byte.to_string());
        peer.ok(&["write", "foo", &offset.to_string(), &(byte + 1).to_string(), "4096"]);
        assert_eq!(peer.ok(&["owner", "foo"]), "true");
        assert_eq!(first_byte(&image, offset), byte + 1);
    }

    // An explicitly acquired lock is not handed over.
    peer.ok(&["lock", "foo"]);
    let error = image.exclusive_lock().acquire().unwrap_err();
    assert!(error.is_busy(), "{error}");
    peer.ok(&["unlock", "foo"]);
    image.exclusive_lock().acquire().unwrap();
    assert!(peer.call(&["lock", "foo"]).is_err());
    image.exclusive_lock().release().unwrap();

    // The owner of the lock carries out requests of the other client, and both see the result. A
    // handle that acquired the lock explicitly does not acquire it automatically any more, so both
    // are opened again.
    drop(image);
    let image = space.open("foo").run().unwrap();
    peer.ok(&["open", "foo"]);
    image.write_all_at(&[9], 0).unwrap();
    peer.ok(&["resize", "foo", "16777216"]);
    assert_eq!(image.size().unwrap(), 16 * MIB);
    peer.ok(&["write", "foo", "0", "1", "1"]);
    image.resize(24 * MIB).run().unwrap();
    assert_eq!(peer.ok(&["size", "foo"]), (24 * MIB).to_string());

    // With the feature exclusive-lock, both kinds of locks would be the same.
    space.create("bar", MIB).features(Features::LAYERING).run().unwrap();
    let image = space.open("bar").run().unwrap();
    peer.ok(&["open", "bar"]);
    peer.ok(&["advisory", "bar", "theirs"]);
    let error = image.advisory_locks().acquire_exclusive("ours").unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("advisory lock 'theirs' of client."), "{error}");
    peer.ok(&["advisory-end", "bar", "theirs"]);
    image.advisory_locks().acquire_exclusive("ours").unwrap();
    assert!(
        peer.call(&["advisory", "bar", "theirs"]).unwrap_err().contains("advisory lock 'ours' of client.")
    );
}

#[test]
fn snapshots_clones_and_differences_are_the_same_for_both() {
    let space = Space::new();
    let mut peer = Peer::new(&space);
    let image = create(&space, "foo");
    peer.ok(&["open", "foo"]);
    image.write_all_at(&[1; 4096], 0).unwrap();
    peer.ok(&["snapshot", "foo", "theirs"]);
    image.write_all_at(&[2; 4096], 4 * MIB).unwrap();
    image.snapshots().create("ours").run().unwrap();
    let names: Vec<String> = image.snapshots().list().unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["theirs", "ours"]);
    assert_eq!(peer.ok(&["snapshots", "foo"]), "theirs ours");

    let extents = image.diff().from_snapshot("theirs").collect().unwrap();
    let ours: Vec<String> = extents.iter().map(|one| format!("{}+{}", one.offset, one.len)).collect();
    assert_eq!(ours, [format!("{}+4096", 4 * MIB)]);
    assert_eq!(peer.ok(&["diff", "foo", "theirs"]), ours.join(" "));

    peer.ok(&["clone", "foo", "ours", "theirs"]);
    space.clone_image("foo", "theirs", "ours").format(CloneFormat::V2).run().unwrap();
    let children = |image: &Image| {
        let mut names: Vec<String> = image.children().unwrap().into_iter().map(|one| one.name).collect();
        names.sort();
        names
    };
    assert_eq!(children(&image), ["ours", "theirs"]);
    peer.ok(&["open", "ours"]);
    let clone = space.open("theirs").run().unwrap();
    assert_eq!((first_byte(&clone, 0), first_byte(&clone, 4 * MIB)), (1, 2));
    assert_eq!(peer.ok(&["read", "ours", "0", "4096"]), "1");
    assert_eq!(peer.ok(&["read", "ours", "4194304", "4096"]), "0");

    // A snapshot with clones is moved to the trash, whichever client removes it, and the clones
    // stay readable.
    peer.ok(&["remove-snapshot", "foo", "theirs"]);
    image.snapshots().remove("ours").run().unwrap();
    let left = image.snapshots().list().unwrap();
    assert_eq!(left.iter().filter(|one| one.origin.kind() == SnapshotKind::Trash).count(), 2, "{left:?}");
    peer.ok(&["flatten", "ours"]);
    clone.flatten().run().unwrap();
    assert_eq!(peer.ok(&["children", "foo"]), "");
    assert!(image.snapshots().list().unwrap().is_empty(), "they go with their last clone");
}

#[test]
fn groups_and_the_trash_are_the_same_for_both() {
    let space = Space::new();
    let mut peer = Peer::new(&space);
    let images = ["foo", "bar"].map(|name| create(&space, name));
    peer.ok(&["group", "g", "foo"]);
    let group = space.group("g");
    group.add(&space, "bar").unwrap();
    images[0].write_all_at(&[1; 512], 0).unwrap();
    peer.ok(&["group-snapshot", "g", "theirs"]);
    images[0].write_all_at(&[2; 512], 0).unwrap();
    group.snapshots().create("ours").run().unwrap();
    images[0].write_all_at(&[3; 512], 0).unwrap();
    let mut names: Vec<String> = group.snapshots().list().unwrap().into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, ["ours", "theirs"]);
    let mut theirs: Vec<String> = peer.ok(&["group-snapshots", "g"]).split(' ').map(str::to_owned).collect();
    theirs.sort();
    assert_eq!(theirs, names);
    group.snapshots().rollback("theirs").run().unwrap();
    assert_eq!(first_byte(&images[0], 0), 1);
    peer.ok(&["rollback", "g", "ours"]);
    assert_eq!(first_byte(&images[0], 0), 2);
    for name in names {
        group.snapshots().remove(&name).unwrap();
    }
    drop(images);

    space.groups().remove("g").unwrap();
    let id = space.open("foo").read_only(true).run().unwrap().id().unwrap();
    peer.ok(&["trash", "foo"]);
    assert_eq!(space.trash().list().unwrap()[0].name, "foo");
    space.trash().restore(&id).run().unwrap();
    space.trash().add("foo").run().unwrap();
    assert_eq!(peer.ok(&["trashed"]), "foo");
    peer.ok(&["restore", &id]);
    assert_eq!(first_byte(&space.open("foo").run().unwrap(), 0), 2);
}
