//! Mappings that end with a value.

use std::ops::Deref;

use crate::error::Result;
use crate::krbd::device::Device;

/// A mapping that is unmapped when it is dropped: see [`Device::scoped`].
///
/// Dropping blocks as [`Unmap::run`](crate::krbd::Unmap::run) does, and cannot report a failure:
/// call [`unmap`](ScopedDevice::unmap) to get the result. A killed process drops nothing.
#[derive(Debug)]
pub struct ScopedDevice {
    device: Device,
    mapped: bool,
}

impl ScopedDevice {
    pub(crate) fn new(device: Device) -> ScopedDevice {
        ScopedDevice { device, mapped: true }
    }

    /// Unmaps the device now. After a failure, the device is still mapped, and dropping this value
    /// tries again. To leave the device mapped, call [`keep`](ScopedDevice::keep).
    pub fn unmap(&mut self) -> Result<()> {
        if self.mapped {
            self.device.unmap().run()?;
            self.mapped = false;
        }
        Ok(())
    }

    /// Returns the device and leaves it mapped.
    pub fn keep(mut self) -> Device {
        self.mapped = false;
        self.device.clone()
    }
}

impl Deref for ScopedDevice {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl Drop for ScopedDevice {
    fn drop(&mut self) {
        let _ = self.unmap();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::krbd::fixture::FakeHost;
    use crate::spec::ImageSpec;

    fn mapped() -> (FakeHost, Device) {
        let fake = FakeHost::new();
        fake.map(2, &ImageSpec::new("rbd", "foo"));
        fake.file("sys/bus/rbd/remove", "");
        let device = fake.host().device_by_id(2).unwrap();
        (fake, device)
    }

    fn removed(fake: &FakeHost) -> String {
        fs::read_to_string(fake.host().bus().join("remove")).unwrap()
    }

    #[test]
    fn a_device_ends_with_its_scope_only_where_that_was_asked_for() {
        let (fake, device) = mapped();
        drop(device.clone());
        assert_eq!(removed(&fake), "");
        assert_eq!(device.clone().scoped().keep(), device);
        assert_eq!(removed(&fake), "");
        drop(device.scoped());
        assert_eq!(removed(&fake), "2");
    }

    #[test]
    fn an_unmapped_one_is_not_unmapped_again() {
        let (fake, device) = mapped();
        let mut scoped = device.scoped();
        scoped.unmap().unwrap();
        fake.file("sys/bus/rbd/remove", "");
        drop(scoped);
        assert_eq!(removed(&fake), "");
    }
}
