//! Look-ups of mappings.

use std::fs;
use std::io;
use std::path::Path;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::krbd::device::Device;
use crate::krbd::host::{Host, failed};
use crate::krbd::node;
use crate::spec::ImageSpec;

impl Host {
    /// Lists all mappings by number. Returns an empty list if the module is not loaded.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let dir = self.bus().join("devices");
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &dir, &error)),
        };
        let mut devices = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &dir, &error))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match Device::read(self, id) {
                Ok(device) => devices.push(device),
                // The device was unmapped meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        devices.sort_by_key(Device::id);
        Ok(devices)
    }

    /// Returns the mapping with this number.
    pub fn device_by_id(&self, id: u32) -> Result<Device> {
        Device::read(self, id)
    }

    /// Lists all mappings of an image or snapshot, of any cluster.
    ///
    /// Compares names, and a mapping keeps the names of the time when it was made. So it can belong
    /// to an image that was renamed or removed since, while another image has the name now. Compare
    /// [`Device::image_id`](crate::krbd::Device::image_id) with
    /// [`Image::id`](crate::Image::id), and
    /// [`Device::cluster_fsid`](crate::krbd::Device::cluster_fsid) with
    /// [`Cluster::fsid`](crate::Cluster::fsid).
    pub fn devices_of(&self, spec: &ImageSpec) -> Result<Vec<Device>> {
        let mut devices = self.devices()?;
        devices.retain(|device| device.spec() == spec);
        Ok(devices)
    }

    /// Returns the only mapping of an image or snapshot. If there are several, fails and names
    /// them. It can be the mapping of an older image of this name: see
    /// [`devices_of`](Self::devices_of).
    pub fn device_by_spec(&self, spec: &ImageSpec) -> Result<Device> {
        let mut devices = self.devices_of(spec)?;
        match (devices.pop(), devices.len()) {
            (Some(device), 0) => Ok(device),
            (Some(last), _) => {
                devices.push(last);
                let names: Vec<String> = devices
                    .iter()
                    .map(|device| match device.cluster_fsid() {
                        Some(fsid) => format!("{} (cluster {fsid})", device.path().display()),
                        None => device.path().display().to_string(),
                    })
                    .collect();
                Err(Error::new("choose a device of", spec.object(), Errno::EINVAL)
                    .with_kind(ErrorKind::InvalidInput)
                    .with_detail(format!(
                        "it is mapped {} times: {}; name the device",
                        names.len(),
                        names.join(", ")
                    )))
            }
            (None, _) => Err(Error::new("find a device of", spec.object(), Errno::ENOENT)
                .with_kind(ErrorKind::NotFound { what: ObjectKind::Device })
                .with_detail("it is not mapped on this machine; krbd::devices() lists all mappings")),
        }
    }

    /// Returns the mapping behind a device node of the disk or of a partition. Follows symbolic
    /// links.
    pub fn device(&self, path: impl AsRef<Path>) -> Result<Device> {
        let (major, minor) = node::block_number(path.as_ref())?;
        let id =
            node::disk_of(self, major, minor).ok_or_else(|| node::not_ours(path.as_ref(), major, minor))?;
        Device::read(self, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krbd::fixture::FakeHost;

    #[test]
    fn a_hundred_devices_come_by_number() {
        let fake = FakeHost::new();
        assert_eq!(fake.host().devices().unwrap(), []);
        for id in (0..100).rev() {
            fake.map(id, &ImageSpec::new("rbd", format!("image-{id}")));
        }
        let ids: Vec<u32> = fake.host().devices().unwrap().iter().map(Device::id).collect();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn without_the_module_nothing_is_mapped() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Host::at(root.path()).devices().unwrap(), []);
    }

    #[test]
    fn an_ambiguous_name_is_an_error_that_names_all() {
        let fake = FakeHost::new();
        let spec = ImageSpec::new("rbd", "foo");
        assert!(fake.host().device_by_spec(&spec).unwrap_err().is_not_found());
        fake.map(0, &spec);
        fake.map(1, &spec.clone().namespace("other"));
        assert_eq!(fake.host().device_by_spec(&spec).unwrap().id(), 0);
        fake.map(2, &spec);
        let error = fake.host().device_by_spec(&spec).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains("mapped 2 times") && text.contains("dev/rbd0") && text.contains("dev/rbd2"),
            "{text}"
        );
    }
}
