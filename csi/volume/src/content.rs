//! The content of a block device, recognised by the marks of file systems and other formats.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The content of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Nothing: its beginning and its end are all zeroes.
    Empty,
    /// A file system that can be mounted, by the kernel's name for it.
    FileSystem(&'static str),
    /// Another known format: a partition table, an encrypted volume …
    Other(&'static str),
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

/// A mark: what it stands for, its offset, and its bytes.
type Mark = (Content, usize, &'static [u8]);

/// Partition tables come last, because the boot sector of a file system may contain their mark too.
const MARKS: [Mark; 13] = [
    (Content::FileSystem("xfs"), 0, b"XFSB"),
    (Content::FileSystem("btrfs"), 0x10040, b"_BHRfS_M"),
    (Content::FileSystem("f2fs"), 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    (Content::FileSystem("ntfs"), 3, b"NTFS    "),
    (Content::FileSystem("squashfs"), 0, b"hsqs"),
    (Content::FileSystem("iso9660"), 0x8001, b"CD001"),
    (Content::Other("a LUKS encrypted volume"), 0, b"LUKS\xba\xbe"),
    (Content::Other("an LVM physical volume"), 0x218, b"LVM2 001"),
    (Content::Other("swap space"), 0xff6, b"SWAPSPACE2"),
    (Content::Other("a software RAID member"), 0x1000, &[0xfc, 0x4e, 0x2b, 0xa9]),
    (Content::Other("a ceph OSD"), 0, b"bluestore block device"),
    (Content::Other("a partition table (GPT)"), 0x200, b"EFI PART"),
    (Content::Other("a partition table (MBR), or a boot sector"), 0x1fe, &[0x55, 0xaa]),
];

/// How many bytes are read at the beginning and at the end.
const LOOK: u64 = 1 << 20;

impl Content {
    /// Reads the first and the last MiB of a device or file and returns its content. Blocks as long
    /// as the device does.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Content> {
        let file = File::open(path)?;
        let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
        let part = |offset: u64| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; LOOK.min(size - offset) as usize];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        let end = part(size.saturating_sub(LOOK))?;
        Ok(Content::recognise(&part(0)?, &end))
    }

    fn recognise(start: &[u8], end: &[u8]) -> Content {
        let at = |offset: usize, mark: &[u8]| start.get(offset..offset + mark.len()) == Some(mark);
        if at(0x438, &[0x53, 0xef]) {
            return Content::FileSystem(ext_version(start));
        }
        match MARKS.iter().find(|(_, offset, mark)| at(*offset, mark)) {
            Some((content, ..)) => *content,
            None if start.iter().chain(end).all(|byte| *byte == 0) => Content::Empty,
            None => Content::Unknown,
        }
    }
}

/// A feature of ext3.
const HAS_JOURNAL: u32 = 0x4;
/// Extents, 64bit, flex_bg and later features.
const ONLY_EXT4: u32 = !0x1f;

/// Returns the version: ext2, ext3 and ext4 have the same mark, and differ in the features of the
/// superblock at 1024.
fn ext_version(start: &[u8]) -> &'static str {
    let word = |offset: usize| {
        start
            .get(offset..offset + 4)
            .map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    if word(0x460) & ONLY_EXT4 != 0 {
        "ext4"
    } else if word(0x45c) & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset: usize, mark: &[u8]) -> Content {
        let mut start = vec![0; 1 << 20];
        start[offset..offset + mark.len()].copy_from_slice(mark);
        Content::recognise(&start, &[0; 100])
    }

    #[test]
    fn every_mark_is_known_and_nothing_with_a_byte_in_it_is_empty() {
        for (content, offset, mark) in MARKS {
            assert_eq!(with(offset, mark), content);
        }
        assert_eq!(with(0, &[]), Content::Empty);
        assert_eq!(with(777, &[1]), Content::Unknown);
        assert_eq!(Content::recognise(&[0; 4096], &[0, 0, 9]), Content::Unknown, "the end counts too");
        assert_eq!(Content::recognise(&[], &[]), Content::Empty);
    }

    #[test]
    fn real_file_systems_are_told_apart() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (size, kind) in [(8 << 20, "ext2"), (8 << 20, "ext3"), (16 << 20, "ext4")] {
            file.as_file().set_len(0).unwrap();
            file.as_file().set_len(size).unwrap();
            assert_eq!(Content::of(file.path()).unwrap(), Content::Empty);
            let made =
                std::process::Command::new("mke2fs").args(["-q", "-F", "-t", kind]).arg(file.path()).status();
            assert!(made.unwrap().success());
            assert_eq!(Content::of(file.path()).unwrap(), Content::FileSystem(kind));
        }
    }
}
