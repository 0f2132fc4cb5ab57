//! The other client of `tests/it/mixed.rs`: a process that works on the same images, with its own
//! libraries.
//!
//!     peer SOCKET          (CEPH_CONF names the cluster)
//!
//! It listens on a Unix socket until its standard input ends. Each connection is a separate client.
//! One line is one call, answered by one line, `ok RESULT` or `error TEXT`.
#![allow(missing_docs, clippy::pedantic)]

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use rbd::image::CloneFormat;
use rbd::{Cluster, Features, Image, IoCtx};

type Answer = Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: peer SOCKET")?;
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(|| serve(stream.unwrap()));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn serve(mut stream: UnixStream) {
    let mut client = Client::default();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match client.call(&words) {
            Ok(text) => format!("ok {text}\n"),
            Err(error) => format!("error {error}\n"),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

/// One connection to the cluster, one namespace of the pool `rbd`, and the open images.
#[derive(Default)]
struct Client {
    images: HashMap<String, Image>,
    space: Option<IoCtx>,
}

impl Client {
    fn call(&mut self, words: &[&str]) -> Answer {
        if let ["enter", namespace] = words {
            self.space = Some(Cluster::connect()?.ioctx("rbd")?.with_namespace(namespace)?);
            return Ok(Cluster::librbd_version().to_string());
        }
        let space = self.space.as_ref().ok_or("enter a namespace first")?;
        match *words {
            ["create", name, size] => {
                space.create(name, size.parse()?).features(Features::DEFAULT).run()?;
            }
            ["open", name] => {
                self.images.insert(name.to_owned(), space.open(name).run()?);
            }
            ["clone", parent, snapshot, name] => {
                space.clone_image(parent, snapshot, name).format(CloneFormat::V2).run()?;
            }
            ["rollback", group, snapshot] => space.group(group).snapshots().rollback(snapshot).run()?,
            ["group", group, image] => space.groups().create(group)?.add(space, image)?,
            ["join", group, image] => space.group(group).add(space, image)?,
            ["group-snapshot", group, snapshot] => space.group(group).snapshots().create(snapshot).run()?,
            ["group-snapshots", group] => {
                let list = space.group(group).snapshots().list()?;
                return Ok(list.into_iter().map(|snapshot| snapshot.name).collect::<Vec<_>>().join(" "));
            }
            ["trash", name] => space.trash().add(name).run()?,
            ["trashed"] => {
                let list = space.trash().list()?;
                return Ok(list.into_iter().map(|entry| entry.name).collect::<Vec<_>>().join(" "));
            }
            ["restore", id] => space.trash().restore(id).run()?,
            [call, name, ref rest @ ..] => {
                let image = self.images.get(name).ok_or("the image is not open, or no such call")?;
                return on(image, call, rest).map_err(|error| format!("{call} {name}: {error}").into());
            }
            _ => return Err("no such call".into()),
        }
        Ok(String::new())
    }
}

fn on(image: &Image, call: &str, rest: &[&str]) -> Answer {
    match (call, rest) {
        ("write", [offset, byte, len]) => {
            image.write_all_at(&vec![byte.parse()?; len.parse()?], offset.parse()?)?;
            image.flush()?;
        }
        // The distinct bytes of the range.
        ("read", [offset, len]) => {
            let mut data = vec![0; len.parse()?];
            image.read_exact_at(&mut data, offset.parse()?)?;
            data.dedup();
            return Ok(data.iter().map(u8::to_string).collect::<Vec<_>>().join(" "));
        }
        ("size", []) => return Ok(image.size()?.to_string()),
        ("resize", [size]) => image.resize(size.parse()?).run()?,
        ("snapshot", [name]) => {
            image.snapshots().create(name).run()?;
        }
        ("remove-snapshot", [name]) => image.snapshots().remove(name).run()?,
        ("snapshots", []) => {
            let list = image.snapshots().list()?;
            return Ok(list.iter().map(|snapshot| &*snapshot.name).collect::<Vec<_>>().join(" "));
        }
        ("children", []) => {
            return Ok(image.children()?.iter().map(|child| &*child.name).collect::<Vec<_>>().join(" "));
        }
        ("flatten", []) => image.flatten().run()?,
        ("lock", []) => image.exclusive_lock().acquire()?,
        ("unlock", []) => image.exclusive_lock().release()?,
        ("owner", []) => return Ok(image.exclusive_lock().is_owner()?.to_string()),
        ("advisory", [cookie]) => image.advisory_locks().acquire_exclusive(cookie)?,
        ("advisory-end", [cookie]) => image.advisory_locks().release(cookie)?,
        ("diff", [from]) => {
            let extents = image.diff().from_snapshot(*from).collect()?;
            let words = extents.iter().map(|extent| format!("{}+{}", extent.offset, extent.len));
            return Ok(words.collect::<Vec<_>>().join(" "));
        }
        _ => return Err("no such call".into()),
    }
    Ok(String::new())
}
