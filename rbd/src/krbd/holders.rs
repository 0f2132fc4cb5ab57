//! The holders of a busy device.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::holder::Holder;
use crate::krbd::deadline::Deadline;
use crate::krbd::device::Device;
use crate::krbd::host::{Host, read};
use crate::krbd::node::{numbers, parse_number};

impl Device {
    /// Returns the holders of this device and its partitions: devices stacked on it, mounts in
    /// every readable mount namespace, swap, and processes that have it open.
    ///
    /// Only root sees processes of other users, and only the host's procfs shows those of other pid
    /// namespaces. Searches for at most 5 s and returns what it has found.
    pub fn holders(&self) -> Vec<Holder> {
        find(self, Deadline::after(std::time::Duration::from_secs(5)))
    }
}

/// Searches until the deadline: following a process's descriptor to a dead network file system may
/// hang.
pub(crate) fn find(device: &Device, deadline: Deadline) -> Vec<Holder> {
    let (found, holders) = mpsc::channel();
    let search = Search {
        host: device.host().clone(),
        id: device.id(),
        numbers: numbers(device.host(), device.id()).into_iter().collect(),
        prefix: device.path(),
        found,
    };
    let mut list = Vec::new();
    // If no thread can be started, returns nothing: holders are only advice.
    if thread::Builder::new().name("krbd-holders".into()).spawn(move || search.run()).is_ok() {
        while let Ok(holder) = holders.recv_timeout(deadline.left()) {
            list.push(holder);
        }
    }
    list
}

/// Returns whether a holder stays. udev, for example, opens a device only briefly.
pub(crate) fn stays(holder: &Holder) -> bool {
    !matches!(holder, Holder::Process { .. })
}

struct Search {
    host: Host,
    id: u32,
    numbers: HashSet<(u32, u32)>,
    prefix: PathBuf,
    found: Sender<Holder>,
}

impl Search {
    fn run(&self) {
        self.stacked();
        self.swaps();
        self.processes();
    }

    fn tell(&self, holder: Holder) {
        // After the deadline there is no receiver.
        let _ = self.found.send(holder);
    }

    fn stacked(&self) {
        let disk = self.host.disk(self.id);
        let partition = format!("rbd{}p", self.id);
        let partitions = list(&disk).filter(|path| file_name(path).starts_with(&partition));
        for dir in std::iter::once(disk.clone()).chain(partitions) {
            for holder in list(&dir.join("holders")) {
                self.tell(Holder::Device(file_name(&holder)));
            }
        }
    }

    fn swaps(&self) {
        let Ok(text) = read(&self.host.procfs().join("swaps")) else { return };
        let ours = swap_files(&text).any(|path| self.is_ours(&path) || self.is_node(&path));
        if ours {
            self.tell(Holder::Swap);
        }
    }

    fn processes(&self) {
        let mut namespaces = HashSet::new();
        for process in list(self.host.procfs()) {
            let Ok(pid) = file_name(&process).parse::<u32>() else { continue };
            let namespace = fs::read_link(process.join("ns/mnt")).unwrap_or_else(|_| process.clone());
            if namespaces.insert(namespace) {
                for path in self.mounts(&process) {
                    self.tell(Holder::Mount { path, pid });
                }
            }
            if list(&process.join("fd")).any(|fd| self.is_ours(&fd)) {
                let name = read(&process.join("comm")).unwrap_or_default();
                self.tell(Holder::Process { pid, name });
            }
        }
    }

    fn mounts(&self, process: &Path) -> Vec<String> {
        let Ok(text) = read(&process.join("mountinfo")) else { return Vec::new() };
        text.lines()
            .filter_map(Mount::parse)
            // A file system over several devices has its own number; its source names the device.
            .filter(|mount| self.numbers.contains(&mount.number) || self.is_node(Path::new(&mount.source)))
            .map(|mount| mount.path)
            .collect()
    }

    /// Compares the device number, not the path.
    fn is_ours(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| {
            let number = metadata.rdev();
            metadata.file_type().is_block_device()
                && self.numbers.contains(&(libc::major(number), libc::minor(number)))
        })
    }

    /// Compares the path with the nodes of the disk and its partitions.
    fn is_node(&self, path: &Path) -> bool {
        let (Some(path), Some(disk)) = (path.to_str(), self.prefix.to_str()) else { return false };
        match path.strip_prefix(disk) {
            Some("") => true,
            Some(rest) => {
                rest.strip_prefix('p').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            }
            None => false,
        }
    }
}

