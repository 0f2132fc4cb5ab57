//! Mappings, as the kernel describes them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Features;
use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::krbd::deadline::Deadline;
use crate::krbd::host::{Host, failed, number, read, write_once};
use crate::krbd::scoped::ScopedDevice;
use crate::krbd::unmap::Unmap;
use crate::spec::ImageSpec;

/// An image or snapshot that the kernel shows as a block device.
///
/// A mapping outlives the process that made it. A `Device` only describes it, from the time when it
/// was mapped, found or refreshed, and dropping it does nothing. Call [`unmap`](Device::unmap) to
/// undo the mapping, or [`scoped`](Device::scoped) to undo it on drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    host: Host,
    id: u32,
    major: u32,
    minor: u32,
    spec: ImageSpec,
    size: u64,
    read_only: bool,
    features: Option<Features>,
    pool_id: Option<u64>,
    image_id: Option<String>,
    cluster_fsid: Option<String>,
    client_addr: Option<String>,
    client: Option<String>,
    /// The word with which the creator marked the mapping.
    tag: Option<String>,
    disabled: Features,
}

/// The prefix of the last word of this crate's lines, which the kernel keeps but ignores.
pub(crate) const TAG: &str = "rbd-rs:";

impl Device {
    /// Reads the kernel's description of mapping `id`.
    pub(crate) fn read(host: &Host, id: u32) -> Result<Device> {
        let dir = host.on_bus(id);
        let attribute = |name: &str| {
            let path = dir.join(name);
            read(&path).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::ENOENT | Errno::ENODEV) => not_mapped(host, id),
                _ => failed("read", &path, &error),
            })
        };
        let numeric = |name: &str| {
            let text = attribute(name)?;
            number(&text).ok_or_else(|| {
                let path = dir.join(name).display().to_string();
                Error::new("read", Object::new(ObjectKind::File, path), Errno::EINVAL)
                    .with_detail(format!("'{text}' is not a number"))
            })
        };
        let device_number = |value: u64| u32::try_from(value).map_err(|_| not_mapped(host, id));
        // Every kernel version lacks some of these.
        let optional = |name: &str| read(&dir.join(name)).ok().filter(|text| !text.is_empty());
        let snapshot = attribute("current_snap")?;
        Ok(Device {
            id,
            major: device_number(numeric("major")?)?,
            minor: device_number(optional("minor").and_then(|text| number(&text)).unwrap_or(0))?,
            spec: ImageSpec {
                pool: attribute("pool")?,
                namespace: optional("pool_ns").unwrap_or_default(),
                image: attribute("name")?,
                snapshot: (snapshot != "-").then_some(snapshot),
            },
            size: numeric("size")?,
            read_only: read(&host.disk(id).join("ro")).is_ok_and(|text| text == "1"),
            features: optional("features").and_then(|text| number(&text)).map(Features::from_bits_retain),
            pool_id: optional("pool_id").and_then(|text| number(&text)),
            image_id: optional("image_id"),
            cluster_fsid: optional("cluster_fsid"),
            client_addr: optional("client_addr"),
            client: optional("client_id"),
            tag: optional("config_info").and_then(|line| {
                line.split_ascii_whitespace().last().filter(|word| word.starts_with(TAG)).map(str::to_owned)
            }),
            disabled: Features::empty(),
            host: host.clone(),
        })
    }

    /// Returns the kernel's number of the mapping: 0 for `/dev/rbd0`. The kernel reuses it after an
    /// unmap.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the device node. [`Map::run`](crate::krbd::Map::run) verifies that it is this
    /// device.
    pub fn path(&self) -> PathBuf {
        self.host.dev_path().join(format!("rbd{}", self.id))
    }

    /// Returns the major and minor device number of the whole disk.
    pub fn number(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// Returns the names of the mapped image or snapshot.
    pub fn spec(&self) -> &ImageSpec {
        &self.spec
    }

    /// Returns the pool's name.
    pub fn pool(&self) -> &str {
        &self.spec.pool
    }

    /// Returns the namespace; empty for the default one, and on kernels before 4.19.
    pub fn namespace(&self) -> &str {
        &self.spec.namespace
    }

    /// Returns the image's name at the time of mapping. A rename does not change it.
    pub fn image(&self) -> &str {
        &self.spec.image
    }

    /// Returns the snapshot's name, if a snapshot is mapped.
    pub fn snapshot(&self) -> Option<&str> {
        self.spec.snapshot.as_deref()
    }

    /// Returns the size in bytes: see [`refresh`](Device::refresh).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the device is read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns the image's features, if the kernel reports them.
    pub fn features(&self) -> Option<Features> {
        self.features
    }

    /// Returns the pool's id, if the kernel reports it.
    pub fn pool_id(&self) -> Option<u64> {
        self.pool_id
    }

    /// Returns the image's id, which a rename does not change, if the kernel reports it.
    pub fn image_id(&self) -> Option<&str> {
        self.image_id.as_deref()
    }

    /// Returns the id of the cluster, if the kernel reports it (4.9 or later).
    pub fn cluster_fsid(&self) -> Option<&str> {
        self.cluster_fsid.as_deref()
    }

    /// Returns the address of the kernel's client, if the kernel reports it (4.9 or later). Add
    /// this address to the blocklist to fence the mapping. The image's watchers have the same
    /// address.
    pub fn client_address(&self) -> Option<ClientAddress> {
        self.client_addr.clone().map(ClientAddress::from_ceph)
    }

    /// Returns the kernel client's name, such as `client4123`.
    pub fn client_id(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Returns the features that [`Map::fix_features`](crate::krbd::Map::fix_features) disabled for
    /// this mapping; none on a device that was found.
    pub fn disabled_features(&self) -> Features {
        self.disabled
    }

    /// Returns a builder that unmaps the device: see [`Unmap::run`].
    pub fn unmap(&self) -> Unmap {
        Unmap::new(self.clone())
    }

    /// Returns a value that unmaps the device when it is dropped.
    pub fn scoped(self) -> ScopedDevice {
        ScopedDevice::new(self)
    }

    /// Makes the kernel read the image's header again, and updates this description, such as the
    /// size.
    ///
    /// The kernel also notices a resize through its watch; this call does not wait for that. Blocks
    /// for at most 30 s.
    pub fn refresh(&mut self) -> Result<()> {
        self.check_same()?;
        let path = self.host.on_bus(self.id).join("refresh");
        let file = path.clone();
        Deadline::after(Duration::from_secs(30))
            .run("krbd-refresh", move || write_once(&file, b"1"), drop)
            .and_then(|written| written)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::ETIMEDOUT) => Error::new("refresh", self.object(), Errno::ETIMEDOUT)
                    .with_detail("the kernel still waits for the cluster; check that its OSDs are up"),
                _ => failed("write", &path, &error),
            })?;
        let disabled = self.disabled;
        *self = Device { disabled, ..Device::read(&self.host, self.id)? };
        Ok(())
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub(crate) fn object(&self) -> Object {
        Object::new(ObjectKind::Device, self.path().display().to_string())
    }

    pub(crate) fn with_disabled(self, disabled: Features) -> Device {
        Device { disabled, ..self }
    }

    /// Refuses if this mapping was unmapped and its number now belongs to another one.
    pub(crate) fn check_same(&self) -> Result<()> {
        let now = Device::read(&self.host, self.id)?;
        let same = now.spec == self.spec
            && now.cluster_fsid == self.cluster_fsid
            && now.client == self.client
            && now.image_id == self.image_id
            && now.tag == self.tag;
        if same {
            return Ok(());
        }
        Err(Error::new("use", self.object(), Errno::ESTALE)
            .with_kind(ErrorKind::NotFound { what: ObjectKind::Device })
            .with_detail(format!(
                "it was unmapped, and its number now belongs to another mapping of {}",
                now.spec
            )))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path().display(), self.spec)
    }
}

