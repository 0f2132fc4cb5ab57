//! Maps images as block devices of this machine, through the kernel's own client: no `rbd` binary,
//! no udev library.
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
//! Before the kernel is asked the image is looked at: whether it exists, whether this kernel
//! supports its features, whether it is mapped already. An image with features that the kernel
//! lacks is refused with
//! [`ErrorKind::FeaturesUnsupportedByKernel`](crate::ErrorKind::FeaturesUnsupportedByKernel), which
//! holds the plan: what to disable, in which order, or what stands in the way.
//! [`Map::fix_features`] carries it out. [`create_mappable`] makes an image that this kernel maps.
//!
//! A mapping outlives the process that made it, and a [`Device`] undoes nothing when it is dropped;
//! a [`ScopedDevice`] does.
//!
//! Where no cluster is connected, on a node that is only told what to map, [`map_with`] takes
//! monitors, user and key. The key is handed to the kernel by its key rings (add_key(2)) and is
//! gone from there when the mapping is made.
//!
//! Mapping and unmapping take root (`CAP_SYS_ADMIN`). They block, within the time set by their
//! `timeout`; the looks at the image before that within the timeouts of the connection. In a
//! container name the host's directories by [`Host`].

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

/// Maps an image or snapshot where no cluster is connected. There is no look at the image
/// beforehand, and refusals are explained less well.
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

/// All mappings of this machine, by number; none where the kernel's module is not loaded.
pub fn devices() -> Result<Vec<Device>> {
    Host::default().devices()
}

/// The mapping behind a device node such as `/dev/rbd0`, or a partition's, or a symbolic link to
/// one.
pub fn device(path: impl AsRef<Path>) -> Result<Device> {
    Host::default().device(path)
}

/// The one mapping of an image or snapshot; more than one is an error that names them all.
pub fn device_by_spec(spec: &ImageSpec) -> Result<Device> {
    Host::default().device_by_spec(spec)
}

/// The mapping of this number: 0 for `/dev/rbd0`.
pub fn device_by_id(id: u32) -> Result<Device> {
    Host::default().device_by_id(id)
}

/// Which image features this machine's kernel can map.
pub fn supported_features() -> Result<KernelFeatures> {
    Host::default().supported_features()
}

/// Loads the kernel's rbd module, unless it is loaded: see [`Host::load_module`].
pub fn load_module() -> Result<()> {
    Host::default().load_module()
}

/// Creates an image that this machine's kernel can map: with the cluster's default features, less
/// those that the kernel lacks. It is made by `run()` of what this returns.
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
    Ok(ioctx.create(name, size).features(plan.result()))
}
