//! Device nodes and device numbers: finds the mapping of a node, and verifies the node of a
//! mapping.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::krbd::device::Device;
use crate::krbd::host::{Host, failed, read};

/// Returns the major and minor number of a block device node.
pub(crate) fn block_number(path: &Path) -> Result<(u32, u32)> {
    let metadata = fs::metadata(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ENOENT) => Error::new("find", object(path), Errno::ENOENT),
        _ => failed("inspect", path, &error),
    })?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::new("find", object(path), Errno::ENOTBLK)
            .with_kind(ErrorKind::InvalidInput)
            .with_detail("it is not a block device"));
    }
    let number = metadata.rdev();
    Ok((libc::major(number), libc::minor(number)))
}

/// Returns the mapping of a device number, which may belong to the disk or a partition.
pub(crate) fn disk_of(host: &Host, major: u32, minor: u32) -> Option<u32> {
    let link = host.sysfs().join(format!("dev/block/{major}:{minor}"));
    let mut dir = fs::canonicalize(link).ok()?;
    if dir.join("partition").exists() {
        dir.pop();
    }
    let name = dir.file_name()?.to_str()?;
    let id = name.strip_prefix("rbd")?.parse().ok()?;
    // Another driver could use such a name, so the bus decides.
    host.on_bus(id).is_dir().then_some(id)
}

pub(crate) fn not_ours(path: &Path, major: u32, minor: u32) -> Error {
    Error::new("find", object(path), Errno::EINVAL)
        .with_kind(ErrorKind::InvalidInput)
        .with_detail(format!("it is a block device ({major}:{minor}), but not one of a mapped image"))
}

/// Returns the device numbers of the disk and all its partitions.
pub(crate) fn numbers(host: &Host, id: u32) -> Vec<(u32, u32)> {
    let disk = host.disk(id);
    let mut found: Vec<_> = number_in(&disk).into_iter().collect();
    let prefix = format!("rbd{id}p");
    for entry in fs::read_dir(&disk).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            found.extend(number_in(&entry.path()));
        }
    }
    found
}

fn number_in(dir: &Path) -> Option<(u32, u32)> {
    parse_number(&read(&dir.join("dev")).ok()?)
}

/// Parses `252:0`.
pub(crate) fn parse_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Checks that a mapping's node exists and is that device. Returns `false` if it does not exist
/// yet.
///
/// A node with another number is an error at once: writing to it would destroy other data.
pub(crate) fn verify(device: &Device) -> Result<bool> {
    let path = device.path();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("inspect", &path, &error)),
    };
    let wrong = |what: String| {
        Error::new("use", object(&path), Errno::ENODEV).with_kind(ErrorKind::Other).with_detail(format!(
            "{what}, but the kernel mapped the image as {}:{}; the device directory is stale or \
             not the host's",
            device.number().0,
            device.number().1
        ))
    };
    if !metadata.file_type().is_block_device() {
        return Err(wrong("the node is not a block device".into()));
    }
    let found = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    if found != device.number() {
        return Err(wrong(format!("the node is device {}:{}", found.0, found.1)));
    }
    Ok(true)
}

fn object(path: &Path) -> Object {
    Object::new(ObjectKind::Device, path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krbd::fixture::FakeHost;
    use crate::spec::ImageSpec;

    #[test]
    fn disks_and_partitions_lead_to_their_mapping() {
        let fake = FakeHost::new();
        fake.map(3, &ImageSpec::new("rbd", "foo"));
        fake.partition(3, 1);
        assert_eq!(disk_of(fake.host(), 252, 48), Some(3));
        assert_eq!(disk_of(fake.host(), 252, 49), Some(3));
        assert_eq!(disk_of(fake.host(), 252, 50), None);
        assert_eq!(disk_of(fake.host(), 8, 0), None);
        let mut found = numbers(fake.host(), 3);
        found.sort_unstable();
        assert_eq!(found, [(252, 48), (252, 49)]);
    }

    #[test]
    fn another_drivers_disk_is_not_ours() {
        let fake = FakeHost::new();
        fake.file("sys/block/rbd9/dev", "9:0\n");
        fake.link("sys/dev/block/9:0", "../../block/rbd9");
        assert_eq!(disk_of(fake.host(), 9, 0), None);
    }

    #[test]
    fn a_path_that_is_no_block_device_is_refused() {
        let fake = FakeHost::new();
        fake.map(0, &ImageSpec::new("rbd", "foo"));
        fake.file("dev/plain", "");
        let error = fake.host().device(fake.root().join("dev/plain")).unwrap_err();
        assert!(error.to_string().contains("not a block device"), "{error}");
        assert!(fake.host().device(fake.root().join("dev/absent")).unwrap_err().is_not_found());
    }

    #[test]
    fn a_node_is_waited_for_and_a_false_one_refused() {
        let fake = FakeHost::new();
        fake.map(0, &ImageSpec::new("rbd", "foo"));
        let device = fake.host().device_by_id(0).unwrap();
        assert!(!verify(&device).unwrap());
        fake.node("rbd0", "/dev/null");
        let error = verify(&device).unwrap_err();
        assert!(error.to_string().contains("not a block device"), "{error}");
        assert!(error.to_string().contains("252:0"), "{error}");
    }
}