/// One line of a `mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) number: (u32, u32),
    pub(crate) path: String,
    pub(crate) source: String,
}

impl Mount {
    pub(crate) fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(2);
        let number = parse_number(left.next()?)?;
        let path = unescape(left.nth(1)?);
        let source = unescape(right.split(' ').nth(1)?);
        Some(Mount { number, path, source })
    }
}

pub(crate) fn swap_files(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines()
        .skip(1)
        .filter_map(|line| line.split([' ', '\t']).next())
        .map(|path| PathBuf::from(unescape(path)))
}

/// procfs writes white space and backslashes as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|_| *first == b'\\')?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn list(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::krbd::fixture::FakeHost;
    use crate::spec::ImageSpec;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line = r"36 35 252:16 /root /mnt/my\040disk rw,noatime shared:1 master:2 - ext4 /dev/rbd1 rw";
        assert_eq!(
            Mount::parse(line),
            Some(Mount { number: (252, 16), path: "/mnt/my disk".into(), source: "/dev/rbd1".into() })
        );
        assert_eq!(Mount::parse("36 35 252:16 / /mnt rw -"), None);
    }

    #[test]
    fn every_kind_of_holder_is_found_once() {
        let fake = FakeHost::new();
        fake.map(1, &ImageSpec::new("rbd", "foo"));
        fake.file("sys/block/rbd1/rbd1p2/dev", "252:18\n");
        fake.file("sys/block/rbd1/holders/dm-3/name", "");
        fake.file("sys/block/rbd1/rbd1p2/holders/md0/name", "");
        let dev = fake.root().join("dev");
        fake.file("proc/swaps", &format!("Filename\t\t\tType\n{}/rbd1p2 partition 1 0 -2\n", dev.display()));
        fake.file(
            "proc/100/mountinfo",
            "1 0 252:18 / /mnt rw - ext4 /dev/x rw\n2 0 8:1 / /other rw - ext4 /dev/sda1 rw\n",
        );
        fake.link("proc/100/ns/mnt", "mnt:[1]");
        fake.file("proc/101/mountinfo", "1 0 252:18 / /mnt rw - ext4 /dev/x rw\n");
        fake.link("proc/101/ns/mnt", "mnt:[1]");
        let btrfs = format!("1 0 0:40 / /pod rw - btrfs {}/rbd1 rw\n", dev.display());
        fake.file("proc/200/mountinfo", &btrfs);
        fake.link("proc/200/ns/mnt", "mnt:[2]");
        fake.file("proc/300/mountinfo", &btrfs.replace("rbd1 ", "rbd10 ").replace("/pod", "/ten"));
        fake.link("proc/300/ns/mnt", "mnt:[3]");

        let mut holders = fake.host().device_by_id(1).unwrap().holders();
        holders.sort_by_key(ToString::to_string);
        let mount = |path: &str| {
            holders
                .iter()
                .filter(|holder| matches!(holder, Holder::Mount { path: at, .. } if at == path))
                .count()
        };
        assert_eq!((mount("/mnt"), mount("/pod"), mount("/ten"), mount("/other")), (1, 1, 0, 0));
        assert!(holders.contains(&Holder::Device("dm-3".into())));
        assert!(holders.contains(&Holder::Device("md0".into())));
        assert!(holders.contains(&Holder::Swap));
        assert_eq!(holders.len(), 5, "{holders:?}");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in r"([0-9: \\/a-z-]|\\[0-9]{0,3}){0,60}") {
            let _ = Mount::parse(&line);
            let _ = swap_files(&line).count();
        }

        #[test]
        fn escapes_come_back(path in "[ -~]{0,20}") {
            let escaped: String = path.bytes().map(|byte| match byte {
                b' ' | b'\\' => format!("\\{byte:03o}"),
                _ => char::from(byte).to_string(),
            }).collect();
            prop_assert_eq!(unescape(&escaped), path);
        }
    }
}
