//! Options of a new image, which may be created, cloned, copied or migrated.

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::features::Features;
use crate::names::c_string;
use crate::raw::RawResult;
use crate::raw::ffi::options::{ImageOptions, Opt};

/// The object sizes that RBD supports: 4 KiB to 32 MiB.
const ORDERS: std::ops::RangeInclusive<u32> = 12..=25;

const MOST_OBJECT_SIZE: u64 = 32 << 20;

/// librbd stores this in 8 bits, and the stripe count in 32. It would truncate larger numbers, for
/// example to 0, and divide by that.
const SPLAY_WIDTHS: std::ops::RangeInclusive<u64> = 1..=255;

/// Options of a new image. Options that are not set follow the configuration or the source image.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewImage<'a> {
    pub(crate) features: Option<Features>,
    pub(crate) object_size: Option<u64>,
    pub(crate) striping: Option<(u64, u64)>,
    pub(crate) data_pool: Option<&'a str>,
    pub(crate) journal_object_size: Option<u64>,
    pub(crate) journal_splay_width: Option<u64>,
    pub(crate) journal_pool: Option<&'a str>,
    pub(crate) clone_format: Option<u64>,
    pub(crate) flatten: bool,
}

/// Defines the setters of a builder that has a field `new: NewImage<'a>`.
macro_rules! new_image_setters {
    () => {
        /// Sets the features. [`striping`](Self::striping) and [`data_pool`](Self::data_pool) add
        /// their own features.
        pub fn features(mut self, features: $crate::features::Features) -> Self {
            self.new.features = Some(features);
            self
        }

        /// Sets the size of the image's objects in bytes: a power of two from 4 KiB to 32 MiB.
        pub fn object_size(mut self, bytes: u64) -> Self {
            self.new.object_size = Some(bytes);
            self
        }

        /// Sets the striping: over `count` objects, in units of `unit` bytes. The unit must divide
        /// the object size.
        pub fn striping(mut self, unit: u64, count: u64) -> Self {
            self.new.striping = Some((unit, count));
            self
        }

        /// Sets another pool for the data, such as an erasure-coded pool with overwrites.
        pub fn data_pool(mut self, pool: &'a str) -> Self {
            self.new.data_pool = Some(pool);
            self
        }

        /// Sets the size of the journal's objects in bytes: a power of two from 4 KiB to 64 MiB.
        /// Applies to images with journaling.
        pub fn journal_object_size(mut self, bytes: u64) -> Self {
            self.new.journal_object_size = Some(bytes);
            self
        }

        /// Sets the number of objects that the journal is written to at a time: 1 to 255. Applies
        /// to images with journaling.
        pub fn journal_splay_width(mut self, objects: u64) -> Self {
            self.new.journal_splay_width = Some(objects);
            self
        }

        /// Sets another pool for the journal. Applies to images with journaling.
        pub fn journal_pool(mut self, pool: &'a str) -> Self {
            self.new.journal_pool = Some(pool);
            self
        }
    };
}
pub(crate) use new_image_setters;

/// The largest image size in bytes. Kernels and librbd use signed offsets. librbd 16.2 overflows
/// beyond this size and aborts the process.
pub(crate) const MOST_BYTES: u64 = i64::MAX as u64;

/// Refuses a size that is too large for an image.
pub(crate) fn check_size(operation: &'static str, object: impl FnOnce() -> Object, size: u64) -> Result<()> {
    if size <= MOST_BYTES {
        return Ok(());
    }
    Err(Error::invalid(
        operation,
        object(),
        format!("{size} bytes exceed the largest image size of {MOST_BYTES} bytes"),
    ))
}

