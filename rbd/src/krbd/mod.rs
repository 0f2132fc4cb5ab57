//! Maps images as block devices of this machine, through the kernel's client. It needs neither the
//! `rbd` command nor libudev.
//!
//! ```no_run
//! use rbd::{Cluster, krbd};
//!
//! let pool = Cluster::connect()?.ioctx("rbd")?;
//! let device = krbd::map(&pool, "foo").load_module(true).run()?;
//! println!("{} is {} bytes", device.path().display(), device.size());
//! device.unmap().run()?;
//! # Ok::<(), rbd::Error>(())
//! ```
//!
//! [`map`] checks the image before it calls the kernel: whether the image exists, whether this
//! kernel supports its features, whether it is already mapped. If the kernel lacks features of the
//! image, the call fails with
//! [`ErrorKind::FeaturesUnsupportedByKernel`](crate::ErrorKind::FeaturesUnsupportedByKernel), which
//! contains the plan of features to disable, or the features that cannot be disabled.
//! [`Map::fix_features`] applies the plan. [`create_mappable`] creates an image that this kernel
//! can map.
//!
//! A mapping outlives the process that made it. Dropping a [`Device`] does nothing; dropping a
//! [`ScopedDevice`] unmaps it.
//!
//! Without a connected cluster, [`map_with`] takes monitors, user and key. The kernel gets the key
//! through a key ring (add_key(2)), from which it is removed after mapping.
//!
//! Mapping and unmapping require root (`CAP_SYS_ADMIN`). They block for at most their `timeout`.
//! The timeouts of the connection apply to the checks of the image. In a container, set the host's
//! directories with [`Host`].

mod attach;
mod deadline;
mod device;
mod find;
#[cfg(test)]
mod fixture;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod holders;
mod host;
mod key;
mod kmsg;
mod line;
mod map;
mod monmap;
mod node;
mod option_table;
mod options;
mod preflight;
mod scoped;
mod spec;
mod support;
mod uevent;
mod uevent_socket;
mod unmap;

use std::path::Path;

use crate::error::{Object, ObjectKind, Result};
use crate::features::Plan;
use crate::ioctx::{CreateImage, IoCtx};
use crate::spec::ImageSpec;

pub use device::Device;
pub use host::Host;
pub use key::Credentials;
pub use map::Map;
pub use option_table::{CompressionHint, MsMode, ReadFromReplica};
pub use options::MapOptions;
pub use scoped::ScopedDevice;
pub use support::{KernelFeatures, KernelVersion};
pub use unmap::Unmap;

/// Maps an image of a connected pool: see [`Map`].
pub fn map(ioctx: &IoCtx, image: &str) -> Map {
    Map::live(ioctx, image)
}

/// Maps an image or snapshot without a connected cluster. Does not check the image first, so errors
/// are less precise.
///
/// ```no_run
/// use rbd::ImageSpec;
/// use rbd::krbd::{self, Credentials};
///
/// let secret = std::fs::read_to_string("/etc/ceph/secret")?;
/// let login = Credentials::new(["10.0.0.1:6789", "10.0.0.2:6789"], "admin", secret);
/// let device = krbd::map_with(login, ImageSpec::new("rbd", "foo")).run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn map_with(credentials: Credentials, spec: ImageSpec) -> Map {
    Map::given(credentials, spec)
}

/// Lists all mappings of this machine by number. Returns an empty list if the kernel's module is
/// not loaded.
pub fn devices() -> Result<Vec<Device>> {
    Host::default().devices()
}

/// Returns the mapping behind a device node such as `/dev/rbd0`, a partition's node, or a symbolic
/// link to one.
pub fn device(path: impl AsRef<Path>) -> Result<Device> {
    Host::default().device(path)
}

/// Returns the only mapping of an image or snapshot: see [`Host::device_by_spec`].
pub fn device_by_spec(spec: &ImageSpec) -> Result<Device> {
    Host::default().device_by_spec(spec)
}

/// Returns the mapping with this number: 0 for `/dev/rbd0`.
pub fn device_by_id(id: u32) -> Result<Device> {
    Host::default().device_by_id(id)
}

/// Returns the image features that this machine's kernel can map.
pub fn supported_features() -> Result<KernelFeatures> {
    Host::default().supported_features()
}

/// Loads the kernel's rbd module if needed: see [`Host::load_module`].
pub fn load_module() -> Result<()> {
    Host::default().load_module()
}

/// Returns a builder that creates an image that this machine's kernel can map: with the cluster's
/// default features except those that the kernel lacks.
///
/// ```no_run
/// # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
/// rbd::krbd::create_mappable(&pool, "foo", 1 << 30)?.run()?;
/// # Ok::<(), rbd::Error>(())
/// ```
pub fn create_mappable<'a>(ioctx: &'a IoCtx, name: &'a str, size: u64) -> Result<CreateImage<'a>> {
    let supported = supported_features()?.features();
    let wanted = ioctx.cluster().default_features()?;
    let object = || Object::new(ObjectKind::Image, format!("{}/{name}", ioctx.pool()));
    let plan =
        Plan::supporting(wanted, supported).map_err(|why| preflight::unsupported(object(), Err(why)))?;
    Ok(ioctx.create(name, size).features(plan.after()))
}
