//! The content of a block device, which libblkid identifies (program `blkid`).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a block device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Nothing: libblkid finds nothing, and its beginning and its end are all zeroes.
    Empty,
    /// A file system, by the kernel's name for it.
    FileSystem(String),
    /// Another known format: a partition table, an encrypted volume …
    Other(String),
    /// Data of no known format.
    Unknown,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Empty => f.write_str("nothing"),
            Content::FileSystem(kind) => write!(f, "a file system ({kind})"),
            Content::Other(what) => write!(f, "{what}, which is no file system"),
            Content::Unknown => f.write_str("data that is no known file system"),
        }
    }
}

/// How many bytes of the beginning and of the end must be zeroes.
const LOOK: u64 = 1 << 20;

impl Content {
    /// Looks at a device or file. Blocks while the device does. Runs `blkid` of util-linux.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Content> {
        let path = path.as_ref();
        let output = Command::new("blkid")
            .args(["--probe", "--output", "export", "--"])
            .arg(path)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("blkid cannot be run ({error}); install the package util-linux"),
                )
            })?;
        match output.status.code() {
            Some(0) => Ok(Content::parse(&String::from_utf8_lossy(&output.stdout))),
            // Nothing was found, or the device could not be read: reading it tells which.
            Some(2) if is_zero(path)? => Ok(Content::Empty),
            Some(2) => Ok(Content::Unknown),
            Some(8) => Ok(Content::Other("several formats at once".into())),
            _ => Err(io::Error::other(format!(
                "blkid failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }

    /// Reads the lines `NAME=VALUE` of blkid.
    fn parse(text: &str) -> Content {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        match (value("TYPE"), value("USAGE").as_deref(), value("PTTYPE")) {
            (Some(kind), Some("filesystem"), _) => Content::FileSystem(kind),
            (Some(kind), ..) => Content::Other(format!("'{kind}'")),
            (None, _, Some(kind)) => Content::Other(format!("a partition table ({kind})")),
            (None, ..) => Content::Unknown,
        }
    }
}

fn is_zero(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
    let is_zero = |offset: u64| -> io::Result<bool> {
        let mut bytes = vec![0; LOOK.min(size - offset) as usize];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    };
    Ok(is_zero(0)? && is_zero(size.saturating_sub(LOOK))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_with_a_byte_in_it_is_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (size, offset, content) in [
            (0, None, Content::Empty),
            (4096, None, Content::Empty),
            (8 << 20, None, Content::Empty),
            (8 << 20, Some(777), Content::Unknown),
            (8 << 20, Some((8 << 20) - 1), Content::Unknown),
        ] {
            file.as_file().set_len(0).unwrap();
            file.as_file().set_len(size).unwrap();
            if let Some(offset) = offset {
                file.as_file().write_all_at(&[9], offset).unwrap();
            }
            assert_eq!(Content::of(file.path()).unwrap(), content, "{size} {offset:?}");
        }
        assert_eq!(Content::of("/nonexistent").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_programs_make_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fs = |kind: &str| Content::FileSystem(kind.to_owned());
        for (program, arguments, content) in [
            ("mke2fs", &["-q", "-F", "-t", "ext2"][..], fs("ext2")),
            ("mke2fs", &["-q", "-F", "-t", "ext4"], fs("ext4")),
            ("mkfs.xfs", &["-q"], fs("xfs")),
            ("mkswap", &[], Content::Other("'swap'".into())),
        ] {
            file.as_file().set_len(0).unwrap();
            file.as_file().set_len(320 << 20).unwrap();
            let made = Command::new(program).args(arguments).arg(file.path()).output().unwrap();
            assert!(made.status.success(), "{program}: {made:?}");
            assert_eq!(Content::of(file.path()).unwrap(), content);
        }
    }

    #[test]
    fn a_partition_table_is_no_file_system() {
        let text = "DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=gpt\n";
        assert_eq!(Content::parse(text), Content::Other("a partition table (gpt)".into()));
        let text = "DEVNAME=/dev/x\nTYPE=crypto_LUKS\nUSAGE=crypto\n";
        assert_eq!(Content::parse(text), Content::Other("'crypto_LUKS'".into()));
    }
}
