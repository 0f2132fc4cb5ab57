//! Checks before the kernel is called, which change nothing.

use crate::Features;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, Result};
use crate::features::{ImmutableFeatures, Plan};
use crate::holder::Holder;
use crate::image::Image;
use crate::ioctx::IoCtx;
use crate::krbd::host::Host;
use crate::krbd::options::MapOptions;
use crate::spec::ImageSpec;

/// The features that the kernel needs for reading: those that change where data is stored.
const TO_READ: Features = Features::LAYERING.union(Features::STRIPING).union(Features::DATA_POOL);
/// The numbers of ancestors and snapshots of an image that the kernel supports.
const ANCESTORS: usize = 16;
const SNAPSHOTS: usize = 510;
/// The kernel's smallest unit.
const SECTOR: u64 = 512;

/// The image to map, the host, and the way to map it.
pub(crate) struct Preflight<'a> {
    pub(crate) host: &'a Host,
    pub(crate) ioctx: &'a IoCtx,
    pub(crate) spec: &'a ImageSpec,
    pub(crate) options: &'a MapOptions,
}

impl Preflight<'_> {
    /// Opens the image itself, not the snapshot, because the image has the features.
    pub(crate) fn open(&self) -> Result<Image> {
        let image = self.ioctx.open(&self.spec.image).read_only(true).run()?;
        if let Some(snapshot) = &self.spec.snapshot {
            self.ioctx.open(&self.spec.image).read_only(true).snapshot(snapshot).run()?.close()?;
        }
        Ok(image)
    }

    /// Returns the plan of features to disable, which is empty if the kernel can map the image.
    pub(crate) fn plan(&self, image: &Image) -> Result<Result<Plan, ImmutableFeatures>> {
        let supported = self.host.supported_features()?.features();
        let needed = self.needed(image.features()?)?;
        Ok(Plan::supporting(needed, supported))
    }

    fn needed(&self, features: Features) -> Result<Features> {
        let read_only = self.options.is_read_only() || self.spec.snapshot.is_some();
        if read_only && self.host.kernel()?.reads_despite_write_features() {
            return Ok(features & (TO_READ | features.unknown()));
        }
        Ok(features)
    }

    /// Checks the size and layout.
    pub(crate) fn check_layout(&self, image: &Image) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid("map", self.object(), detail));
        let size = image.size()?;
        if size % SECTOR != 0 {
            return refuse(format!(
                "its size of {size} bytes is not a multiple of {SECTOR}, so the kernel would hide \
                 its last {} bytes; resize it",
                size % SECTOR
            ));
        }
        if i64::try_from(size).is_err() {
            return refuse(format!(
                "its size of {size} bytes is more than the kernel can address (2^63 - 1); shrink it"
            ));
        }
        let kernel = self.host.kernel()?;
        if image.features()?.contains(Features::STRIPING) && !kernel.maps_fancy_striping() {
            let (unit, count, object) =
                (image.stripe_unit()?, image.stripe_count()?, image.stat()?.object_size);
            if count != 1 || unit != object {
                return refuse(format!(
                    "its data is striped over {count} objects in units of {unit} bytes, which \
                     kernels map since 4.17 and this one ({kernel}) does not; copy the data into \
                     an image without striping"
                ));
            }
        }
        Ok(())
    }

    /// Checks the ancestors and snapshots. The kernel reads the ancestors, so it must support their
    /// layout, and it limits their number and that of snapshots.
    pub(crate) fn check_family(&self, image: &Image) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid("map", self.object(), detail));
        let snapshots = image.snapshots().list()?.len();
        if snapshots > SNAPSHOTS {
            return refuse(format!(
                "it has {snapshots} snapshots, and the kernel supports {SNAPSHOTS}; remove some"
            ));
        }
        let supported = self.host.supported_features()?.features();
        let mut next = image.parent()?;
        for _ in 0..ANCESTORS {
            let Some(parent) = next else { return Ok(()) };
            let pool = self.ioctx.cluster().ioctx_by_id(parent.image.pool_id)?;
            let pool = pool.with_namespace(&parent.image.namespace)?;
            let ancestor = if parent.image.in_trash {
                pool.open_by_id(&parent.image.id).read_only(true).run()?
            } else {
                pool.open(&parent.image.name).read_only(true).run()?
            };
            let features = ancestor.features()?;
            let unknown = (features & (TO_READ | features.unknown())) - supported;
            if !unknown.is_empty() {
                let disable = Features::empty();
                let error =
                    unsupported(self.object(), Err(ImmutableFeatures { immutable: unknown, disable }));
                return Err(error.with_detail(format!(
                    "this kernel cannot read its ancestor {}, which has the features {unknown}; \
                     flatten the image",
                    parent.image
                )));
            }
            next = ancestor.parent()?;
        }
        match next {
            None => Ok(()),
            Some(_) => refuse(format!(
                "it has more than {ANCESTORS} ancestors, which the kernel refuses; flatten it"
            )),
        }
    }

    /// Refuses an image that is already mapped here. The kernel would map it again under another
    /// number.
    pub(crate) fn check_not_mapped(&self) -> Result<()> {
        let fsid = self.ioctx.cluster().fsid()?;
        let devices = self.host.devices_of(self.spec)?;
        let same = |other: &str| other.eq_ignore_ascii_case(&fsid);
        match devices.iter().find(|device| device.cluster_fsid().is_none_or(same)) {
            None => Ok(()),
            Some(device) => Err(Error::new("map", self.object(), Errno::EEXIST)
                .with_kind(ErrorKind::AlreadyExists)
                .with_detail(format!(
                    "it is already mapped here as {}; use that, or allow a second one with \
                     Map::allow_second_device",
                    device.path().display()
                ))),
        }
    }

    /// Refuses an exclusive mapping if another client uses the image, so that the two do not fight
    /// for the lock.
    pub(crate) fn check_exclusive(&self, image: &Image) -> Result<()> {
        if !self.options.is_exclusive() {
            return Ok(());
        }
        let holders = holders(image);
        if holders.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
        Err(Error::new("map", self.object(), Errno::EBUSY)
            .with_kind(ErrorKind::Busy { holders })
            .with_detail(format!(
                "it cannot be mapped exclusively, because it is open or mapped elsewhere: {}; end \
                 that use; a crashed client counts as a user for 30 s",
                names.join("; ")
            )))
    }

    pub(crate) fn object(&self) -> Object {
        self.spec.object()
    }
}

/// Returns the other clients that have the image mapped or open for writing, and the owner of its
/// exclusive lock.
pub(crate) fn holders(image: &Image) -> Vec<Holder> {
    let watchers = image.other_watchers().unwrap_or_default();
    // A running owner is also a watcher.
    let watches = |owner: &Holder| match owner {
        Holder::LockOwner { address, .. } => watchers.iter().any(|watcher| watcher.address == *address),
        _ => false,
    };
    let owner = image.lock_holder().ok().flatten().filter(|owner| !watches(owner));
    watchers.into_iter().map(Holder::Watcher).chain(owner).collect()
}

/// Returns the error with the plan to apply first, or with the reason why there is none.
pub(crate) fn unsupported(object: Object, plan: Result<Plan, ImmutableFeatures>) -> Error {
    let error = Error::new("map", object, Errno::ENXIO);
    let error = match &plan {
        Ok(plan) => error.with_detail(format!(
            "this kernel does not support its features {}; {}, or map it with fix_features",
            plan.disabled(),
            plan.in_order()
        )),
        Err(immutable) => error.with_detail(format!("this kernel cannot map it: {immutable}")),
    };
    error.with_kind(ErrorKind::FeaturesUnsupportedByKernel { plan })
}
