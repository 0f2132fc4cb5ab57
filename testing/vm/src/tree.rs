//! The guest's files, and their form as an initramfs (cpio, "newc").

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Component, Path, PathBuf};

use crate::error::{Context as _, Error, Result};

enum Node {
    Directory,
    Link(PathBuf),
    /// A file of the host. Its content is read when the archive is written.
    Copy(PathBuf, u32),
    Bytes(Vec<u8>, u32),
}

/// Absolute paths in the guest. The last addition of a path wins. `/bin`, `/sbin`, `/lib` and
/// `/lib64` are links into `/usr`.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    pub(crate) fn directory(&mut self, path: impl AsRef<Path>) {
        self.put(path.as_ref(), Node::Directory);
    }

    pub(crate) fn link(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        self.put(path.as_ref(), Node::Link(target.into()));
    }

    pub(crate) fn copy(&mut self, path: impl AsRef<Path>, from: impl Into<PathBuf>, mode: u32) {
        self.put(path.as_ref(), Node::Copy(from.into(), mode));
    }

    pub(crate) fn bytes(&mut self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>, mode: u32) {
        self.put(path.as_ref(), Node::Bytes(content.into(), mode));
    }

    pub(crate) fn contains(&self, path: impl AsRef<Path>) -> bool {
        self.0.contains_key(&settle(path.as_ref()))
    }

    fn put(&mut self, path: &Path, node: Node) {
        let path = settle(path);
        for parent in path.ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
            self.0.entry(parent.to_owned()).or_insert(Node::Directory);
        }
        self.0.insert(path, node);
    }

    /// Writes the archive. Returns its length in bytes.
    pub(crate) fn write(&self, out: impl Write) -> Result<u64> {
        let mut archive = Archive { out, written: 0, inode: 1 };
        for merged in MERGED {
            archive.entry(Path::new(merged), 0o120_777, format!("usr/{merged}").as_bytes())?;
        }
        // A parent is a prefix of its children, so it comes before them.
        for (path, node) in &self.0 {
            match node {
                Node::Directory => archive.entry(path, 0o040_755, b"")?,
                Node::Link(target) => {
                    archive.entry(path, 0o120_777, target.as_os_str().as_encoded_bytes())?;
                }
                Node::Bytes(content, mode) => archive.entry(path, 0o100_000 | mode, content)?,
                Node::Copy(from, mode) => archive.copy(path, 0o100_000 | mode, from)?,
            }
        }
        archive.finish()
    }
}

const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Returns the path without its leading slash, under `usr/` if Debian has it there.
fn settle(path: &Path) -> PathBuf {
    let mut settled = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                if settled.as_os_str().is_empty() && MERGED.iter().any(|merged| name == *merged) {
                    settled.push("usr");
                }
                settled.push(name);
            }
            Component::ParentDir => {
                settled.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    settled
}

struct Archive<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        let length = u32::try_from(content.len()).map_err(|_| too_long(path))?;
        self.head(path, mode, length)
            .and_then(|()| self.raw(content))
            .and_then(|()| self.pad())
            .context(writing)
    }

    fn copy(&mut self, path: &Path, mode: u32, from: &Path) -> Result<()> {
        let reading = || format!("cannot read {}", from.display());
        let file = File::open(from).context(reading)?;
        let length = file.metadata().context(reading)?.len();
        self.head(path, mode, u32::try_from(length).map_err(|_| too_long(from))?).context(writing)?;
        // The header contains the length. A file that grows meanwhile is truncated, one that
        // shrinks is an error.
        let copied = io::copy(&mut file.take(length), &mut self.out).context(reading)?;
        if copied != length {
            return Err(Error::Unpackable {
                path: from.to_owned(),
                reason: "it shrank while it was copied".into(),
            });
        }
        self.written += copied;
        self.pad().context(writing)
    }

    fn head(&mut self, path: &Path, mode: u32, length: u32) -> io::Result<()> {
        let name = path.as_os_str().as_encoded_bytes();
        let inode = self.inode;
        self.inode += 1;
        let zero = 0;
        let fields =
            [inode, mode, zero, zero, 1, zero, length, zero, zero, zero, zero, name.len() as u32 + 1, zero];
        let mut head = String::from("070701");
        for field in fields {
            write!(head, "{field:08x}").map_err(io::Error::other)?;
        }
        self.raw(head.as_bytes())?;
        self.raw(name)?;
        self.raw(b"\0")?;
        self.pad()
    }

    fn finish(mut self) -> Result<u64> {
        self.entry(Path::new("TRAILER!!!"), 0, b"")?;
        self.out.flush().context(writing)?;
        Ok(self.written)
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let gap = (4 - self.written % 4) % 4;
        self.raw(&[0; 3][..gap as usize])
    }
}

fn writing() -> String {
    "cannot write the initramfs".to_owned()
}

fn too_long(path: &Path) -> Error {
    Error::Unpackable { path: path.to_owned(), reason: "an initramfs holds files of less than 4 GiB".into() }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn busybox_unpacks_what_was_put_in() {
        let host = tempfile::tempdir().unwrap();
        let source = host.path().join("source");
        std::fs::write(&source, [7; 4097]).unwrap();
        let mut tree = Tree::default();
        tree.bytes("/etc/deep/er/conf", "first", 0o644);
        tree.bytes("/etc/deep/er/../er/conf", "second", 0o600);
        tree.copy("/bin/tool", &source, 0o755);
        tree.link("/usr/bin/alias", "tool");
        tree.directory("/proc");
        assert!(tree.contains("/usr/bin/tool") && tree.contains("/etc/deep") && !tree.contains("/bin/other"));

        let mut archive = Vec::new();
        assert_eq!(tree.write(&mut archive).unwrap(), archive.len() as u64);
        let guest = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox");
        cpio.args(["cpio", "-i"]).current_dir(guest.path()).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut cpio = cpio.spawn().unwrap();
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(cpio.wait().unwrap().success());

        let guest = guest.path();
        assert_eq!(std::fs::read(guest.join("etc/deep/er/conf")).unwrap(), b"second");
        assert_eq!(std::fs::read(guest.join("bin/alias")).unwrap(), [7; 4097]);
        assert_eq!(std::fs::read_link(guest.join("lib64")).unwrap(), Path::new("usr/lib64"));
        assert!(guest.join("proc").is_dir());
    }
}