impl NewImage<'_> {
    /// Returns the options for librbd. Refuses, before anything is touched, values that librbd
    /// would refuse late or change silently.
    pub(crate) fn options(
        &self,
        operation: &'static str,
        object: impl Fn() -> Object,
    ) -> Result<ImageOptions> {
        self.check().map_err(|why| Error::invalid(operation, object(), why))?;
        let pool = |name: Option<&str>| name.map(|name| c_string(operation, &object, name)).transpose();
        let (data_pool, journal_pool) = (pool(self.data_pool)?, pool(self.journal_pool)?);
        let order = |size: u64| u64::from(size.trailing_zeros());
        let mut options = ImageOptions::new();
        let mut fill = || -> RawResult<()> {
            let (unit, count) = self.striping.unzip();
            for (option, value) in [
                (Opt::Format, Some(2)),
                (Opt::Features, self.features.map(|features| features.bits())),
                (Opt::Order, self.object_size.map(order)),
                (Opt::StripeUnit, unit),
                (Opt::StripeCount, count),
                (Opt::JournalOrder, self.journal_object_size.map(order)),
                (Opt::JournalSplayWidth, self.journal_splay_width),
                (Opt::CloneFormat, self.clone_format),
                (Opt::Flatten, self.flatten.then_some(1)),
            ] {
                if let Some(value) = value {
                    options.set_number(option, value)?;
                }
            }
            for (option, value) in [(Opt::DataPool, &data_pool), (Opt::JournalPool, &journal_pool)] {
                if let Some(value) = value {
                    options.set_text(option, value)?;
                }
            }
            Ok(())
        };
        fill().map_err(|errno| Error::new("set the options of", object(), errno))?;
        Ok(options)
    }

    /// Refuses features without their parameters: a created image has no parent to take them from,
    /// and librbd would drop the features.
    pub(crate) fn check_parameters(&self) -> Result<(), &'static str> {
        let features = self.features.unwrap_or(Features::empty());
        if features.contains(Features::STRIPING) && self.striping.is_none() {
            return Err(
                "the feature striping needs a stripe unit and a stripe count; set them with `striping`",
            );
        }
        if features.contains(Features::DATA_POOL) && self.data_pool.is_none() {
            return Err("the feature data-pool needs a pool; set it with `data_pool`");
        }
        Ok(())
    }

    /// Refuses a stripe unit that does not divide the configured object size.
    pub(crate) fn check_striping(&self, ioctx: &IoCtx) -> Result<(), String> {
        let (Some((unit, _)), None) = (self.striping, self.object_size) else { return Ok(()) };
        let order =
            ioctx.cluster().config().get("rbd_default_order").ok().and_then(|order| order.parse().ok());
        let Some(size) = order.and_then(|order| 1_u64.checked_shl(order)) else { return Ok(()) };
        if unit != 0 && size % unit != 0 {
            return Err(format!(
                "a stripe unit of {unit} bytes does not divide the object size of {size} bytes; set \
                 another unit"
            ));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if let Some(features) = self.features {
            features.may_create().map_err(|conflict| conflict.to_string())?;
        }
        if let Some(size) = self.object_size {
            if !size.is_power_of_two() || !ORDERS.contains(&size.trailing_zeros()) {
                return Err(format!(
                    "an object size of {size} bytes is not a power of two from 4 KiB to 32 MiB"
                ));
            }
        }
        if let Some(size) = self.journal_object_size {
            if !size.is_power_of_two() || !(12..=26).contains(&size.trailing_zeros()) {
                return Err(format!(
                    "a journal object size of {size} bytes is not a power of two from 4 KiB to 64 MiB"
                ));
            }
        }
        if let Some(objects) = self.journal_splay_width.filter(|objects| !SPLAY_WIDTHS.contains(objects)) {
            return Err(format!("a journal is written to 1 to 255 objects at a time, not to {objects}"));
        }
        if let Some((unit, count)) = self.striping {
            if unit == 0 || count == 0 {
                return Err(format!(
                    "the striping over {count} objects in units of {unit} bytes is not possible; neither \
                     may be zero"
                ));
            }
            if unit > MOST_OBJECT_SIZE {
                return Err(format!("a stripe unit of {unit} bytes is larger than any object, 32 MiB"));
            }
            if u32::try_from(count).is_err() {
                return Err(format!(
                    "striping is possible over {} objects at most, not over {count}",
                    u32::MAX
                ));
            }
            if let Some(size) = self.object_size.filter(|size| size % unit != 0) {
                return Err(format!(
                    "a stripe unit of {unit} bytes does not divide the object size of {size} bytes; set \
                     another unit"
                ));
            }
        }
        Ok(())
    }

    /// Finds out what ENOENT means here: the pool, namespace, data pool or journal pool is missing.
    pub(crate) fn explain(&self, ioctx: &IoCtx, error: Error) -> Error {
        if let (Some(Errno::EINVAL), Some(pool)) = (error.errno(), self.data_pool) {
            // librbd has no number for it, but says so.
            if error.log().iter().any(|line| line.contains("missing required overwrite support")) {
                return error.with_kind(ErrorKind::InvalidInput).with_detail(format!(
                    "the data pool '{pool}' is erasure-coded and does not allow overwrites; allow them with \
                     `ceph osd pool set {pool} allow_ec_overwrites true`"
                ));
            }
        }
        if error.errno() != Some(Errno::ENOENT) {
            return error;
        }
        let Some(missing) = self.missing(ioctx) else { return error };
        let what = missing.kind;
        error
            .with_kind(ErrorKind::NotFound { what })
            .with_detail(format!("the {missing} does not exist; create it first"))
    }

    fn missing(&self, ioctx: &IoCtx) -> Option<Object> {
        for (pool, kind) in [(self.data_pool, ObjectKind::DataPool), (self.journal_pool, ObjectKind::Pool)] {
            if let Some(pool) = pool {
                if ioctx.cluster().pools().id(pool).is_err_and(|error| error.is_not_found()) {
                    return Some(Object::new(kind, pool));
                }
            }
        }
        let namespace = ioctx.namespace();
        let gone = !namespace.is_empty() && matches!(ioctx.namespaces().exists(namespace), Ok(false));
        gone.then(|| Object::new(ObjectKind::Namespace, namespace))
    }
}