impl AsRef<Device> for Device {
    fn as_ref(&self) -> &Device {
        self
    }
}

fn not_mapped(host: &Host, id: u32) -> Error {
    let path = host.dev_path().join(format!("rbd{id}"));
    Error::new("find", Object::new(ObjectKind::Device, path.display().to_string()), Errno::ENOENT)
        .with_detail("no image is mapped under this number; krbd::devices() lists those that are")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krbd::fixture::FakeHost;

    #[test]
    fn a_mapping_is_read_whole() {
        let fake = FakeHost::new();
        let spec = ImageSpec::new("volumes", "foo").namespace("team").snapshot("monday");
        fake.map(7, &spec);
        let device = fake.host().device_by_id(7).unwrap();
        assert_eq!(*device.spec(), spec);
        assert_eq!(device.number(), (252, 112));
        assert_eq!(device.size(), 1 << 30);
        assert!(device.is_read_only());
        assert_eq!(device.features(), Some(Features::DEFAULT));
        assert_eq!(device.image_id(), Some("10e2eb366a9b"));
        assert_eq!(device.cluster_fsid(), Some("a7f64266-0894-4f1e-a635-d0aeaca0e993"));
        assert_eq!(device.client_address(), Some("10.0.0.9:0/3461389112".parse().unwrap()));
        assert_eq!(device.path(), fake.root().join("dev/rbd7"));
        assert_eq!(device.to_string(), format!("{} (volumes/team/foo@monday)", device.path().display()));
    }

    #[test]
    fn an_old_kernels_short_description_is_enough() {
        let fake = FakeHost::new();
        for (name, text) in
            [("major", "250"), ("pool", "rbd"), ("name", "foo"), ("current_snap", "-"), ("size", "0")]
        {
            fake.file(&format!("sys/bus/rbd/devices/0/{name}"), &format!("{text}\n"));
        }
        let device = fake.host().device_by_id(0).unwrap();
        assert_eq!(*device.spec(), ImageSpec::new("rbd", "foo"));
        assert_eq!((device.number(), device.cluster_fsid()), ((250, 0), None));
    }

    #[test]
    fn a_number_given_anew_is_not_the_same_device() {
        let fake = FakeHost::new();
        fake.map(0, &ImageSpec::new("rbd", "foo"));
        let device = fake.host().device_by_id(0).unwrap();
        device.check_same().unwrap();
        fake.map(0, &ImageSpec::new("rbd", "bar"));
        let error = device.check_same().unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("another mapping of rbd/bar"), "{error}");
        std::fs::remove_dir_all(fake.host().on_bus(0)).unwrap();
        assert!(device.check_same().unwrap_err().is_not_found());
    }

    #[test]
    fn our_mark_is_found_in_the_kernels_copy_of_the_line() {
        let fake = FakeHost::new();
        fake.map(0, &ImageSpec::new("rbd", "foo"));
        assert_eq!(fake.host().device_by_id(0).unwrap().tag(), None);
        fake.file("sys/bus/rbd/devices/0/config_info", "10.0.0.1:6789 name=a,key=b rbd foo - rbd-rs:00ff\n");
        assert_eq!(fake.host().device_by_id(0).unwrap().tag(), Some("rbd-rs:00ff"));
    }

    #[test]
    fn damaged_attributes_are_errors() {
        let fake = FakeHost::new();
        fake.map(0, &ImageSpec::new("rbd", "foo"));
        fake.file("sys/bus/rbd/devices/0/size", "huge\n");
        let error = fake.host().devices().unwrap_err();
        assert!(error.to_string().contains("'huge' is not a number"), "{error}");
    }
}
